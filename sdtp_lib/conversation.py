"""What the engine remembers: which tokens each layer's cache holds, and which are still present in a forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .masks import ABSENT
from .trace import Stage


@dataclass
class Conversation:
    """What went into one cache.

    Attributes:
        total: columns so far.
        real: (batch, total) bool, False on pads; None while there are none.
        kept: layer -> (batch, n) columns below `dense_from` that its cache was given; a layer not named got all.
        dense_from: from this column on every layer got everything.
        ragged: whether some row kept fewer tokens than another without having pads to show for it.
    """

    total: int = 0
    real: Tensor | None = None
    kept: dict[int, Tensor] = field(default_factory=dict)
    dense_from: int = 0
    ragged: bool = False

    @property
    def absent(self) -> bool:
        """Whether any place in its caches holds no token."""
        return self.ragged or self.real is not None

    def dense(self, start: int, stop: int, batch: int, device: torch.device) -> Tensor:
        """Columns start to stop, (batch, stop - start), ABSENT on pads."""
        columns = torch.arange(start, stop, device=device).expand(batch, -1)
        return columns if self.real is None else columns.masked_fill(~self.real[:, start:stop].to(device), ABSENT)

    def given(self, layer: int, stop: int, batch: int, device: torch.device) -> Tensor:
        """Columns below `stop` that a layer's cache was given, (batch, n)."""
        if layer not in self.kept:
            return self.dense(0, stop, batch, device)
        return torch.cat([self.kept[layer].to(device), self.dense(self.dense_from, stop, batch, device)], dim=1)


@dataclass
class ForwardPass:
    """One forward pass through the decoder.

    Attributes:
        start: column of its first token; tokens: how many came in; batch: rows.
        mask: (batch, start + tokens), the caller's 2-D mask, or None.
        prunes: whether stages cut in this pass.
        index: (batch, present) places, among the tokens of this pass, of what is still present; None if all is.
        columns: the same as columns, ABSENT on filler; None if all is present.
        present: tokens present per row, pads excluded; None until a stage needs it.
        prompt: `present` before the first cut.
        stages, finite: the cuts made, and for each whether all of its scores were finite.
        shared: positions and masks that layers between two cuts share.
    """

    conversation: Conversation
    start: int
    tokens: int
    batch: int
    mask: Tensor | None
    prunes: bool
    index: Tensor | None = None
    columns: Tensor | None = None
    present: list[int] | None = None
    prompt: list[int] | None = None
    stages: list[Stage] = field(default_factory=list)
    finite: list[Tensor] = field(default_factory=list)
    shared: dict[Any, Any] = field(default_factory=dict)

    def read_padding(self, known: bool = True) -> None:
        """Count the real tokens of each row from the 2-D mask: the one transfer to the host of a padded prefill.

        Args:
            known: whether the tokens before this pass went through this context, so that their pads are known.

        Raises:
            ValueError: for padding that is not on the left, a row of pads alone, a mask of another width, or one that
                hides other cached tokens than it did before.
        """
        conversation = self.conversation
        self.present = self.prompt = [self.tokens] * self.batch
        if self.mask is None:
            if conversation.real is not None:
                new = conversation.real.new_ones(self.batch, self.tokens)
                conversation.real = torch.cat([conversation.real, new], dim=1)
            return
        real = self.mask.bool()
        if real.shape[1] != self.start + self.tokens:
            wanted = f"({self.batch}, {self.start + self.tokens})"
            raise ValueError(
                f"attention mask of shape {tuple(real.shape)}, expected {wanted}: cached tokens and new ones"
            )
        if self.start and self.tokens > 1:
            before = torch.ones_like(real[:, : self.start]) if conversation.real is None else conversation.real
            changed = bool((real[:, : self.start] != before).any())
            if changed and known:
                raise ValueError("the attention mask hides other cached tokens than before; pass it explicitly")
            conversation.real = real if changed else conversation.real
        if self.tokens > 1 or self.start == 0:
            new = real[:, self.start :]
            left = (new.long().diff(dim=1) >= 0).all(dim=1)
            counts, ordered = torch.stack([new.sum(1), left.long()]).tolist()
            if not all(ordered):
                raise ValueError("only left padding is supported; set tokenizer.padding_side = 'left'")
            if not all(counts):
                raise ValueError(f"row {counts.index(0)} of the batch is an empty prompt (padding only)")
            self.present = self.prompt = counts
            if conversation.real is None and min(counts) == self.tokens:
                return
        conversation.real = real

    def present_columns(self, device: torch.device) -> Tensor:
        """(batch, present) columns still present, ABSENT on pads and filler."""
        if self.columns is not None:
            return self.columns
        return self.conversation.dense(self.start, self.start + self.tokens, self.batch, device)

    def remember(self, layers: int) -> Conversation:
        """The conversation with the tokens of this pass in it, for a model of `layers` layers."""
        conversation, total = self.conversation, self.start + self.tokens
        cuts = {stage.layer: stage.kept for stage in self.stages}
        if any(stage.kept.shape[1] < stage.offered for stage in self.stages):
            columns = None
            for layer in range(min(cuts), layers):
                columns = cuts.get(layer, columns)
                before = conversation.given(layer, self.start, self.batch, columns.device)
                conversation.kept[layer] = torch.cat([before, columns], dim=1) if self.start else columns
            conversation.dense_from = total
            conversation.ragged |= min(self.present) < max(self.present)
        conversation.total = total
        return conversation
