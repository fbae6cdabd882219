"""Attention in a pruner's place: where no trained score is better, the pruner's folder says so by this kind."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ..pruning.scoring import ScoringContext
from .attention import LastWindowAttentionScorer
from .strongest_head import StrongestHeadScorer
from .token_pruner import TokenPruner, positive

# Name of a method -> the options of the pruner that scores as it does.
UNTRAINED = {"attention": {"window": 16, "heads": "mean"}, "strongest": {"window": 32, "heads": "max"}}
READ = {"mean": LastWindowAttentionScorer, "max": StrongestHeadScorer}


class AttentionPruner(TokenPruner):
    """A score that reads attention, with a record, stored and loaded as any pruner; it has no weights.

    Args:
        hidden_size, layers, record: see `TokenPruner`.
        window: number of last tokens that ask.
        heads: a key of READ: `mean` is `LastWindowAttentionScorer`, `max` is `StrongestHeadScorer`.

    Raises:
        ValueError: also for a window below 1, or another name.
    """

    kind: ClassVar[str] = "attention"
    looks_at_positions = True

    def __init__(
        self, hidden_size: int, layers: tuple[int, ...] | list[int], record: dict[str, Any] | None = None, *,
        window: int = 16, heads: str = "mean",
    ):  # fmt: skip
        if heads not in READ:
            raise ValueError(f"unknown heads {heads!r}; known: {', '.join(READ)}")
        super().__init__(hidden_size, layers, record, width=1)
        self.mlps.clear()
        self.window, self.heads = positive("window", window), heads

    @property
    def options(self) -> dict[str, Any]:
        """See `TokenPruner.options`."""
        return {"window": self.window, "heads": self.heads}

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens), as the score in whose place it is."""
        return READ[self.heads](self.window).score(layer, hidden_states, context)

    def flops(self, tokens: int) -> int:
        """FLOPs of projecting and normalising queries and keys anew, as wide as the hidden states at most."""
        return 4 * tokens * self.hidden_size**2
