"""Two pruned methods on the same records: the paired difference, which tells them apart better than two means do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .methods import MEASURES, paired

PAIRED = ("score", "nll")  # of MEASURES


def with_pairs(rows: Sequence[Mapping[str, Any]], samples: Mapping[str, Sequence[Mapping]]) -> list[dict[str, Any]]:
    """The rows, each pruned one with `over`: what it scores above every other one of its task, length and schedule.

    Args:
        rows: of `methods.compare_methods`.
        samples: of each file of results, by its stem.

    Returns:
        Copies of the rows; `over` is {file of the other row: {measure: `mean`, `ci95`, `n`}} for PAIRED, on the records
        that both were asked with as many tokens.
    """
    found = []
    for row in rows:
        alike = [other for other in rows if other is not row and _alike(row, other)] if row["method"] != "full" else []
        over = {other["samples"]: pair for other in alike if (pair := _paired(row, other, samples))}
        found.append({**row, **({"over": over} if over else {})})
    return found


def _alike(row: Mapping, other: Mapping) -> bool:
    return all(row[key] == other[key] for key in ("tokens", "task", "schedule"))


def _paired(row: Mapping, other: Mapping, samples: Mapping[str, Sequence[Mapping]]) -> dict[str, Any]:
    ours, theirs = (
        {(one["_id"], one["prompt_tokens"]): one for one in samples[each["samples"]] if one["dataset"] == each["task"]}
        for each in (row, other)
    )
    both = [name for name in ours if name in theirs]
    return {
        measure: paired([ours[name] for name in both], [theirs[name] for name in both], *how) | {"n": len(both)}
        for measure, how in MEASURES.items()
        if both and measure in PAIRED and measure in row and measure in other
    }  # fmt: skip
