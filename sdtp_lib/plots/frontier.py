"""Figures of what pruning costs a real model: against the FLOPs it saves, and against the layer of one cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mode

from matplotlib.ticker import MaxNLocator

from .kinds import LATER, PAPERS
from .style import GREY, Figure, looks, new_figure, styled, whiskers


@styled
def frontier_curves(curves: Mapping[str, Mapping[str, Sequence[Mapping]]], measure: str, label: str) -> Figure:
    """A panel a task: the paired difference to the full model, with its 95% interval, against FLOPs full / pruned.

    Args:
        curves: task -> label -> rows, as `experiments.real.frontier.curves` gives them.
        measure: of a row: `score`, `right` or `nll`.
        label: what the difference is called, with its unit.
    """
    names = list(dict.fromkeys(name for some in curves.values() for name in some))
    # A pruner is drawn as its design; the fewer cuts there are, the wider the line and the larger the marker.
    each = [name.removeprefix("sdtp, ").removesuffix(f"; {LATER}").removesuffix(f"; {PAPERS}") for name in names]
    styles = {name: look | _size(name) for name, look in zip(names, looks(each), strict=True)}
    figure, panels = new_figure(5.2 * len(curves), 4.4, 1, len(curves), squeeze=False)
    for (task, some), axes in zip(curves.items(), panels[0], strict=True):
        axes.axhline(0, color=GREY, linewidth=0.9)
        for name, rows in some.items():
            cells, flops = [row[measure]["difference"] for row in rows], [row["flops"] for row in rows]
            means, ends = [cell["mean"] for cell in cells], [cell["ci95"] for cell in cells]
            whiskers(axes, flops, means, ends, label=name, **styles[name])
        axes.set(title=task, xlabel="FLOPs of the prefill, full / pruned", ylabel=label)
    found = {name: handle for axes in panels[0] for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown = [_entry(name, [row for some in curves.values() for row in some.get(name, ())]) for name in found]
    figure.legend(found.values(), shown, loc="outside upper center", ncols=2, fontsize="small")
    return figure


@styled
def layer_curves(curves: Mapping[str, Sequence[Mapping]], measure: str, label: str) -> Figure:
    """A measure against the layer of the one cut, with its 95% interval; a share of tokens unlike most is named.

    Args:
        curves: label -> rows, as `experiments.real.frontier.by_layer` gives them; the full model's is drawn as a band,
            of all its records, also where a row has fewer.
        measure: of a row: `score`, `right` or `nll`.
        label: what it is called, with its unit.

    Raises:
        ValueError: if there is no row of one cut.
    """
    cut = {name: rows for name, rows in curves.items() if name != "full"}
    if not cut:
        raise ValueError("there is no row of one cut to draw")
    usual = mode(f"{row['stays']:.0%}" for rows in cut.values() for row in rows)
    figure, axes = new_figure(7.2, 4.2)
    for row in curves["full"]:
        axes.axhline(row[measure]["mean"], color=GREY, label=f"full (n {row['n']})")
        axes.axhspan(*row[measure]["ci95"], color=GREY, alpha=0.12)
    for number, ((name, rows), look) in enumerate(zip(cut.items(), looks(cut), strict=True)):
        cells, layers = [row[measure] for row in rows], [row["layers"][0] for row in rows]
        means, ends = [cell["mean"] for cell in cells], [cell["ci95"] for cell in cells]
        whiskers(axes, layers, means, ends, label=_entry(name, rows), **look | {"markersize": 8})
        for row, layer, mean in zip(rows, layers, means, strict=True):
            if (share := f"{row['stays']:.0%}") != usual:
                axes.annotate(share, (layer, mean), (8, 4 - 12 * number), textcoords="offset points", size=8)
    title = f"{usual} of the tokens stay where nothing else is said"
    axes.set(xlabel="layer of the cut", ylabel=label, title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=2, fontsize="small")
    return figure


def _entry(name: str, rows: Sequence[Mapping]) -> str:
    """A curve in the legend: its name, and how many records its points are of."""
    asked = [row["n"] for row in rows]
    return f"{name} (n {' to '.join(map(str, sorted({min(asked), max(asked)})))})"


def _size(name: str) -> dict:
    """How a curve is drawn besides its colour: hollow where each token is scored alone."""
    later, alone = name.endswith(LATER), not any(word in name for word in ("pooled", "sentences", "bm25"))
    return {
        "linewidth": 2.2 if later else 1.0, "markersize": 9 if later else 6,
        **({"markerfacecolor": "white"} if alone else {}),
    }  # fmt: skip
