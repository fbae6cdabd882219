"""Scores pooled over neighbours, so that tokens of one fact stay or go together (as SnapKV pools its attention)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..pruning.scoring import ScoringContext, must_be_shown
from .around import AroundScorer


@dataclass(frozen=True)
class PooledScorer(AroundScorer):
    """The mean of another scorer's scores over the `width` tokens around each that are still present.

    A score of single tokens may keep most of a fact and drop the token that decides; a mean keeps runs of tokens.
    Neighbours are counted among the tokens present, so after the first cut they may have lain further apart.

    Args:
        scorer: any.
        width: odd; 1 is the scorer itself. About the length of the facts that are asked for.

    Raises:
        ValueError: for a width that is even or below 1, or a scorer that must be shown answers, such as the oracle.
    """

    width: int = 9

    def __post_init__(self):
        check_width("width", self.width)
        if must_be_shown(self.scorer):
            raise ValueError("a scorer that is shown the answers cannot be pooled")

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens), float32."""
        scores, real = self.scorer.score(layer, hidden_states, context).float(), context.mask
        pooled, count = (
            F.avg_pool1d(values[:, None], self.width, stride=1, padding=self.width // 2)[:, 0]
            for values in (scores.masked_fill(~real, 0.0), real.float())
        )
        # A token on a pad has no neighbours; one whose own score is not finite keeps it, so that the engine notices.
        return torch.where(scores.isfinite(), pooled / count.clamp(min=0.5 / self.width), scores)

    def flops(self, tokens: int) -> int:
        """FLOPs of scoring `tokens` tokens at one layer: the other scorer's, and the sums."""
        return super().flops(tokens) + tokens * self.width


def check_width(name: str, width: int) -> None:
    """Raise ValueError unless a width is an odd whole number of 1 or more."""
    if isinstance(width, bool) or not isinstance(width, int) or width < 1 or width % 2 == 0:
        raise ValueError(f"{name} must be an odd whole number, 1 or more, got {width!r}")
