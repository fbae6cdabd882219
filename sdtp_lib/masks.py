"""Which keys a query sees when a layer holds only some of the prompt's tokens, and the form attention wants it in.

Columns are token places counted from the start of the conversation, pads included; ABSENT marks a place in a tensor
that holds no token (a pad, or the filler of a row that kept fewer). A kept token keeps its column, so causality and
sliding windows are comparisons of columns, however few tokens are left between two of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

ABSENT = -1
IMPLEMENTATIONS = ("sdpa", "eager", "flash_attention_2")


def visible_keys(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """True where a query may attend a key.

    Args:
        queries: (batch, queries) columns, or ABSENT.
        keys: (batch, keys) columns, or ABSENT.
        window: how many columns a query looks back, itself included; None for all.

    Returns:
        (batch, 1, queries, keys) bool. Absent queries see absent keys, so that no row of the softmax is empty.
    """
    back = queries[:, :, None] - keys[:, None, :]
    visible = (back >= 0) & (keys != ABSENT)[:, None, :]
    if window is not None:
        visible &= back < window
    return (visible | (back == 0))[:, None]


def attention_mask(visible: Tensor, implementation: str, dtype: torch.dtype) -> Tensor:
    """`visible` (batch, 1, queries, keys) as the attention function takes it.

    Returns:
        bool for sdpa; 0 or the lowest number, in `dtype`, for eager; (batch, keys) of 0 and 1 for FlashAttention, which
        is causal by itself and needs to know the absent keys alone.
    """
    if implementation == "sdpa":
        return visible
    if implementation == "eager":
        return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(
            ~visible, torch.finfo(dtype).min
        )
    return visible[:, 0, -1].long()


def take_tokens(tensor: Tensor, index: Tensor) -> Tensor:
    """Tokens `index` (batch, kept) of a tensor (batch or 1, tokens, ...): (batch, kept, ...)."""
    if index.shape[0] == 1:
        return tensor.index_select(1, index[0])
    rows = torch.arange(index.shape[0], device=index.device)[:, None]
    return tensor.expand(index.shape[0], *tensor.shape[1:])[rows, index]
