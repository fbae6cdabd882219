"""Figures of quality: against the layer of a single cut (Fig. 4), the width of pooling, and prefill FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import seaborn as sns
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .. import paper
from .style import SEQUENTIAL, Figure, line_styles, looks, new_figure, styled, whiskers


@styled
def single_cut_losses(points: Sequence[Mapping], full: float) -> Figure:
    """Fig. 4: points lost against the full model by one cut, a line per keep ratio, with the paper's at layer 1.

    Args:
        points: of `experiments.fig4_single_cut.single_cuts`, measured.
        full: score of the full model, 0 to 100.
    """
    figure, axes = new_figure(7.5, 4.2)
    methods, ratios = _methods(points), sorted({point["ratio"] for point in points}, reverse=True)
    for ratio, colour in zip(ratios, _shades(len(ratios)), strict=True):
        for method, style in zip(methods, looks(methods), strict=True):
            some = [p for p in points if (p["ratio"], p["method"]) == (ratio, method)]
            label = f"r = {ratio:g}" + (f", {method}" if len(methods) > 1 else "")
            _curve(axes, [_lost(p, full) for p in some], "layer", label, {**style, "color": colour})
        if ratio in paper.FIG4_LAYER1:
            axes.plot(
                1, paper.FIG4_LAYER1[ratio] - paper.FIG4_FULL, "*", markersize=11, color=colour,
                markerfacecolor="white", label=f"paper, r = {ratio:g} (WinoGrande, read off)",
            )  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.9, label="full model")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(figure, axes, "layer of the one cut", "pruned - full (points of 100)")


@styled
def pooled_quality(points: Sequence[Mapping], full: float) -> Figure:
    """Score against the number of neighbours that scores are pooled over, a line per method.

    Args:
        points: of `experiments.question_aware.pooled_points`, measured.
        full: score of the full model, 0 to 100.
    """
    figure, axes = new_figure(7.5, 4)
    methods = _methods(points)
    for method, style in zip(methods, looks(methods), strict=True):
        _curve(axes, [p for p in points if p["method"] == method], "width", method, style)
    axes.axhline(full, color="black", linewidth=0.9, label="full model")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(figure, axes, "tokens that scores are pooled over")


@styled
def quality_against_flops(points: Sequence[Mapping], full: float) -> Figure:
    """Score against the share of prefill FLOPs that is left, a line per method: who wins at which budget.

    Dotted to the full model, which every method is where nothing is cut.

    Args:
        points: of `experiments.schedule_quality.budgets`, measured; whiskers are 95% intervals.
        full: score of the full model, 0 to 100.
    """
    figure, axes = new_figure(8, 4.6)
    methods = _methods(points)
    for method, style in zip(methods, looks(methods), strict=True):
        some = [p for p in points if p["method"] == method]
        _curve(axes, some, "flops", method, style)
        least = max(some, key=lambda point: point["flops"])
        axes.plot([1, least["flops"]], [full, least["score"]], ":", color=style["color"], linewidth=0.9)
    axes.plot(1, full, "x", color="black", label="full model")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.invert_xaxis()
    return _finish(figure, axes, "prefill FLOPs left (of the full model's)")


@styled
def blend_quality(rows: Sequence[Mapping]) -> Figure:
    """Scores of the first and of the second question against the share of the budget that the first one chose.

    Args:
        rows: of `experiments.second_question.second_question`: those with a `share`, and the full model's; whiskers are
            95% intervals.
    """
    (full,) = [row for row in rows if row["method"] == "full"]
    rows = [row for row in rows if row["share"] is not None]
    figure, axes = new_figure(6.5, 4.2)
    for turn, style in zip(("first", "second"), line_styles(), strict=False):
        points = [{"share": row["share"], "score": row[turn], "ci95": row[f"{turn}_ci95"]} for row in rows]
        _curve(axes, points, "share", f"{turn} question", style)
        axes.axhline(full[turn], color=style["color"], linewidth=0.9, linestyle=":", label=f"full model, {turn}")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    return _finish(figure, axes, "share of the budget by the first question, the rest by general saliency")


def _methods(points: Sequence[Mapping]) -> list[str]:
    return list(dict.fromkeys(point["method"] for point in points))


def _lost(point: Mapping, full: float) -> dict:
    """The point with its difference from the full model for a score: the paired one, where that was measured."""
    apart = {"difference": point["score"] - full, "ci95": [end - full for end in point["ci95"]]}
    against = point.get("against_full", apart)
    return {**point, "score": against["difference"], "ci95": against["ci95"]}


def _shades(count: int) -> list[str]:
    """Colours of keep ratios, the lightest where most is kept."""
    return sns.color_palette(SEQUENTIAL, count + 1).as_hex()[1:]


def _curve(axes, points: Sequence[Mapping], x: str, label: str, style: Mapping) -> None:
    """Scores with their intervals against the points' `x`."""
    points = sorted(points, key=lambda point: point[x])
    scores = [point["score"] for point in points]
    ends = [point["ci95"] for point in points]
    whiskers(axes, [point[x] for point in points], scores, ends, label=label, **style)


def _finish(figure: Figure, axes, what: str, shown: str = "score (0 to 100)") -> Figure:
    axes.set(xlabel=what, ylabel=shown)
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper center", ncols=min(3, len(entries[0])), fontsize="small")
    return figure
