"""Architectures with random weights: latency, memory and FLOPs do not depend on the weights."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, MistralConfig, PreTrainedModel

SHAPES = {
    "scaled-mistral": dict(
        hidden_size=512, intermediate_size=1792, num_hidden_layers=32, num_attention_heads=8, num_key_value_heads=2,
        vocab_size=32000, rope_theta=1e6, sliding_window=None, max_position_embeddings=131072,
    ),
    "mistral-7b": dict(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=32000, rope_theta=1e6, sliding_window=None, max_position_embeddings=131072,
    ),
}  # fmt: skip


def shape_config(name: str = "mistral-7b") -> MistralConfig:
    """The config of a shape."""
    return MistralConfig(**SHAPES[name])


def random_model(name: str, dtype: torch.dtype, device: torch.device, seed: int) -> PreTrainedModel:
    """A shape with seeded random weights, made on the device and in the dtype they are used in."""
    config = shape_config(name)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
