"""Decode attention that reads the KV cache once per group of query heads, not once per head.

PyTorch's CPU kernel goes through a layer's keys and values for every query head, also where several heads share them
(grouped-query attention). One new token's query heads of a group can stand in for query tokens of one head: the same
products, read once. For the full and the pruned model alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..pruning.attention_masks import GROUPED
from ..pruning.families import ModelAdapter


@contextmanager
def grouped_decode(model: nn.Module) -> Iterator[None]:
    """Run decode steps with `grouped_attention`; a prefill and all else stay with sdpa.

    Equal to sdpa up to rounding. Goes with `TokenPruning` in either order. It pays on a CPU, above all in bfloat16 and
    with a long cache; GPU kernels group the heads by themselves.

    Args:
        model: a `transformers` causal language model of a supported family (or its decoder) that runs sdpa.

    Raises:
        ValueError: if it runs another attention function, or its family is not supported.
    """
    adapter = ModelAdapter.of(model)
    config, before = adapter.decoder.config, adapter.implementation
    if before != "sdpa":
        raise ValueError(f"grouped_decode works on sdpa attention, this model runs {before!r}")
    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, sdpa_mask)
    config._attn_implementation = GROUPED
    try:
        yield
    finally:
        config._attn_implementation = before


def grouped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float = 0.0,
    scaling: float | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What `transformers` calls in a layer: query (batch, heads, tokens, head_dim), key, value (batch, KV heads, ...).

    Returns:
        (batch, tokens, heads, head_dim), and None for the weights.
    """
    batch, heads, tokens, width = query.shape
    groups = key.shape[1]
    if tokens > 1 or heads == groups:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    query = query.reshape(batch, groups, heads // groups, width)
    out = scaled_dot_product_attention(query, key, value, attention_mask, dropout, scale=scaling)
    return out.reshape(batch, 1, heads, width), None
