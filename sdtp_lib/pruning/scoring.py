"""What the engine asks of a score: the protocol of scorers, what one may look at, and what one may say of itself."""

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

    What one may have besides, which the functions below ask for:

    - `looks_at_positions = False`: it is spared the gathering of positions, and finds None in the context;
    - `reads_ids = True`: it finds the tokens' ids there;
    - `check(hidden_size, layers)`: raises ValueError if it does not fit the model;
    - `flops(tokens)`: FLOPs of scoring so many tokens at one layer; where it is missing `experiments.schedule_quality`
      counts the paper's MLP, and a scorer around it nothing;
    - `show(model, layers, prompts, answers)`: `evaluation` hands it every batch with its answers, see `OracleScorer`.
    """

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens)."""


def looks_at_positions(scorer: Scorer) -> bool:
    """Whether a scorer wants the tokens' positions; unless it says not."""
    return getattr(scorer, "looks_at_positions", True)


def reads_ids(scorer: Scorer) -> bool:
    """Whether a scorer wants the tokens' ids; if it says so."""
    return getattr(scorer, "reads_ids", False)


def must_be_shown(scorer: Scorer | None) -> bool:
    """Whether a scorer has to be shown the answers first, as the oracle has."""
    return hasattr(scorer, "show")


def check_scorer(scorer: Scorer | None, hidden_size: int, layers: tuple[int, ...]) -> None:
    """Raise ValueError unless a scorer, if there is one, fits a model, as far as it can tell."""
    if hasattr(scorer, "check"):
        scorer.check(hidden_size, layers)


def scoring_flops(scorer: Scorer, tokens: int) -> int:
    """FLOPs of a scorer for `tokens` tokens at one layer, 0 if it does not tell them."""
    return scorer.flops(tokens) if hasattr(scorer, "flops") else 0
