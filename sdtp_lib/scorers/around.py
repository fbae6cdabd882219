"""What every scorer that changes another one's scores has in common: it asks of a layer what the other one asks."""

from __future__ import annotations

from dataclasses import dataclass

from ..pruning.scoring import Scorer, check_scorer, looks_at_positions, reads_ids, scoring_flops


@dataclass(frozen=True)
class AroundScorer:
    """Base of scorers around another.

    Args:
        scorer: any that need not be shown answers, as the oracle must.
    """

    scorer: Scorer

    @property
    def looks_at_positions(self) -> bool:
        """Whether the other scorer does."""
        return looks_at_positions(self.scorer)

    @property
    def reads_ids(self) -> bool:
        """Whether the other scorer does."""
        return reads_ids(self.scorer)

    def check(self, hidden_size: int, layers: tuple[int, ...]) -> None:
        """Raise ValueError unless the other scorer fits the model, as far as it can tell."""
        check_scorer(self.scorer, hidden_size, layers)

    def flops(self, tokens: int) -> int:
        """FLOPs of the other scorer for `tokens` tokens at one layer, 0 if it does not tell them."""
        return scoring_flops(self.scorer, tokens)
