"""Text that a notebook shows as Markdown, and the table that ends a section: the paper beside what was found here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import results


class Markdown(str):
    """Text that a notebook shows as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def paper_ours(rows: Iterable[tuple], digits: int = 2) -> Markdown:
    """The table that ends a notebook's section: what the paper says, what was found here, and the difference.

    Args:
        rows: (quantity, paper's number, ours) or (quantity, paper's, ours, digits); None or NaN where there is none, a
            text where it is no number.

    Returns:
        The rows that have a number of ours. Where these are several and all zero there is nothing to compare, and a
        sentence says so.
    """
    table, rows = [], [row for row in rows if not is_missing(row[2])]
    if not rows:
        return Markdown("Nothing of this was measured here.")
    numbers = [(theirs, ours) for _, theirs, ours, *_ in rows if not isinstance(ours, str)]
    if 1 < len(rows) == len(numbers) and not any(round(ours, digits) for _, ours in numbers):
        known = [theirs for theirs, _ in numbers if not is_missing(theirs)]
        said = f"; the paper's are {min(known):+.{digits}f} to {max(known):+.{digits}f}" if known else ""
        return Markdown(f"No difference at all was measured here{said}: {', '.join(row[0] for row in rows)}.")
    for quantity, theirs, ours, *places in rows:
        places = places[0] if places else digits
        both = not any(is_missing(value) or isinstance(value, str) for value in (theirs, ours))
        difference = number_text(ours - theirs, places, sign=True) if both else "-"
        table.append(
            dict(
                zip(
                    ("", "paper", "ours", "difference"),
                    (quantity, number_text(theirs, places), number_text(ours, places), difference),
                    strict=True,
                )
            )
        )
    return Markdown(results.markdown_table(table))


def interval_text(ends: Sequence[float], digits: int = 1, sign: bool = False) -> str | None:
    """`87.0 to 99.4`; None for one without width, which one sample has, or samples that are all alike."""
    low, high = (number_text(end, digits, sign) for end in ends)
    return None if low == high else f"{low} to {high}"


def is_missing(value) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def number_text(value: float | str | None, digits: int, sign: bool = False) -> str:
    if is_missing(value):
        return "-"
    if isinstance(value, str):
        return value
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{digits}f}"
