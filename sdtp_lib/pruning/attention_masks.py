"""Which keys a query sees when a layer holds only some of the prompt's tokens, and the form attention wants it in.

Columns are token places counted from the start of the conversation, pads included; ABSENT marks a place in a tensor
that holds no token (a pad, or the filler of a row that kept fewer). A kept token keeps its column, so causality and
sliding windows are comparisons of columns, however few tokens are left between two of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

ABSENT = -1
GROUPED = "sdpa_grouped_decode"  # see latency.grouped_decode
SDPA = ("sdpa", GROUPED)
IMPLEMENTATIONS = ("sdpa", "eager", "flex_attention", "flash_attention_2")


def visible_keys(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """True where a query may attend a key.

    Args:
        queries: columns, or ABSENT; keys: likewise. Of shapes that broadcast against each other.
        window: how many columns a query looks back, itself included; None for all.

    Returns:
        bool, of the broadcast shape. Absent queries see absent keys, so that no row of the softmax is empty.
    """
    visible = (keys <= queries) & (keys != ABSENT)  # comparisons: a difference would take eight times the memory
    if window is not None:
        visible = visible & (keys > queries - window)
    return visible | (keys == queries)


def attention_mask(
    queries: Tensor, keys: Tensor, window: int | None, implementation: str, dtype: torch.dtype
) -> Tensor | BlockMask:
    """Which of `keys` (batch, keys) each of `queries` (batch, queries) sees, as the attention function takes it.

    Returns:
        (batch, 1, queries, keys) bool for sdpa; the same of 0 and the lowest number, in `dtype`, for eager; a BlockMask
        for FlexAttention; (batch, keys) of 0 and 1 for FlashAttention, which is causal by itself and needs to know the
        absent keys alone.
    """
    if implementation == "flash_attention_2":
        return (keys != ABSENT).long()
    if implementation == "flex_attention":
        (batch, new), total = queries.shape, keys.shape[1]
        return create_block_mask(
            lambda row, head, query, key: visible_keys(queries[row, query], keys[row, key], window),
            batch, None, new, total, device=keys.device,
        )  # fmt: skip
    visible = visible_keys(queries[:, None, :, None], keys[:, None, None, :], window)
    if implementation in SDPA:
        return visible
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)


def take_tokens(tensor: Tensor, index: Tensor) -> Tensor:
    """Tokens `index` (batch, kept) of a tensor (batch or 1, tokens, ...): (batch, kept, ...)."""
    if index.shape[0] == 1:
        return tensor.index_select(1, index[0])
    rows = torch.arange(index.shape[0], device=index.device)[:, None]
    return tensor.expand(index.shape[0], *tensor.shape[1:])[rows, index]
