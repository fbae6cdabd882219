"""Figure 4: where one cut falls, and how much it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import paper
from ..evaluation.paired_differences import LOWER, UNKNOWN
from ..markdown import Markdown, interval_text, paper_ours
from ..pruning.schedule import PruningSchedule
from ..results import markdown_table
from .schedule_quality import Point


def single_cuts(layers: Sequence[int], ratios: Sequence[float], methods: Sequence[str] = ("sdtp",)) -> list[Point]:
    """One cut at each of `layers` with each of `ratios` (Fig. 4); labelled `layer` and `ratio`."""
    return [
        {"method": method, "ratio": ratio, "layer": layer, "schedule": PruningSchedule((layer,), ratio)}
        for method in methods
        for ratio in ratios
        for layer in layers
    ]


def free_from(points: Sequence[Point], full: float) -> Markdown:
    """From which layer on one cut costs nothing that is seen: for each method and ratio, by the paired differences.

    Args:
        points: of `single_cuts`, measured beside the full model's samples.
        full: its score, 0 to 100.
    """
    rows = []
    for method, ratio in dict.fromkeys((point["method"], point["ratio"]) for point in points):
        some = [point for point in points if (point["method"], point["ratio"]) == (method, ratio)]
        some.sort(key=lambda point: point["layer"])
        lost = [point["layer"] for point in some if point["against_full"]["verdict"] == LOWER]
        free = [point for point in some if point["layer"] > max(lost, default=0)]
        row = {"method": method, "kept": ratio, "full model": full, "nothing lost from layer": "nowhere"}
        if any(point["against_full"]["verdict"] == UNKNOWN for point in some):
            row["nothing lost from layer"] = UNKNOWN
        elif free:
            least, ends = free[0], free[0]["against_full"]["ci95"]
            row |= {"nothing lost from layer": str(least["layer"]), "score": least["score"],
                    "- full, 95%": interval_text(ends, sign=True), "FLOPs, %": 100 * least["flops"]}  # fmt: skip
        rows.append(row)
    return Markdown(markdown_table(rows, {"kept": 1, "full model": 1, "score": 1, "FLOPs, %": 0}))


def single_cuts_against_paper(found: Mapping) -> Markdown:
    """Points lost by one cut at layer 1: Fig. 4's, read off, and ours (`full`, and `points` of `single_cuts`)."""
    ours = {point["ratio"]: point["score"] - found["full"] for point in found["points"] if point["layer"] == 1}
    theirs = {ratio: score - paper.FIG4_FULL for ratio, score in paper.FIG4_LAYER1.items()}
    return paper_ours([(f"one cut at layer 1, r = {ratio:g}", lost, ours.get(ratio)) for ratio, lost in theirs.items()])
