"""Figure of the evidence that a single cut keeps, against the layer it is made at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator, PercentFormatter

from .style import Figure, line_styles, new_figure, styled


@styled
def evidence_curves(
    rows: Sequence[Mapping], tasks: Sequence[str], ratios: Sequence[float], names: Mapping[str, tuple[str, str]]
) -> Figure:
    """A panel a task and ratio: share of the evidence kept, with its 95% interval, against the cut's layer.

    Args:
        rows: of `experiments.real.evidence.kept_evidence`.
        names: label of a curve -> (score, pool); the first one is drawn grey, as what bounds the others.
    """
    found = {tuple(row[key] for key in ("task", "ratio", "score", "pool")): row for row in rows}
    figure, panels = new_figure(4.2 * len(ratios), 3.2 * len(tasks), len(tasks), len(ratios), sharex=True, sharey=True,
                                squeeze=False)  # fmt: skip
    for task, line in zip(tasks, panels, strict=True):
        for ratio, axes in zip(ratios, line, strict=True):
            for (label, name), style in zip(names.items(), line_styles(full=True), strict=False):
                row = found[task, ratio, *name]
                axes.plot(row["layers"], row["share"], label=label, markersize=5, **style)
                axes.fill_between(row["layers"], *zip(*row["ci95"], strict=True), color=style["color"], alpha=0.08)
            axes.set(title=f"{task}, {ratio:.0%} kept", ylim=(0, 1.02))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in panels[-1]:
        axes.set_xlabel("layer of the cut")
    for axes in panels[:, 0]:
        axes.set_ylabel("evidence kept")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize="small")
    return figure
