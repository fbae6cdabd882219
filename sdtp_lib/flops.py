"""Analytic FLOPs and KV-cache bytes of a decoder, full or pruned (the FLOPs columns of Table 2).

Counted are the matrix products, a multiply-add as 2: projections (grouped-query aware), attention, gated MLP, the
pruner's MLPs and the language-model head. Embedding look-ups, norms, softmax and rotary embeddings are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from transformers import PretrainedConfig

from .schedule import PruningSchedule

GATED_FAMILIES = ("llama", "mistral", "qwen2")  # dense decoders with a gated MLP of three matrices
PAPER_PER_TOKEN, PAPER_PER_PAIR = 16.092e9, 393_209  # fitted to Table 2's full column


def prefill_flops(
    config: PretrainedConfig,
    lengths: Sequence[int],
    causal: bool = True,
    head_positions: int = 1,
    scored: Sequence[int] = (),
) -> int:
    """FLOPs of one prompt's prefill.

    Args:
        config: of a Llama, Mistral or Qwen2 model.
        lengths: tokens present at each layer, as `PruningSchedule.lengths` gives them.
        causal: count only the query-key pairs that a causal kernel computes, n (n + 1) / 2, or all n^2 of a dense one.
            A sliding window bounds the causal pairs by index, exact for a layer that holds every token.
        head_positions: tokens for which logits are computed.
        scored: layers at whose input the pruner scores the tokens of the layer below.

    Raises:
        ValueError: for another model family, or `lengths` that do not fit the model.
    """
    windows = _check(config, lengths)
    attended = sum(_pairs(n, window) if causal else n * n for n, window in zip(lengths, windows, strict=True))
    below = dict(enumerate(lengths[:-1], start=1))
    pruner = _pruner_per_token(config) * sum(below[layer] for layer in scored)
    return (
        _linear_per_token(config) * sum(lengths)
        + _attention_per_pair(config) * attended
        + _head_per_token(config) * head_positions
        + pruner
    )


def decode_flops(config: PretrainedConfig, kv_lengths: Sequence[int], new_tokens: int) -> int:
    """FLOPs of decoding `new_tokens` tokens after a prefill that left `kv_lengths` keys per layer.

    The first comes from the prefill's logits, so `new_tokens - 1` steps run; each attends its own key as well.

    Raises:
        ValueError: for another model family, `kv_lengths` that do not fit the model, or `new_tokens` below 1.
    """
    windows = _check(config, kv_lengths)
    if new_tokens < 1:
        raise ValueError(f"new_tokens must be 1 or more, got {new_tokens}")
    steps = new_tokens - 1
    per_step = _linear_per_token(config) * config.num_hidden_layers + _head_per_token(config)
    attended = sum(_pairs(n + steps, window) - _pairs(n, window) for n, window in zip(kv_lengths, windows, strict=True))
    return per_step * steps + _attention_per_pair(config) * attended


def schedule_flops(
    config: PretrainedConfig, schedule: PruningSchedule, tokens: int, new_tokens: int = 1, causal: bool = True
) -> int:
    """FLOPs of a prompt of `tokens` tokens and of `new_tokens` generated ones (1: the prefill alone).

    Raises:
        ValueError: as `prefill_flops` and `decode_flops`, or for a stage beyond the model.
    """
    lengths = schedule.lengths(tokens, config.num_hidden_layers)
    prefill = prefill_flops(config, lengths, causal=causal, scored=schedule.layers)
    return prefill + decode_flops(config, lengths, new_tokens)


def kv_bytes(config: PretrainedConfig, lengths: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of the keys and values of `lengths` tokens per layer, batch 1.

    Raises:
        ValueError: as `prefill_flops`.
    """
    _check(config, lengths)
    return 2 * config.num_key_value_heads * _head_dim(config) * dtype.itemsize * sum(lengths)


def paper_flops(tokens: int, new_tokens: int = 0) -> float:
    """FLOPs as the paper's Table 2 counts them for the full Mistral-7B: 16.092 GFLOP a token + 393,209 a token pair.

    A multi-head model with its embedding counted, so about 15% above `prefill_flops`: compare ratios, not these.
    """
    return PAPER_PER_TOKEN * (tokens + new_tokens) + PAPER_PER_PAIR * tokens * (tokens + new_tokens)


def _check(config: PretrainedConfig, lengths: Sequence[int]) -> list[int | None]:
    """Refuse what cannot be counted; returns the sliding window of each layer, None for all."""
    if config.model_type not in GATED_FAMILIES:
        raise ValueError(f"cannot count model family {config.model_type!r}; known: {', '.join(GATED_FAMILIES)}")
    layers = config.num_hidden_layers
    if len(lengths) != layers:
        raise ValueError(f"{len(lengths)} lengths for a model of {layers} layers")
    if min(lengths) < 1 or any(below < above for below, above in pairwise(lengths)):
        raise ValueError(f"lengths must be 1 or more and never grow with depth, got {list(lengths)}")
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * layers
    return [window if kind == "sliding_attention" else None for kind in types]


def _pairs(tokens: int, window: int | None) -> int:
    """Query-key pairs of causal attention over `tokens` tokens."""
    full = min(tokens, window or tokens)
    return full * (full + 1) // 2 + (tokens - full) * full


def _head_dim(config: PretrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _linear_per_token(config: PretrainedConfig) -> int:
    """Projections and MLP of one layer."""
    heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads  # query and output, key and value
    return 2 * config.hidden_size * (heads * _head_dim(config) + 3 * config.intermediate_size)


def _attention_per_pair(config: PretrainedConfig) -> int:
    """Score and weighted value of one query and key, all heads of one layer."""
    return 4 * config.num_attention_heads * _head_dim(config)


def _head_per_token(config: PretrainedConfig) -> int:
    return 2 * config.hidden_size * config.vocab_size


def _pruner_per_token(config: PretrainedConfig) -> int:
    """One stage's MLP (Eq. 1): hidden -> hidden / 4 -> 1."""
    inner = max(1, config.hidden_size // 4)
    return 2 * inner * (config.hidden_size + 1)
