"""What the engine asks of a score: the protocol of scorers, and what one may look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ScoringContext:
    """What a scorer may look at besides the hidden states.

    Attributes:
        module: the decoder layer at whose input the cut is made.
        mask: (batch, tokens) bool, True for real tokens, False for pads.
        position_ids: (batch, tokens) positions as the layer uses them; None with ALiBi.
        position_embeddings: (cos, sin), each (batch, tokens, head_dim); None with ALiBi.
        local_tokens: tokens at the end of the longest row that are kept whatever they score.
        generator: for scorers that draw at random, or None.
        alibi: (batch * heads, 1, tokens) biases of an ALiBi model, else None.
        columns: (batch, tokens) places in the conversation, pads counted, of the tokens present; -1 where none is.
        ids: (batch, tokens) token ids, for a scorer that says `reads_ids = True`; None for others, or if embeddings
            came in.
    """

    module: nn.Module
    mask: Tensor
    position_ids: Tensor | None
    position_embeddings: tuple[Tensor, Tensor] | None
    local_tokens: int
    generator: torch.Generator | None = None
    alibi: Tensor | None = None
    columns: Tensor | None = None
    ids: Tensor | None = None


class Scorer(Protocol):
    """Anything that scores tokens: higher is kept. The pruner and every baseline.

    One that says `looks_at_positions = False` is spared the gathering of positions, and finds None in the context. One
    with a method `show` is shown prompts and answers of every batch by `evaluation`, see `OracleScorer`.
    """

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens)."""
