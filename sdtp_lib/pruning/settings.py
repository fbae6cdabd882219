"""What a user says about pruning: the schedule, the score, and how later input and positions are treated."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from .never_cut import Keep, NeverCut
from .schedule import PruningSchedule
from .scoring import Scorer


@dataclass(eq=False)
class PruningSettings:
    """How to prune, see `TokenPruning`, which adds the `with` block to it.

    Raises:
        ValueError: for an unknown option.
    """

    schedule: PruningSchedule
    scorer: Scorer | None = None
    positions: str = "original"
    prune: str = "first"
    min_prompt_tokens: int = 0
    log: str | os.PathLike | None = None
    generator: torch.Generator | None = None
    keep: Keep | NeverCut | None = None

    def __post_init__(self):
        self.keep = NeverCut.of(self.keep)
        if self.positions not in ("original", "compact"):
            raise ValueError(f"positions must be 'original' or 'compact', got {self.positions!r}")
        if self.prune not in ("first", "every"):
            raise ValueError(f"prune must be 'first' or 'every', got {self.prune!r}")
        least = self.min_prompt_tokens
        if isinstance(least, bool) or not isinstance(least, int) or least < 0:
            raise ValueError(f"min_prompt_tokens must be a whole number, 0 or more, got {least!r}")
        if self.scorer is None and self.schedule.layers:
            raise ValueError("a schedule that cuts needs a scorer")
