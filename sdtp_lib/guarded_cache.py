"""A cache that knows it was pruned: used where nothing tells its layers what they hold, it is an error, not a guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from .block import Block
from .conversation import ATTRIBUTE

BLOCK = "sdtp_block"  # on the cache, from its first cut on: the block that prunes it


class GuardedCache(DynamicCache):
    """What becomes of a `DynamicCache` that went through the engine; it is made by `guard`, not by its constructor.

    Once it was cut it takes keys inside an open block alone, since its layers hold different tokens, which stock masks
    and positions do not fit. Where its rows go, what the engine remembers of them goes too.
    """

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs) -> Any:
        """As `DynamicCache.update`.

        Raises:
            ValueError: outside of every block, if tokens were cut from this cache.
        """
        block = getattr(self, BLOCK, None)
        if block is not None and not block.here:
            raise ValueError(
                "this cache was pruned, and the TokenPruning block that pruned it is closed: its layers hold different "
                "tokens, so go on inside `with pruning(model):`, or prefill a new cache outside"
            )
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def crop(self, count: int) -> None:
        """Take back the last `-count` tokens of every layer.

        Raises:
            ValueError: for a positive count, the number of keys to keep, if tokens were cut from this cache; for more
                tokens than came after the last prompt that was cut. Nothing is cropped then.
        """
        conversation = getattr(self, ATTRIBUTE, None)
        if conversation is not None and conversation.kept:
            later = conversation.total - conversation.dense_from
            if count > 0:
                raise ValueError(
                    f"a pruned cache cannot be cropped to a length, as crop({count}) asks, since its layers have "
                    f"different ones; say how many tokens to take back: crop(-n), n at most {later}"
                )
            if -count > later:
                raise ValueError(
                    f"crop({count}): a cache cannot be cropped into the pruned prompt; {later} tokens came after it"
                )
        super().crop(count)

    def reset(self) -> None:
        """As `DynamicCache.reset`; the conversation is forgotten."""
        super().reset()
        for name in (ATTRIBUTE, BLOCK):
            vars(self).pop(name, None)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """As `DynamicCache.reorder_cache`."""
        self._move(super().reorder_cache, beam_idx, lambda rows: rows[beam_idx.to(rows.device)])

    def batch_select_indices(self, indices: Tensor) -> None:
        """As `DynamicCache.batch_select_indices`."""
        self._move(super().batch_select_indices, indices, lambda rows: rows[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """As `DynamicCache.batch_repeat_interleave`."""
        self._move(super().batch_repeat_interleave, repeats, lambda rows: rows.repeat_interleave(repeats))

    def _move(self, change: Callable[[Any], None], argument: Any, rows_of: Callable[[Tensor], Tensor]) -> None:
        conversation = getattr(self, ATTRIBUTE, None)
        if conversation is not None and not conversation.same_keys(self):
            conversation = None  # something else changed it first, which the next pass must be able to see
        change(argument)
        if conversation is not None:
            keys = self.layers[0].keys
            rows = rows_of(torch.arange(conversation.batch, device=keys.device))
            setattr(self, ATTRIBUTE, conversation.take_rows(rows, keys))


def guard(cache: Cache, block: Block | None = None) -> None:
    """Make a `DynamicCache` a guarded one; with `block`, one that takes keys while that block is open alone."""
    cache.__class__ = GuardedCache
    if block is not None:
        setattr(cache, BLOCK, block)
