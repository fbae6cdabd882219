"""The tokenizer inside a GGUF file, built as its model's own is.

transformers' converter is not used: for Llama models it takes another class (of Code Llama), which puts a token before
every text, swaps the tokens that begin and end one, and adds tokens that the model does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

CONTROL, USER_DEFINED = 3, 4  # kinds of tokens that are never put together from smaller ones
NAMED = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# How a text is cut before its pieces are merged -> that cut, as llama.cpp and the models' own tokenizers make it.
CUTS = {
    "smollm": lambda: [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "qwen2": lambda: _cut_by(WORDS.replace("{1,DIGITS}", "")),
}


def tokenizer_of(fields: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """A tokenizer with its special tokens and chat template.

    Args:
        fields: a GGUF file's, `tokenizer.` and the rest of the name -> value.

    Raises:
        ValueError: for a kind of tokenizer that is not known here, or one that lacks a part.
    """
    kind, cut = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in CUTS:
        raise ValueError(f"its tokenizer ({kind}, {cut}) is not known here; known: {', '.join(CUTS)} of gpt2's kind")
    parts = [fields.get(f"tokenizer.ggml.{name}") for name in ("tokens", "merges", "token_type")]
    if not all(parts):
        raise ValueError("its tokenizer lacks tokens, their types or merges")
    tokens, merges, types = parts
    merged = [tuple(pair.split(" ")) for pair in merges]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merged))
    tokenizer.normalizer = normalizers.NFC() if cut == "qwen2" else None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(CUTS[cut]())
    tokenizer.decoder = decoders.ByteLevel()
    whole = [(token, kind) for token, kind in zip(tokens, types, strict=True) if kind in (CONTROL, USER_DEFINED)]
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=kind == CONTROL) for token, kind in whole])
    ids = {name: fields.get(f"tokenizer.ggml.{key}_token_id") for key, name in NAMED.items()}
    named = {name: tokens[number] for name, number in ids.items() if number is not None}
    if fields.get("tokenizer.ggml.add_bos_token", False):
        first = named["bos_token"]
        tokenizer.post_processor = TemplateProcessing(f"{first} $A", special_tokens=[(first, ids["bos_token"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=fields.get("tokenizer.chat_template"), **named
    )


def _cut_by(pattern: str) -> list[pre_tokenizers.PreTokenizer]:
    return [
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
