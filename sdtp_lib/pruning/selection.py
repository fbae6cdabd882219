"""Choosing tokens from scores: forced tokens first, then the highest scores; equal scores keep the later token."""

from __future__ import annotations

import torch
from torch import Tensor


def select(scores: Tensor, keep: int, sinks: int, local: int) -> Tensor:
    """Indices of the tokens to keep where every row holds and keeps the same number.

    Args:
        scores: (batch, tokens), higher is kept.
        keep: tokens to keep in each row.
        sinks, local: tokens at the start and at the end that are kept whatever they score; sinks + local <= keep.

    Returns:
        (batch, keep) indices into the token axis, ascending. Needs no transfer to the host.
    """
    tokens = scores.shape[1]
    ranked = scores.clone()
    ranked[:, :sinks] = torch.inf
    ranked[:, tokens - local :] = torch.inf
    # A stable sort of the reversed row puts the later of two equal scores first; topk promises no order for ties.
    order = ranked.flip(1).sort(dim=1, descending=True, stable=True).indices[:, :keep]
    return (tokens - 1 - order).sort(dim=1).values


def select_ragged(
    scores: Tensor, present: Tensor, keep: Tensor, sinks: Tensor, local: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Like `select` where rows hold and keep different numbers of tokens, absent places being on the left.

    Args:
        scores: (batch, tokens); the scores of absent places are ignored.
        present, keep, sinks, local: (batch,) tokens present in a row, to keep, forced at the start and at the end.
        width: the largest of `keep`; rows that keep fewer are filled up on the left.

    Returns:
        (batch, width) indices into the token axis, and (batch, width) bool, False on what only fills up. The kept ones
        are ascending.
    """
    tokens = scores.shape[1]
    column = torch.arange(tokens, device=scores.device)
    rank = column - (tokens - present)[:, None]  # (batch, tokens), negative on absent places
    forced = (rank < sinks[:, None]) | (rank >= (present - local)[:, None])
    ranked = scores.masked_fill(forced, torch.inf).masked_fill(rank < 0, -torch.inf)
    kept = (rank >= 0) & (places(ranked) < keep[:, None])
    key = torch.where(kept, column, column - tokens).sort(dim=1).values[:, tokens - width :]  # the kept ones sort last
    return key % tokens, key >= 0


def places(scores: Tensor) -> Tensor:
    """Place of each token in its row (batch, tokens) when sorted, the best at 0; of equals the later is better."""
    tokens = scores.shape[1]
    order = scores.flip(1).sort(dim=1, descending=True, stable=True).indices
    column = torch.arange(tokens, device=scores.device)
    return torch.empty_like(order).scatter_(1, tokens - 1 - order, column.expand_as(order).contiguous())


def boundary_tie(scores: Tensor, kept: Tensor, movable: Tensor) -> bool:
    """Whether the worst kept and the best cut score of one row are equal, so that position decided.

    Args:
        scores: (tokens,) scores of the tokens present.
        kept: (tokens,) bool, what was kept.
        movable: (tokens,) bool, the tokens that were not forced.
    """
    inside, outside = scores[kept & movable], scores[~kept]
    return bool(len(inside) and len(outside) and inside.min() == outside.max())
