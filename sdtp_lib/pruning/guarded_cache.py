"""A cache that knows it was pruned: used where nothing tells its layers what they hold, it is an error, not a guess."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from .block import NAME, Block
from .cache_record import ATTRIBUTE
from .families import ModelAdapter

OUTSIDE = (
    "this cache was pruned, so its layers hold different tokens, and it cannot be used outside of TokenPruning: go on "
    "inside `with pruning(model):`, by calls of that model, or prefill a new cache outside"
)


class GuardedCache(DynamicCache):
    """What becomes of a `DynamicCache` that went through the engine; it is made by `guard`, not by its constructor.

    Once it was cut it takes and gives keys inside a pass of the engine alone, since stock masks and positions do not
    fit its layers. Where its rows go, what the engine remembers of them goes too.
    """

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args, **kwargs) -> Any:
        """As `DynamicCache.update`; ValueError outside of a pruned pass, if tokens were cut from this cache."""
        self._check()
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    def __iter__(self) -> Iterator:
        """As `DynamicCache.__iter__`; ValueError like `update`: a cache made of its parts would know nothing."""
        self._check()
        return super().__iter__()

    def crop(self, *args: int, **kwargs: int) -> None:
        """Take the last `n` tokens of every layer back, as `crop(-n)`.

        Raises:
            ValueError: where tokens were cut: for a positive number, the keys to keep; for more tokens than came after
                the last prompt that was cut; beyond a window. Nothing is cropped then.
        """
        (count,) = (*args, *kwargs.values())
        conversation = self._known()
        if conversation is None or not conversation.kept:
            return super().crop(count)
        later = conversation.total - conversation.dense_from
        if count > 0:
            raise ValueError(
                f"a pruned cache cannot be cropped to a length, as crop({count}) asks, since its layers have different "
                f"ones; say how many tokens to take back: crop(-n), n at most {later}"
            )
        if -count > later:
            raise ValueError(
                f"crop({count}): a cache cannot be cropped into the pruned prompt; {later} tokens came after it"
            )
        if any(layer.is_sliding and layer.get_seq_length() >= layer.sliding_window for layer in self.layers):
            raise ValueError(f"crop({count}): a layer slid over its window, so that what comes back into it is lost")
        if count:
            super().crop(count)
            held = [ModelAdapter.cached_keys(self, layer) for layer in range(len(conversation.held))]
            conversation = replace(conversation)
            conversation.shorten(-count, held, self)
            setattr(self, ATTRIBUTE, conversation)

    def reset(self) -> None:
        """Make it a new cache."""
        super().reset()
        for layer in self.layers:
            layer.is_initialized = False  # older versions of transformers leave as many zeros
        for name in (ATTRIBUTE, NAME):
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
        conversation = self._known()
        change(argument)
        if conversation is not None:
            rows = rows_of(torch.arange(conversation.batch, device=self.layers[0].keys.device))
            setattr(self, ATTRIBUTE, conversation.take_rows(rows, self))

    def _known(self) -> Any:
        """Its conversation, unless something else changed the keys since, which the next pass must be able to see."""
        conversation = getattr(self, ATTRIBUTE, None)
        return conversation if conversation is not None and conversation.same_keys(self) else None

    def _check(self) -> None:
        block = getattr(self, NAME, None)
        if block is not None and not block.in_pass:
            raise ValueError(OUTSIDE)


def guard(cache: Cache, block: Block | None = None) -> None:
    """Make a `DynamicCache` a guarded one; with `block`, one that takes keys in that block's passes alone."""
    cache.__class__ = GuardedCache
    if block is not None:
        setattr(cache, NAME, block)
