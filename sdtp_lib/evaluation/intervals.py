"""A mean with its 95% interval, and what can be said of it against a bar."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, cell: Mapping) -> Interval:
        """Of a cell of a result file, which calls the mean `mean`, `score` or `average`."""
        return cls(next(cell[name] for name in ("mean", "score", "average") if name in cell), *cell["ci95"])

    @classmethod
    def around(cls, several: Iterable[Interval]) -> Interval:
        """The mean of several, between the lowest and the highest end."""
        several = list(several)
        return cls(mean(one.mean for one in several), min(one.low for one in several), max(one.high for one in several))

    def over(self, other: Interval) -> Interval:
        """How much higher this is; too wide rather than too narrow if both are of the same records."""
        widths = [(one.high - one.low) / 2 for one in (self, other)]  # alike multiples of a standard error
        middle, width = self.mean - other.mean, math.hypot(*widths)
        return Interval(middle, middle - width, middle + width)

    def at_least(self, bar: float) -> bool | None:
        """Whether it is `bar` or more, the whole of it; None where the bar lies between its ends."""
        return True if self.low >= bar else False if self.high < bar else None

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"
