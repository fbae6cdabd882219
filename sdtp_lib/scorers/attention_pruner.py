"""Last-window attention in a pruner's place: where no trained score is better, its folder says so by this kind."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ..pruning.scoring import ScoringContext
from .attention import LastWindowAttentionScorer
from .token_pruner import TokenPruner, positive


class AttentionPruner(TokenPruner):
    """`LastWindowAttentionScorer` with a record, stored and loaded as any pruner; it has no weights.

    Args:
        hidden_size, layers, record: see `TokenPruner`.
        window: number of last tokens that ask.
    """

    kind: ClassVar[str] = "attention"
    looks_at_positions = True

    def __init__(
        self, hidden_size: int, layers: tuple[int, ...] | list[int], record: dict[str, Any] | None = None, *,
        window: int = 16,
    ):  # fmt: skip
        super().__init__(hidden_size, layers, record, width=1)
        self.mlps.clear()
        self.window = positive("window", window)

    @property
    def options(self) -> dict[str, Any]:
        """See `TokenPruner.options`."""
        return {"window": self.window}

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """See `LastWindowAttentionScorer.score`."""
        return LastWindowAttentionScorer(self.window).score(layer, hidden_states, context)

    def flops(self, tokens: int) -> int:
        """FLOPs of projecting and normalising queries and keys anew, as wide as the hidden states at most."""
        return 4 * tokens * self.hidden_size**2
