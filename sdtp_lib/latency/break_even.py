"""From which prompt length on pruning pays, and how time grows with the prompt: read from a latency document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import linear_regression

from .files import lookup, series

PAYS, LOSES, EVEN = "pays", "loses", "even"
AT_MOST, ABOVE, ABOUT = "<=", ">", "about"


@dataclass(frozen=True)
class BreakEven:
    """The shortest prompt from which pruning pays, at that length and every longer one measured.

    Attributes:
        part: prefill, decode or total.
        bound: "<=": the shortest length that did not come out even pays already; ">": the longest measured does not
            pay; "about": interpolated; "": nothing was measured.
        tokens: the break-even length, or the measured length that bounds it; None if nothing was measured.
        between: (last length that loses, first that pays) -> speedup, if interpolated.
        even: measured lengths where the repeats of both sides overlap, so that neither wins.
        spread: whether repeats tell how far the times scatter; from one alone every difference counts.
    """

    part: str
    bound: str = ""
    tokens: float | None = None
    between: Mapping[int, float] | None = None
    even: tuple[int, ...] = ()
    spread: bool = True

    @property
    def short(self) -> str:
        """As `about 730` or `<= 512`; empty if nothing was measured."""
        return f"{self.bound} {_rounded(self.tokens) if self.between else self.tokens}" if self.bound else ""

    @property
    def text(self) -> str:
        """For a table's notes, as `about 730 tokens (interpolated between 512, 0.97x, and 1024, 1.10x)`."""
        if not self.bound:
            return "not measured"
        words = f"{self.short} tokens"
        if self.between:
            (lost, low), (paid, high) = self.between.items()
            words += f" (interpolated between {lost}, {low:.2f}x, and {paid}, {high:.2f}x)"
        if self.even:
            words += f", even within the spread at {', '.join(map(str, self.even))}"
        return words if self.spread else f"{words}, one repeat"


def break_even(document: Mapping, part: str = "prefill") -> BreakEven:
    """Where pruning starts to pay in a latency document with its own baseline.

    A length pays or loses where the repeats of the two sides do not overlap, and is even where they do. Between the
    last length that loses and the first that pays (none longer loses) the speedup's logarithm is interpolated over the
    length's.

    Args:
        part: prefill, decode or total.
    """
    gains = series(document, "speedup", part)
    if not gains:
        return BreakEven(part)
    spreads = {length: _spreads(document["results"][str(length)], part) for length in gains}
    states = {length: _state(gains[length], *spreads[length]) for length in gains}
    found = {state: [length for length in gains if states[length] == state] for state in (PAYS, LOSES, EVEN)}
    known = any(low < high for pair in spreads.values() for low, high in filter(None, pair))
    details = {"even": tuple(found[EVEN]), "spread": known}
    lost = max(found[LOSES], default=0)
    paid = min((length for length in found[PAYS] if length > lost), default=None)
    if paid is None:
        return BreakEven(part, ABOVE, max(gains), **details)
    if not lost:
        return BreakEven(part, AT_MOST, paid, **details)
    low, high = math.log(gains[lost]), math.log(gains[paid])
    tokens = lost * (paid / lost) ** (-low / (high - low))
    return BreakEven(part, ABOUT, tokens, {lost: gains[lost], paid: gains[paid]}, **details)


def scaling_exponent(document: Mapping, side: str = "baseline", part: str = "prefill") -> float | None:
    """Least-squares slope of log seconds over log length: 1 is linear, 2 quadratic; None below two lengths.

    Args:
        side: baseline or sdtp.
        part: prefill, decode or total.
    """
    seconds = series(document, side, f"{part}_latency_seconds")
    if len(seconds) < 2:
        return None
    return linear_regression([*map(math.log, seconds)], [*map(math.log, seconds.values())]).slope


def _spreads(record: Mapping, part: str) -> tuple[list[float] | None, list[float] | None]:
    """[fastest, slowest] seconds of the full and of the pruned model, None where a file holds none."""
    return lookup(record, "baseline", "spread", part), lookup(record, "sdtp", "spread", part)


def _state(gain: float, full: list[float] | None, pruned: list[float] | None) -> str:
    if gain == 1 or (full and pruned and full[0] <= pruned[1] and pruned[0] <= full[1]):
        return EVEN
    return PAYS if gain > 1 else LOSES


def _rounded(tokens: float) -> int:
    """To two digits: interpolation says no more."""
    return int(round(tokens, 1 - math.floor(math.log10(tokens))))
