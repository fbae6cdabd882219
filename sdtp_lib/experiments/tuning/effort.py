"""How much work a tuning does: prompts, epochs and candidates, for the default and for `--quick`."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import SENTENCES


@dataclass(frozen=True)
class Effort:
    """Numbers that decide how long a tuning takes.

    Attributes:
        train, search, held_out: prompts of each part, at most.
        epochs: of training, over the marks.
        depths: where schedules begin, as a share of the model's layers.
        stages: how many cuts they have.
        place_look: prompts of the search part that one cut is tried on at every layer, see `places.look`.
        places: layers of each FLOP ratio, those where that cut loses least, that join the schedules.
        first_look: prompts of the search part that every candidate is tried on.
        finalists: candidates of each FLOP ratio, at least, that all of that part is spent on.
        repeats: timed prefills of each side.
    """

    train: int
    search: int
    held_out: int
    epochs: int
    depths: tuple[float, ...]
    stages: tuple[int, ...]
    place_look: int
    places: int
    first_look: int
    finalists: int
    repeats: int

    @property
    def wanted(self) -> dict[str, int]:
        """Prompts of each part."""
        return {"train": self.train, "search": self.search, "held_out": self.held_out}


FULL = Effort(
    train=96, search=24, held_out=40, epochs=8, depths=(0.13, 0.25, 0.4, 0.5), stages=(1, 2, 4), place_look=8,
    places=2, first_look=4, finalists=12, repeats=5,
)  # fmt: skip
QUICK = Effort(
    train=24, search=16, held_out=20, epochs=4, depths=(0.25, 0.4), stages=(1, 4), place_look=8, places=1,
    first_look=4, finalists=6, repeats=3,
)  # fmt: skip
POOLS = (1, 7, SENTENCES)  # how scores are pooled, see `scorers.pooling`
