"""What lies in a model's folder, told before its weights are read: which model to build, or in one line why none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    Mxfp4Config,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from ..pruning.families import FAMILIES

GGUF_SUFFIX = ".gguf"
INDEX_FILE, WEIGHTS_FILE = "model.safetensors.index.json", "model.safetensors"
VOCABULARIES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
# File that gives a folder away -> what it is, and what to do.
OTHERS = {
    "adapter_config.json": "holds a PEFT adapter, not a model; merge it into its base model (peft's merge_and_unload), "
    "save that, and give its folder",
    "modules.json": "holds a sentence-transformers model, which generates no text; give a causal language model",
}
# Text models inside larger ones: the larger one's names of weights -> the text model's own.
TEXT_NAMES = {
    r"^(model\.)?(language_model|text_model)\.(model\.)?(?!lm_head)": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
}


@dataclass(frozen=True)
class Build:
    """What `from_pretrained` is told about a model besides where it is.

    Attributes:
        config: of the causal language model; of one that reads images too, its text model's.
        options: further ones.
    """

    config: PreTrainedConfig
    options: Mapping[str, Any] = field(default_factory=dict)


def check_folder(folder: Path) -> None:
    """Refuse what is no folder of a causal language model in safetensors.

    Raises:
        FileNotFoundError: if it, its configuration or its weights are missing.
        ValueError: for a file, or a folder of something else; the message names it.
    """
    if folder.is_file():
        raise ValueError(
            f"model {folder} is a file; give the folder that holds config.json and the weights, or a file {GGUF_SUFFIX}"
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"model folder {folder} does not exist")
    for name, what in OTHERS.items():
        if (folder / name).is_file():
            raise ValueError(f"model folder {folder} {what}")
    names, gguf = {path.name for path in folder.iterdir()}, sorted(folder.glob(f"*{GGUF_SUFFIX}"))
    if gguf and not any(folder.glob("*.safetensors")):
        raise ValueError(f"model folder {folder} is in GGUF; name the file: {gguf[0]}")
    if "config.json" not in names:
        raise FileNotFoundError(f"model folder {folder} has no config.json")
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    if not weights:
        raise FileNotFoundError(f"model folder {folder} has no safetensors weights; pickled weights are never loaded")
    if INDEX_FILE in names:
        needed = {*weights_index(folder).values()}
    elif WEIGHTS_FILE in names:
        needed = set()
    else:
        raise FileNotFoundError(
            f"model folder {folder} has no {WEIGHTS_FILE}, nor an index of several files; {weights[0]} is not read"
        )
    if missing := sorted(needed - names):
        raise FileNotFoundError(f"model folder {folder} has no {missing[0]}, which {INDEX_FILE} names")


def is_gguf(path: Path) -> bool:
    """Whether it is a file that has the name of a GGUF file."""
    return path.suffix == GGUF_SUFFIX and path.is_file()


def weights_index(folder: Path) -> dict[str, str]:
    """Tensor -> file of weights, of a folder that has several.

    Raises:
        ValueError: if the index is damaged.
    """
    path = folder / INDEX_FILE
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        return {str(tensor): str(file) for tensor, file in places.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from None


def build_of(source: str | os.PathLike, **where) -> Build:
    """Which model a folder or a Hub name is, from its configuration.

    Args:
        where: `revision`, `local_files_only`.

    Raises:
        ValueError: for a family that is not supported, quantised weights, or a configuration that is damaged.
        OSError: if there is none.
    """
    raw = _config(source, lambda: PreTrainedConfig.get_config_dict(source, **where)[0])
    if not isinstance(raw, dict):
        raise ValueError(f"config.json of model {source} cannot be used: it is no object")
    kind = raw.get("model_type")
    options: dict[str, Any] = {}
    if stored := raw.get("quantization_config") or (raw.get("text_config") or {}).get("quantization_config"):
        method = stored.get("quant_method", "an unknown method")
        if method != "mxfp4":
            raise ValueError(
                f"weights of model {source} are quantised ({method}); give the model in bfloat16, float16 or float32"
            )
        options["quantization_config"] = Mxfp4Config(dequantize=True)
    config = None
    if kind in FAMILIES or "text_config" in raw:
        config = _config(source, lambda: AutoConfig.from_pretrained(source, trust_remote_code=False, **where))
    if kind not in FAMILIES:
        text = config and config.get_text_config(decoder=True)
        if text is None or text.model_type not in FAMILIES:
            inside = f" (its text model: {text.model_type!r})" if text else ""
            known = ", ".join(FAMILIES)
            raise ValueError(f"model family {kind!r}{inside} of {source} is not supported; supported: {known}")
        text.tie_word_embeddings = getattr(config, "tie_word_embeddings", text.tie_word_embeddings)
        config = text
        options["key_mapping"] = TEXT_NAMES
    options["attn_implementation"] = attention_for(config)
    return Build(config, options)


def attention_for(config: PreTrainedConfig) -> str:
    """sdpa where the model's class knows it, else eager.

    sdpa leaves out Gemma 2's cap on attention logits, without a word in older versions of transformers.
    """
    known = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]._supports_sdpa
    return "sdpa" if known and getattr(config, "attn_logit_softcapping", None) is None else "eager"


def position_limit(config: PreTrainedConfig) -> int | None:
    """How many positions a model has; None if it has no limit (ALiBi)."""
    return getattr(config, "max_position_embeddings", None)


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder holds files of a tokenizer."""
    return any((folder / name).is_file() for name in VOCABULARIES) or any(folder.glob("*.tiktoken"))


def tokenizer_of(source: str | os.PathLike, vocabulary: int, **where) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or Hub name, padding on the left.

    Without a token for pads it takes another special one; without any, `evaluation.answers.pad_token` finds one.

    Args:
        vocabulary: how many tokens the model knows.

    Raises:
        ValueError: if it does not load, has no vocabulary, or has more tokens than the model.
        OSError: if there is none.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **where)
    except OSError:
        raise
    except Exception as error:  # a file from anywhere brings about anything; missing libraries, ImportError
        remedy = "save it as tokenizer.json where it loads (tokenizer.save_pretrained)"
        raise ValueError(f"the tokenizer of model {source} does not load: {first_line(error)}; {remedy}") from None
    return fit_tokenizer(tokenizer, source, vocabulary)


def fit_tokenizer(
    tokenizer: PreTrainedTokenizerBase, source: str | os.PathLike, vocabulary: int
) -> PreTrainedTokenizerBase:
    """The same tokenizer, which pads on the left, by a token that the model knows; ValueError as `tokenizer_of`."""
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_ids)):  # made up by transformers for want of files
        raise ValueError(f"the tokenizer of model {source} has no vocabulary; its tokenizer.json is missing")
    if tokenizer.vocab_size > vocabulary:
        raise ValueError(
            f"the tokenizer of model {source} has {tokenizer.vocab_size} tokens, the model {vocabulary}: not its own"
        )
    known = ("pad_token", "eos_token", "unk_token", "bos_token")
    fit = (getattr(tokenizer, name) for name in known if (getattr(tokenizer, f"{name}_id") or 0) < vocabulary)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = next((token for token in fit if token is not None), None)
    return tokenizer


def _config(source: str | os.PathLike, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except OSError:
        raise
    except Exception as error:  # transformers lets through whatever a wrong value brings about
        raise ValueError(f"config.json of model {source} cannot be used: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """The first line of an error's message that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else repr(error)
