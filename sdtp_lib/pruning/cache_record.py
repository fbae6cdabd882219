"""What the engine remembers of a cache: which tokens each layer was given, and how many keys each layer held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import Cache

from .attention_masks import ABSENT
from .block import NAME
from .families import ModelAdapter
from .trace import Prefill

ATTRIBUTE = "sdtp_conversation"  # on the cache itself, so that it lives, is copied and dies with it


@dataclass
class Conversation:
    """What went into one cache.

    Attributes:
        batch: rows; positions: "original" or "compact", as its keys were turned.
        total: columns so far.
        held: keys in each layer's cache after the last pass, and the first and the last layer's `keys` themselves.
        real: (batch, total) bool, False on pads; None while there are none.
        kept: layer -> (batch, n) columns below `dense_from` that its cache was given; a layer not named got all.
        dense_from: from this column on every layer got everything.
        ragged: whether some row kept fewer tokens than another without having pads to show for it.
        prefill: the trace's entry of its last prompt.
        compressed: layers from whose cache something else (a kvpress press) removed keys; which ones is unknown.
    """

    batch: int
    positions: str
    total: int = 0
    held: list[int] = field(default_factory=list)
    keys: tuple[Tensor, ...] = ()
    real: Tensor | None = None
    kept: dict[int, Tensor] = field(default_factory=dict)
    dense_from: int = 0
    ragged: bool = False
    compressed: set[int] = field(default_factory=set)
    prefill: Prefill | None = None

    @classmethod
    def of(cls, cache: Cache | None, batch: int, positions: str, adapter: ModelAdapter) -> Conversation:
        """The conversation in a cache: a copy, so that a pass that fails leaves the cache's own as it was.

        Raises:
            ValueError: if the cache was cut, or changed since the engine saw it, in a way that cannot be known.
        """
        held = adapter.cache_lengths(cache)
        if not any(held):
            return cls(batch, positions, held=[0] * len(adapter.layers))
        found = getattr(cache, ATTRIBUTE, None)
        if found is None:
            lengths = {cache.get_seq_length(layer) for layer in range(len(held))}  # a window's keys do not tell
            if hasattr(cache, NAME) or 0 in lengths:
                raise ValueError("a pass on this cache failed: its layers do not fit each other; prefill anew")
            if len(lengths) > 1:
                raise ValueError("this cache was pruned outside of TokenPruning, or a pass on it failed; prefill anew")
            start = cache.get_seq_length()
            return cls(batch, positions, start, held, dense_from=start)
        found = replace(found, kept=dict(found.kept), compressed=set(found.compressed))
        if found.held != held:
            found.take_back(cache, held, adapter)
        elif not found.same_keys(cache):
            raise ValueError(
                "the keys of this cache were changed since the last pruned pass, its rows moved perhaps; move rows by "
                "the cache's own reorder_cache, batch_select_indices or batch_repeat_interleave"
            )
        if found.batch != batch:
            raise ValueError(f"the cache was filled with a batch of {found.batch}, this input has {batch} rows")
        if found.kept and found.positions != positions:
            raise ValueError(f"the cache was filled with positions={found.positions!r}, not {positions!r}")
        return found

    @property
    def absent(self) -> bool:
        """Whether any place in its caches holds no token."""
        return self.ragged or self.real is not None

    def dense(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Columns start to stop, (batch, stop - start), ABSENT on pads."""
        columns = torch.arange(start, stop, device=device).expand(self.batch, -1)
        return columns if self.real is None else columns.masked_fill(~self.real[:, start:stop].to(device), ABSENT)

    def given(self, layer: int, stop: int, device: torch.device) -> Tensor:
        """Columns below `stop` that a layer's cache was given, (batch, n), ABSENT on pads."""
        if layer not in self.kept:
            return self.dense(0, stop, device)
        return torch.cat([self.kept[layer].to(device), self.dense(self.dense_from, stop, device)], dim=1)

    def same_keys(self, cache: Cache) -> bool:
        """Whether the keys are those of the last pass; values are compared if the tensor is another."""
        return all(
            new is old or (new.shape == old.shape and torch.equal(new, old.to(new.device)))
            for new, old in zip(self.ends(cache), self.keys, strict=True)
        )

    def ends(self, cache: Cache) -> tuple[Tensor, ...]:
        """The keys of the first and the last layer, which between them depend on all of every row."""
        return tuple(cache.layers[layer].keys for layer in (0, len(self.held) - 1))

    def take_rows(self, rows: Tensor, cache: Cache) -> Conversation:
        """The conversation after the rows of its cache became `rows` (new batch,) of the old ones."""
        kept = self._changed(lambda columns: columns.index_select(0, rows.to(columns.device)))
        real = None if self.real is None else self.real.index_select(0, rows.to(self.real.device))
        compressed, keys = set(self.compressed), self.ends(cache)
        return replace(self, batch=len(rows), real=real, kept=kept, keys=keys, compressed=compressed)

    def hide(self, real: Tensor) -> None:
        """Treat cached tokens that a newer mask `real` (batch, at least total) hides as pads from now on."""

        def hidden(columns: Tensor) -> Tensor:
            visible = real.to(columns.device).gather(1, columns.clamp(min=0))
            return columns.masked_fill(~visible, ABSENT)

        self.real, self.kept = real, self._changed(hidden)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> dict[int, Tensor]:
        """`kept` after a change of its columns, made once for layers between two cuts, which share them."""
        found = {id(columns): columns for columns in self.kept.values()}
        made = {name: change(columns) for name, columns in found.items()}
        return {layer: made[id(columns)] for layer, columns in self.kept.items()}

    def take_back(self, cache: Cache, held: list[int], adapter: ModelAdapter) -> None:
        """Forget the last columns, after every layer's cache lost as many keys: a question or answer was taken back.

        Raises:
            ValueError: if that is not what happened to the cache, or the columns reach into a prompt that was cut.
        """
        lost = {before - now for before, now in zip(self.held, held, strict=True)}
        count, full, keys = lost.pop(), self.total, self.ends(cache)
        windows = [adapter.window(layer) for layer in range(len(held))]
        forgotten = any(window is not None and full >= window for window in windows)  # keys that came back into view
        last = not lost and 0 < count <= full - self.dense_from and not forgotten
        same = last and all(
            torch.equal(old[:, :, : new.shape[2]].to(new.device), new)
            for old, new in zip(self.keys, keys, strict=True)
        )
        if not same:
            layer = next(i for i, (before, now) in enumerate(zip(self.held, held, strict=True)) if before != now)
            raise ValueError(
                f"the cache of layer {layer} held {self.held[layer]} keys after the last pruned pass and now holds "
                f"{held[layer]}: it was cropped into the pruned prompt, or used outside of TokenPruning"
            )
        self.shorten(count, held, cache)

    def shorten(self, count: int, held: list[int], cache: Cache) -> None:
        """Forget the last `count` columns, of which the cache holds no keys any more but those `held`."""
        self.total, self.held, self.keys = self.total - count, held, self.ends(cache)
        self.real = None if self.real is None else self.real[:, : self.total]

    def check_compression(self, adapter: ModelAdapter) -> None:
        """Raise ValueError if a cache was compressed where knowing which keys are left would be needed."""
        for layer in sorted(self.compressed):
            for hinders, what in (
                (self.absent, "padded batches"),
                (adapter.window(layer) is not None, "sliding-window layers"),
                (adapter.rotary is None, "ALiBi models"),
            ):
                if hinders:
                    raise ValueError(f"the cache of layer {layer} was compressed, which is not supported for {what}")
