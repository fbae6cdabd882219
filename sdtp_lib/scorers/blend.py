"""Part of the budget by one score, the rest by another: for caches that more than one question will be asked of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..pruning.scoring import (
    Scorer,
    ScoringContext,
    check_scorer,
    looks_at_positions,
    must_be_shown,
    reads_ids,
    scoring_flops,
)
from ..pruning.selection import places


@dataclass(frozen=True)
class BlendScorer:
    """Two rankings merged: of what is kept, about `share` are the first scorer's best, the others the second's.

    Tokens that both put high are taken once. Tokens that the schedule never cuts are ranked like all others, so a
    scorer that puts them high spends its share on them. `share` 1 is the first scorer alone, 0 the second.

    Args:
        first, second: scorers, such as one that reads the question and one that does not.
        share: in [0, 1].

    Raises:
        ValueError: for a share outside [0, 1], or a scorer that must be shown answers, such as the oracle.
    """

    first: Scorer
    second: Scorer
    share: float = 0.5

    def __post_init__(self):
        if not 0 <= self.share <= 1:  # also refuses NaN
            raise ValueError(f"share must be in [0, 1], got {self.share}")
        if any(must_be_shown(scorer) for scorer in (self.first, self.second)):
            raise ValueError("a scorer that is shown the answers cannot be blended")

    @property
    def looks_at_positions(self) -> bool:
        """Whether one of the two does."""
        return any(looks_at_positions(scorer) for scorer in (self.first, self.second))

    @property
    def reads_ids(self) -> bool:
        """Whether one of the two does."""
        return any(reads_ids(scorer) for scorer in (self.first, self.second))

    def parts(self) -> list[tuple[Scorer, float]]:
        """The scorers that have a share, with it."""
        pairs = ((self.first, self.share), (self.second, 1 - self.share))
        return [(scorer, share) for scorer, share in pairs if share > 0]

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens): minus the turn at which a token is taken.

        The first scorer's token of rank r is due at (r + 1) / share, the second's at (r + 1) / (1 - share).
        """
        due = [
            (_rank(scorer.score(layer, hidden_states, context), context.mask) + 1) / share
            for scorer, share in self.parts()
        ]
        return -torch.stack(due).amin(0)

    def check(self, hidden_size: int, layers: tuple[int, ...]) -> None:
        """Raise ValueError unless both scorers fit the model, as far as they can tell."""
        for scorer in (self.first, self.second):
            check_scorer(scorer, hidden_size, layers)

    def flops(self, tokens: int) -> int:
        """FLOPs of scoring `tokens` tokens at one layer, of those scorers that tell theirs."""
        return sum(scoring_flops(scorer, tokens) for scorer, _ in self.parts())


def _rank(scores: Tensor, mask: Tensor) -> Tensor:
    """`places` of the real tokens; a score that is not finite has none, so that the engine notices it."""
    rank = places(scores.masked_fill(~mask, -torch.inf)).float()
    return rank.masked_fill(mask & ~scores.isfinite(), torch.nan)
