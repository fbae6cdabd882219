"""A tiny random model with a tokenizer of the demo's corpus, and a few short LongBench-mini records for it."""

import json
from functools import cache

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from sdtp_lib.data.demo.corpus import TASKS, longbench_mini
from sdtp_lib.training.demo_model import build_tokenizer

LAYERS = 6


@cache
def small_tokenizer():
    """Trained on 200 documents."""
    return build_tokenizer(documents=200)


def small_model(**options):
    """Qwen2 of six layers, float32."""
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None, **options,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval().requires_grad_(False)


def small_records(each=2):
    """`each` of every dataset."""
    return [record for name in TASKS for record in longbench_mini(name, each, seed=7, tokens=(60, 140))]


def write_records(folder):
    """`small_records` as files, one for each dataset; returns them."""
    folder.mkdir()
    records = small_records()
    for name in {record["dataset"] for record in records}:
        rows = [json.dumps(record) + "\n" for record in records if record["dataset"] == name]
        (folder / f"{name}.jsonl").write_text("".join(rows))
    return records
