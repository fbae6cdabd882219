"""Figures of quality: against the layer of a single cut (Fig. 4), the number of stages (Fig. 5), and prefill FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator, PercentFormatter

from .. import paper
from .style import GREY, Figure, line_styles, new_figure, styled


@styled
def single_cut_quality(points: Sequence[Mapping], full: float) -> Figure:
    """Fig. 4: score against the layer of one cut, a line per keep ratio, and the paper's values read off at layer 1.

    Args:
        points: of `experiments.fig4_single_cut.single_cuts`, measured.
        full: score of the full model, 0 to 100.
    """
    figure, axes = new_figure(7.5, 4.2)
    methods, shown = _methods(points), set()
    curves = sorted({(point["ratio"], point["method"]) for point in points}, reverse=True)
    for (ratio, method), style in zip(curves, line_styles(), strict=False):
        some = [p for p in points if (p["ratio"], p["method"]) == (ratio, method)]
        _curve(axes, some, "layer", f"r = {ratio:g}" + (f", {method}" if len(methods) > 1 else ""), style)
        if ratio in paper.FIG4_LAYER1 and ratio not in shown:
            shown.add(ratio)
            axes.plot(
                1, paper.FIG4_LAYER1[ratio], "*", markersize=11, color=style["color"], markerfacecolor="white",
                label=f"paper, r = {ratio:g} (read off)",
            )  # fmt: skip
    axes.axhline(full, color="black", linewidth=0.9, label="full model")
    axes.axhline(paper.FIG4_FULL, color=GREY, linestyle=":", label="paper: Llama2-7B on WinoGrande, full")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(figure, axes, "layer of the one cut")


@styled
def stage_quality(points: Sequence[Mapping], full: float) -> Figure:
    """Fig. 5: score against the number of stages, a line per method.

    Args:
        points: of `experiments.fig5_stages.stage_counts`, measured.
        full: score of the full model, 0 to 100.
    """
    return _against_count(points, full, "stages", "stages")


@styled
def pooled_quality(points: Sequence[Mapping], full: float) -> Figure:
    """Score against the number of neighbours that scores are pooled over, a line per method.

    Args:
        points: of `experiments.question_aware.pooled_points`, measured.
        full: score of the full model, 0 to 100.
    """
    return _against_count(points, full, "width", "tokens that scores are pooled over")


@styled
def quality_against_flops(points: Sequence[Mapping], full: float) -> Figure:
    """Score against the share of prefill FLOPs that is left, a line per method: who wins at which budget.

    Args:
        points: of `experiments.schedule_quality.budgets`, measured; whiskers are 95% intervals.
        full: score of the full model, 0 to 100.
    """
    figure, axes = new_figure(8, 4.6)
    for method, style in zip(_methods(points), line_styles(), strict=False):
        _curve(axes, [p for p in points if p["method"] == method], "flops", method, style)
    axes.plot(1, full, "x", color="black", label="full model")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.invert_xaxis()
    return _finish(figure, axes, "prefill FLOPs left (of the full model's)")


@styled
def blend_quality(rows: Sequence[Mapping], full: Mapping) -> Figure:
    """Scores of the first and of the second question against the share of the budget that the first one chose.

    Args:
        rows: of `experiments.second_question.second_question`, each with its `share`; whiskers are 95% intervals.
        full: the full model's row.
    """
    figure, axes = new_figure(6.5, 4.2)
    for turn, style in zip(("first", "second"), line_styles(), strict=False):
        points = [{"share": row["share"], "score": row[turn], "ci95": row[f"{turn}_ci95"]} for row in rows]
        _curve(axes, points, "share", f"{turn} question", style)
        axes.axhline(full[turn], color=style["color"], linewidth=0.9, linestyle=":", label=f"full model, {turn}")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    return _finish(figure, axes, "share of the budget by the first question, the rest by general saliency")


def _methods(points: Sequence[Mapping]) -> list[str]:
    return list(dict.fromkeys(point["method"] for point in points))


def _against_count(points: Sequence[Mapping], full: float, key: str, label: str) -> Figure:
    """Score against a whole number of the points, a line per method."""
    figure, axes = new_figure(7.5, 4)
    for method, style in zip(_methods(points), line_styles(), strict=False):
        _curve(axes, [p for p in points if p["method"] == method], key, method, style)
    axes.axhline(full, color="black", linewidth=0.9, label="full model")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(figure, axes, label)


def _curve(axes, points: Sequence[Mapping], x: str, label: str, style: Mapping) -> None:
    """Scores with their intervals against the points' `x`."""
    points = sorted(points, key=lambda point: point[x])
    scores = [point["score"] for point in points]
    spread = [[abs(score - point["ci95"][end]) for score, point in zip(scores, points, strict=True)] for end in (0, 1)]
    axes.errorbar([point[x] for point in points], scores, yerr=spread, capsize=2, elinewidth=0.8, label=label, **style)


def _finish(figure: Figure, axes, what: str) -> Figure:
    axes.set(xlabel=what, ylabel="score (0 to 100)")
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper center", ncols=min(4, len(entries[0])), fontsize="small")
    return figure
