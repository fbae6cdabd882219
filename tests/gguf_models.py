"""Tiny models as GGUF files, written as llama.cpp's converter does, and a package that carries one."""

import hashlib
import zipfile
from functools import cache

import gguf
import torch
from helpers import tiny_model
from tokenizers.pre_tokenizers import ByteLevel

from sdtp_lib.models.gguf_files import KNOWN_TEXT
from sdtp_lib.models.gguf_tokenizer import tokenizer_of
from sdtp_lib.models.identity import fingerprint
from sdtp_lib.models.packages import Package

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "Ġ th", "i n", "a n", "an d", "Ġ and", "Ġ o", "Ġo f"]
TOKENS = [*SPECIAL, *sorted(ByteLevel.alphabet()), *(pair.replace(" ", "") for pair in MERGES)]
CUTS = {"llama": "smollm", "qwen2": "qwen2", "qwen3": "qwen2"}
SIZES = {"qwen3": {"head_dim": 128}}  # that of all there are, and not in what transformers reads
VOCABULARY = {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": TOKENS, "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)),
    "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.padding_token_id": 0,
    "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": "{{ messages[0]['content'] }}",
}  # fmt: skip
SAMPLE = "tiny_model/tiny.gguf"  # in its wheel


@cache
def sensible_model(family="llama", layers=6):
    """A random model whose head was fitted to the known text."""
    model = tiny_model(family, None, layers, vocab_size=len(TOKENS), initializer_range=0.1, **SIZES.get(family, {}))
    ids = tokenizer_of({**VOCABULARY, "tokenizer.ggml.pre": CUTS[family]})(KNOWN_TEXT, return_tensors="pt").input_ids
    states, head = model.model(ids).last_hidden_state[0, :-1], model.lm_head.weight.requires_grad_()
    optimizer = torch.optim.Adam([head], lr=0.1)
    for _ in range(60):
        torch.nn.functional.cross_entropy(states @ head.T, ids[0, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.requires_grad_(False)


def write_gguf(path, model, without=(), **changes):
    """Write a model of one of the families that are read.

    Args:
        without: tensors to leave out.
        changes: fields of other values, with _ for the dots; None leaves one out.
    """
    config, family = model.config, model.config.model_type
    sizes = {
        "context_length": config.max_position_embeddings, "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
        "vocab_size": config.vocab_size, "rope.dimension_count": config.hidden_size // config.num_attention_heads,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }  # fmt: skip
    fields = {"general.architecture": family, **{f"{family}.{name}": value for name, value in sizes.items()}}
    fields |= {**VOCABULARY, "tokenizer.ggml.pre": CUTS[family], **changes}
    writer = gguf.GGUFWriter(path, fields.pop("general.architecture"))
    for name, value in fields.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        elif value is not None:
            kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
            kinds[type(value)](name, value)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, family.upper()), config.num_hidden_layers)
    for name, weights in model.state_dict().items():
        if family == "llama" and ".q_proj" in name or family == "llama" and ".k_proj" in name:
            heads = config.num_attention_heads if ".q_proj" in name else config.num_key_value_heads
            weights = weights.view(heads, 2, -1, weights.shape[1]).transpose(1, 2).reshape(weights.shape)
        if (called := names.get_name(name, (".weight", ".bias"))) not in without:
            writer.add_tensor(called, weights.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_wheel(folder, content, file=SAMPLE):
    """A wheel with a model in it, whose code would leave a mark if it ever ran."""
    folder.mkdir(exist_ok=True)
    name, mark = "tiny_model-1.0", folder / "was-run"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(file, content)
        wheel.writestr("tiny_model/__init__.py", f"open({str(mark)!r}, 'w')")
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    return mark


def package_of(content, model, **changes):
    """The entry of a table for such a wheel."""
    known = dict(
        requirement="tiny-model==1.0", file=SAMPLE, sha256=hashlib.sha256(content).hexdigest(),
        fingerprint=fingerprint(model), model="own/tiny", quantised="F32", licence="MIT", wheel_bytes=10**5,
        folder_bytes=10**5,
    )  # fmt: skip
    return Package(**{**known, **changes})
