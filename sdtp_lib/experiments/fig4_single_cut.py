"""Figure 4: where one cut falls, and how much it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import paper
from ..markdown import Markdown, paper_ours
from ..pruning.schedule import PruningSchedule
from .schedule_quality import Point


def single_cuts(layers: Sequence[int], ratios: Sequence[float], methods: Sequence[str] = ("sdtp",)) -> list[Point]:
    """One cut at each of `layers` with each of `ratios` (Fig. 4); labelled `layer` and `ratio`."""
    return [
        {"method": method, "ratio": ratio, "layer": layer, "schedule": PruningSchedule((layer,), ratio)}
        for method in methods
        for ratio in ratios
        for layer in layers
    ]


def single_cuts_against_paper(found: Mapping) -> Markdown:
    """Points lost by one cut at layer 1: Fig. 4's, read off, and ours (`full`, and `points` of `single_cuts`)."""
    ours = {point["ratio"]: point["score"] - found["full"] for point in found["points"] if point["layer"] == 1}
    theirs = {ratio: score - paper.FIG4_FULL for ratio, score in paper.FIG4_LAYER1.items()}
    return paper_ours([(f"one cut at layer 1, r = {ratio:g}", lost, ours.get(ratio)) for ratio, lost in theirs.items()])
