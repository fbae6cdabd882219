"""What a layer that holds only some of the tokens is told: its own positions, biases and mask.

The model's loop hands every layer the same keyword arguments, made for a cache of one length. These replace the ones
that do not fit a layer whose prompt or cache was cut.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .attention_masks import ABSENT, SDPA, attention_mask, take_tokens
from .decoder_pass import ForwardPass
from .families import ModelAdapter


def layer_kwargs(
    adapter: ModelAdapter, forward: ForwardPass, compact: bool, layer: int, hidden: Tensor, kwargs: dict
) -> dict[str, Any]:
    """The keyword arguments of a layer that differ from those of the model's loop.

    Args:
        compact: whether kept tokens are renumbered.
        hidden: (batch, present, hidden), the layer's input after its cut.
        kwargs: what the loop hands the layer.
    """
    window, tokens, total = adapter.window(layer), hidden.shape[1], forward.start + forward.tokens
    past, implementation = adapter.cached_keys(forward.cache, layer), adapter.implementation
    changed: dict[str, Any] = {"attention_mask": None}
    if adapter.rotary is not None:
        changed["position_ids"], changed["position_embeddings"] = positions_of(
            adapter, forward, compact, layer, hidden, kwargs
        )
        if implementation == "flash_attention_2":  # which would take positions with gaps for several packed prompts
            changed["position_ids"] = None
    if kwargs.get("cache_position") is not None:  # sliced, not gathered: caches and presses read its length alone
        changed["cache_position"] = kwargs["cache_position"][:tokens]
    outside = window is not None and total > window
    causal_by_itself = implementation == "flash_attention_2" or (implementation in SDPA and past == 0)
    absent = forward.conversation.absent or (forward.present and min(forward.present) < tokens)
    needs_mask = absent or outside or not (tokens == 1 or causal_by_itself)
    if needs_mask or adapter.rotary is None:
        queries, keys = _columns(adapter, forward, layer, past, hidden.device)
        if needs_mask:
            changed["attention_mask"] = attention_mask(queries, keys, window, implementation, hidden.dtype)
        if adapter.rotary is None:
            changed["alibi"] = alibi_of(kwargs["alibi"].to(hidden.device), keys)
    return changed


def positions_of(
    adapter: ModelAdapter, forward: ForwardPass, compact: bool, layer: int, hidden: Tensor, kwargs: dict
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(position_ids, position_embeddings) of the tokens present at this layer, original or renumbered."""
    conversation, device = forward.conversation, hidden.device
    if compact and (forward.index is not None or layer in conversation.kept):
        before = conversation.given(layer, forward.start, device)
        columns = torch.cat([before, forward.present_columns(device)], dim=1)
        position_ids = ((columns != ABSENT).cumsum(1) - 1).clamp(min=0)[:, before.shape[1] :]
        cos, sin = adapter.positions(layer, hidden, position_ids)
        return position_ids, (cos.to(device), sin.to(device))
    position_ids, embeddings = kwargs["position_ids"], kwargs["position_embeddings"]
    if forward.index is None:
        return position_ids, embeddings
    index = forward.index.to(device)
    cos, sin = embeddings
    return take_tokens(position_ids.to(device), index), (
        take_tokens(cos.to(device), index),
        take_tokens(sin.to(device), index),
    )


def alibi_of(alibi: Tensor, columns: Tensor) -> Tensor:
    """ALiBi's biases (batch * heads, 1, total) of the tokens in `columns` (batch, keys): (batch * heads, 1, keys)."""
    heads = alibi.shape[0] // columns.shape[0]
    index = columns.clamp(min=0)[:, None, None].expand(-1, heads, 1, -1)
    return alibi.unflatten(0, (-1, heads)).gather(3, index).flatten(0, 1)


def _columns(
    adapter: ModelAdapter, forward: ForwardPass, layer: int, past: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Columns of the queries (batch, queries), and of the cached keys and the queries (batch, past + queries)."""
    queries, before = forward.present_columns(device), forward.conversation.given(layer, forward.start, device)
    if layer in forward.conversation.compressed:
        before = before[:, :1].expand(-1, past)  # which keys are left is unknown, but all of them are past
    return queries, torch.cat([before[:, before.shape[1] - past :], queries], dim=1)
