"""One forward pass through the decoder: how many tokens are present, and what its cache holds afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from .cache_record import ATTRIBUTE, Conversation
from .families import ModelAdapter
from .guarded_cache import guard
from .never_cut import NamedTokens
from .trace import Stage
from .versions import unseen_cache


@dataclass
class ForwardPass:
    """One forward pass through the decoder.

    Attributes:
        conversation: in the cache before this pass; `start` is its length.
        tokens: how many came in.
        mask: (batch, start + tokens), the caller's 2-D mask, or None.
        prunes: whether stages cut in this pass.
        cache: the one handed in, or, from the first layer on, the one that the decoder made; None without.
        ids: (batch, tokens) token ids; None if embeddings came in.
        counted: whether the decoder counts positions itself, from what it takes to be cached.
        stock: whether layers that get no mask need no other arguments either.
        index: (batch, present) places, among the tokens of this pass, of what is still present; None if all is.
        columns: the same as columns, ABSENT on filler; None if all is present.
        present: tokens present per row, pads excluded.
        prompt: `present` before the first cut.
        stages: the cuts made; layers: how many layers ran so far.
        checks: flags that must be true, read at the end of the pass, and what is wrong if they are not.
        shared: positions and masks that layers between two cuts share.
        named: tokens that the caller never wants cut.
    """

    conversation: Conversation
    tokens: int
    mask: Tensor | None
    prunes: bool
    cache: Cache | None = None
    ids: Tensor | None = None
    counted: bool = False
    stock: bool = False
    index: Tensor | None = None
    columns: Tensor | None = None
    present: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    layers: int = 0
    checks: list[tuple[Tensor, str]] = field(default_factory=list)
    shared: dict[Any, Any] = field(default_factory=dict)
    named: NamedTokens = field(default_factory=NamedTokens)

    def __post_init__(self):
        self.start: int = self.conversation.total
        self.present = self.prompt = [self.tokens] * self.conversation.batch
        if self.mask is not None:
            self._read_padding(self.mask.bool())
        elif self.conversation.real is not None:
            raise ValueError("the cache holds pads: pass the attention mask of cached and new tokens")

    def _read_padding(self, real: Tensor) -> None:
        """Count the real tokens of each row: the one transfer to the host of a pass that has a mask.

        Raises:
            ValueError: for padding that is not on the left, a row of pads alone, a mask of another width, or one that
                shows what it hid before.
        """
        conversation, start = self.conversation, self.start
        wanted = (conversation.batch, start + self.tokens)
        if real.shape != wanted:
            fault = f"attention mask of shape {tuple(real.shape)}, expected {wanted}: cached tokens and new ones"
            unseen = self.cache is None and real.shape[1] > self.tokens
            raise unseen_cache(f"{fault}. If others are in a cache, it was not seen") if unseen else ValueError(fault)
        before, new = real[:, :start], real[:, start:]
        known = torch.ones_like(before) if conversation.real is None else conversation.real.to(real.device)
        ordered = (new.long().diff(dim=1) >= 0).all(dim=1)
        shows, hides = (before & ~known).any(dim=1), (~before & known).any(dim=1)
        flags = torch.stack([new.sum(1), ordered.long(), shows.long(), hides.long()]).tolist()
        counts, ordered, shows, hides = flags
        if any(shows):
            raise ValueError("the attention mask shows cached tokens that it hid before, which were never attended")
        if self.tokens > 1 or start == 0:
            if not all(ordered):
                raise ValueError("only left padding is supported; set tokenizer.padding_side = 'left'")
            if not all(counts):
                raise ValueError(f"row {counts.index(0)} of the batch is an empty prompt (padding only)")
            self.present = self.prompt = counts
        if any(hides):
            conversation.hide(real)
        elif conversation.real is not None or min(counts) < self.tokens:
            conversation.real = real

    def present_columns(self, device: torch.device) -> Tensor:
        """(batch, present) columns still present, ABSENT on pads and filler."""
        if self.columns is not None:
            return self.columns.to(device)
        return self.conversation.dense(self.start, self.start + self.tokens, device)

    def ids_of(self, columns: Tensor) -> Tensor | None:
        """(batch, present) token ids in some columns of this pass, any where none is; None without ids."""
        if self.ids is None:
            return None
        return self.ids.to(columns.device).gather(1, (columns - self.start).clamp(min=0))

    def remember(self, cache: Cache, adapter: ModelAdapter) -> None:
        """Put the conversation, with the tokens of this pass in it, on its cache.

        Raises:
            ValueError: see `Conversation.check_compression`.
        """
        conversation, total, given = self.conversation, self.start + self.tokens, self.tokens
        cuts = {stage.layer: stage.kept for stage in self.stages}
        if any(stage.kept.shape[1] < stage.offered for stage in self.stages):
            self._remember_cuts(cuts, len(adapter.layers))
        held = adapter.cache_lengths(cache)
        for layer, (before, now) in enumerate(zip(conversation.held, held, strict=True)):
            given = cuts[layer].shape[1] if layer in cuts else given
            expected = adapter.expected_keys(cache, layer, before + given)
            if now > expected:
                raise unseen_cache(f"the cache of layer {layer} holds {now} keys after {expected} were given to it")
            if now < expected:
                conversation.compressed.add(layer)
        conversation.held, conversation.keys, conversation.total = held, conversation.ends(cache), total
        conversation.check_compression(adapter)
        guard(cache)
        setattr(cache, ATTRIBUTE, conversation)

    def _remember_cuts(self, cuts: dict[int, Tensor], layers: int) -> None:
        conversation, columns, joined, stop = self.conversation, None, {}, self.start + self.tokens
        for layer in range(layers):
            columns, before = cuts.get(layer, columns), conversation.kept.get(layer)
            if columns is None and before is None:
                continue  # it got all of this pass, and all of those before
            pair = id(before), id(columns)
            if pair not in joined:  # once for all layers between two cuts, which then share it
                new = conversation.dense(self.start, stop, before.device) if columns is None else columns
                earlier = conversation.given(layer, self.start, new.device)
                joined[pair] = torch.cat([earlier, new], dim=1) if self.start else new
            conversation.kept[layer] = joined[pair]
        conversation.dense_from = stop
        conversation.ragged |= min(self.present) < max(self.present)
