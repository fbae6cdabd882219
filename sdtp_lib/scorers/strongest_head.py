"""Scores from the strongest look at a token: few heads and few tokens look for what is asked, a mean hides them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..pruning.scoring import ScoringContext
from .attention import attention
from .token_pruner import positive


@dataclass(frozen=True)
class StrongestHeadScorer:
    """The most attention that any head of any of the last tokens pays to each token at this layer.

    Args:
        window: number of last tokens that ask. 32 hold most questions whole also behind a chat template's closing
            tokens, of which no knowledge is needed: they take nothing away from a maximum, as they do from a mean.

    Raises:
        ValueError: for a window below 1.
    """

    window: int = 32

    def __post_init__(self):
        positive("window", self.window)

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens).

        Raises:
            ValueError: for a layer whose query and key projections are not known.
        """
        tokens = hidden_states.shape[1]
        return attention(hidden_states, context)(slice(max(0, tokens - self.window), tokens)).amax(dim=(1, 2))
