"""What a reader says of a claim: the answer, its status, and on how much it rests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..evaluation.intervals import Interval

CEILING = 99.0  # points of 100 from which two scores are both perfect, so that a difference could not be seen


class Status(StrEnum):
    """What a claim comes to; where it was measured stands beside it."""

    HOLDS = "holds"
    CEILING = "at ceiling"
    CONSTRUCTION = "true by construction"
    FAILS = "does not hold"
    UNDECIDED = "not decided"
    NOT_RUN = "not run"

    @classmethod
    def of(cls, holds: bool | None) -> Status:
        """Of what holds or does not; None: it is not decided."""
        return cls.UNDECIDED if holds is None else cls.HOLDS if holds else cls.FAILS

    @classmethod
    def decided(cls, holds: bool, fails: bool) -> Status:
        """Of what clearly holds, or else clearly fails; if it does neither, it is not decided."""
        return cls.HOLDS if holds else cls.FAILS if fails else cls.UNDECIDED

    @classmethod
    def of_scores(cls, scores: Iterable[float], holds: bool | Status) -> Status:
        """AT CEILING where all scores, 0 to 100, are perfect; else whether it holds, or what was found."""
        if min(scores) >= CEILING:
            return cls.CEILING
        return holds if isinstance(holds, Status) else cls.of(holds)

    @classmethod
    def of_all(cls, parts: Iterable[Status]) -> Status:
        """Of a claim with several parts: one that fails decides; else one that is not decided; else one at ceiling."""
        parts = {*parts}
        return next(status for status in (cls.FAILS, cls.UNDECIDED, cls.CEILING, cls.HOLDS) if status in parts)


@dataclass(frozen=True)
class Finding:
    """One answer to a claim.

    Attributes:
        text: our number.
        status: which way it goes.
        n: how many were measured.
        chance: what chance gives, or a random choice of tokens, where that means something.
        key: where in the file the number is.
        model: what was measured, by its name in `evidence.MODELS`, where that is not the model of the whole file.
    """

    text: str
    status: Status
    n: str = ""
    chance: str = ""
    key: str = ""
    model: str | None = None


Reader = Callable[[Mapping], Finding | None]  # of a whole result file; None: it does not hold the answer


def higher(gaps: Iterable[Interval], scores: Iterable[float]) -> Status:
    """Whether one method is above another: clearly somewhere, and clearly below nowhere.

    Where it is clearly below somewhere the claim fails; where they are told apart nowhere it is not decided.

    Args:
        gaps: how much higher it is, on each task.
        scores: of both, 0 to 100.
    """
    gaps = list(gaps)
    above, below = (any(gap.low > 0 for gap in gaps), any(gap.high < 0 for gap in gaps))
    return Status.of_scores(scores, Status.decided(above and not below, below))


def over_lengths(values: Mapping[int, float], unit: str, digits: int) -> str:
    """`1.20x at 512 tokens to 1.40x at 2,048`."""
    ends = [min(values), max(values)] if len(values) > 1 else [*values]
    return " to ".join(f"{values[n]:.{digits}f}{unit} at {n:,}{' tokens' if n == ends[0] else ''}" for n in ends)


def count(n: int, what: str) -> str:
    """`1 prompt`, `1,000 records`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
