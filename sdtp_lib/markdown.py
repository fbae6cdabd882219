"""Text that a notebook shows as Markdown, and the table that ends a section: the paper beside what was found here."""

from __future__ import annotations

from collections.abc import Iterable

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
    """
    table = []
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


def is_missing(value) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def number_text(value: float | str | None, digits: int, sign: bool = False) -> str:
    if is_missing(value):
        return "-"
    if isinstance(value, str):
        return value
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{digits}f}"
