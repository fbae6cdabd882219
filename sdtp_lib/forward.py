"""One forward pass through the decoder: how many tokens are present, and what its cache holds afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from .adapters import ModelAdapter
from .conversation import ATTRIBUTE, Conversation
from .trace import Stage


@dataclass
class ForwardPass:
    """One forward pass through the decoder.

    Attributes:
        start: column of its first token; tokens: how many came in; batch: rows.
        mask: (batch, start + tokens), the caller's 2-D mask, or None.
        prunes: whether stages cut in this pass.
        stock: whether layers that get no mask need no other arguments either.
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
    stock: bool = False
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
            known: whether the tokens before this pass went through the engine, so that their pads are known.

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
        if real.shape != (self.batch, self.start + self.tokens):
            wanted = f"({self.batch}, {self.start + self.tokens})"
            raise ValueError(
                f"attention mask of shape {tuple(real.shape)}, expected {wanted}: cached tokens and new ones"
            )
        new = real[:, self.start :]
        before = real[:, : self.start]
        known_before = torch.ones_like(before) if conversation.real is None else conversation.real.to(real.device)
        ordered = (new.long().diff(dim=1) >= 0).all(dim=1)
        same = (before == known_before).all(dim=1)
        counts, ordered, same = torch.stack([new.sum(1), ordered.long(), same.long()]).tolist()
        if known and not all(same):
            raise ValueError("the attention mask hides other cached tokens than before; pass it explicitly")
        if self.tokens > 1 or self.start == 0:
            if not all(ordered):
                raise ValueError("only left padding is supported; set tokenizer.padding_side = 'left'")
            if not all(counts):
                raise ValueError(f"row {counts.index(0)} of the batch is an empty prompt (padding only)")
            self.present = self.prompt = counts
        if conversation.real is not None or not all(same) or min(counts) < self.tokens:
            conversation.real = real

    def present_columns(self, device: torch.device) -> Tensor:
        """(batch, present) columns still present, ABSENT on pads and filler."""
        if self.columns is not None:
            return self.columns.to(device)
        return self.conversation.dense(self.start, self.start + self.tokens, device)

    def remember(self, cache: Cache, adapter: ModelAdapter) -> Conversation:
        """The conversation with the tokens of this pass in it, kept on its cache."""
        conversation, total, given = self.conversation, self.start + self.tokens, self.tokens
        cuts = {stage.layer: stage.kept for stage in self.stages}
        if any(stage.kept.shape[1] < stage.offered for stage in self.stages):
            columns = None
            for layer in range(min(cuts), len(adapter.layers)):
                columns = cuts.get(layer, columns)
                before = conversation.given(layer, self.start, columns.device)
                conversation.kept[layer] = torch.cat([before, columns], dim=1) if self.start else columns
            conversation.dense_from = total
            conversation.ragged |= min(self.present) < max(self.present)
        held = adapter.cache_lengths(cache)
        for layer, (before, now) in enumerate(zip(conversation.held, held, strict=True)):
            given = cuts[layer].shape[1] if layer in cuts else given
            if now < adapter.expected_keys(cache, layer, before + given):
                conversation.compressed.add(layer)
        conversation.held, conversation.total = held, total
        conversation.check_compression(adapter)
        setattr(cache, ATTRIBUTE, conversation)
        return conversation
