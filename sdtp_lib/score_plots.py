"""Figures of the measurements: latency, speedup and KV cache against prompt length, and LongBench scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from . import paper_numbers as paper
from .canvas import GREY, PALETTE, Figure, finish, line_styles, new_figure, styled
from .latency_files import series

PARTS = {"prefill": "Prefill", "decode": "Decode", "total": "End to end"}
PAPER_SPEEDUPS = {"prefill": "prefill x", "total": "end2end x"}


@styled
def latency(documents: Mapping[str, dict], part: str = "prefill") -> Figure:
    """Seconds against prompt length, full and pruned; bars go from the fastest to the slowest repeat.

    Args:
        documents: label -> latency document of a sweep; the first one's baseline is drawn.
        part: prefill, decode or total.
    """
    figure, axes = new_figure(7.5, 4.2)
    sides = {"full": (next(iter(documents.values())), "baseline")}
    sides.update({name: (document, "sdtp") for name, document in documents.items()})
    for (name, (document, side)), style in zip(sides.items(), line_styles(full=True), strict=False):
        seconds = series(document, side, f"{part}_latency_seconds")
        spread = series(document, side, "spread", part)
        ends = [spread.get(length, (seconds[length],) * 2) for length in seconds]
        bars = [[abs(s - end[which]) for s, end in zip(seconds.values(), ends, strict=True)] for which in (0, 1)]
        axes.errorbar(list(seconds), list(seconds.values()), yerr=bars, capsize=3, label=name, **style)
    axes.set(ylabel=f"{PARTS[part]} (s)", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    _length_axis(axes, {length for document in documents.values() for length in series(document, "baseline")})
    return finish(figure, axes)


@styled
def speedup(documents: Mapping[str, dict], part: str = "prefill", with_paper: bool = True) -> Figure:
    """Speedup against prompt length, dashed its limit by FLOPs, and the paper's own points (another model, a GPU)."""
    figure, axes = new_figure(7.5, 4.2)
    lengths: set[int] = set()
    for (name, document), style in zip(documents.items(), line_styles(), strict=False):
        values = series(document, "speedup", part)
        limits = series(document, "flops" if part == "prefill" else "flops_end2end", "ratio")
        axes.plot(list(values), list(values.values()), label=name, **style)
        axes.plot(
            list(limits), [1 / ratio for ratio in limits.values()], color=style["color"], linestyle="--", linewidth=1.2
        )
        lengths |= set(values)
    axes.plot([], [], color=GREY, linestyle="--", linewidth=1.2, label="limit by FLOPs")
    if with_paper and part in PAPER_SPEEDUPS:
        points = {length: row[PAPER_SPEEDUPS[part]] for length, row in paper.TABLE2.items()}
        label = "paper: Mistral-7B, r = 0.9, GPU"
        axes.plot(
            list(points), list(points.values()), linestyle=":", marker="*", markersize=10, color=GREY, label=label
        )
        lengths |= set(points)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(ylabel=f"{PARTS[part]} speedup (x)")
    _length_axis(axes, lengths)
    return finish(figure, axes)


@styled
def kv_reduction(documents: Mapping[str, dict]) -> Figure:
    """Share of all layers' keys that the cache does not hold, against prompt length."""
    figure, axes = new_figure(7.5, 4)
    for (name, document), style in zip(documents.items(), line_styles(), strict=False):
        values = series(document, "kv_reduction")
        axes.plot(list(values), list(values.values()), label=name, **style)
    axes.set(ylabel="KV cache saved, all layers", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _length_axis(axes, {length for document in documents.values() for length in series(document, "kv_reduction")})
    return finish(figure, axes)


@styled
def longbench_bars(table: pd.DataFrame) -> Figure:
    """Table 1 as bars, by category and method, with 95% intervals; `table` as `evaluation.summary.table1` makes it."""
    figure, axes = new_figure(11, 4.5)
    columns = [name for name in (*paper.CATEGORIES, "AVG") if table[name].notna().any()]
    width = 0.85 / len(table)
    for index, row in enumerate(table.to_dict("records")):
        at = np.arange(len(columns)) + (index - (len(table) - 1) / 2) * width
        scores = np.array([row[name] for name in columns], dtype=float)
        ends = [row.get(f"{name} ci95") for name in columns]
        ends = np.array([end if isinstance(end, (list, tuple)) else (np.nan, np.nan) for end in ends], dtype=float)
        errors = np.clip(np.abs([scores - ends[:, 0], ends[:, 1] - scores]), 0, None)
        colour = GREY if row["method"] == "full" else PALETTE[(index - 1) % len(PALETTE)]
        hatch = ("", "", "///", "...", "xxx", "\\\\\\")[index % 6]
        style = {"color": colour, "edgecolor": "white", "hatch": hatch, "error_kw": {"capsize": 2, "elinewidth": 1}}
        axes.bar(at, scores, width, yerr=errors, label=row["method"], **style)
    axes.set_xticks(range(len(columns)), columns)
    axes.set(xlabel="LongBench category", ylabel="score (0 to 100), 95% interval", ylim=(0, 105))
    axes.grid(axis="x", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(table))
    return figure


def _length_axis(axes, lengths: set[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(lengths), [f"{n // 1024}K" if n % 1024 == 0 else str(n) for n in sorted(lengths)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("prompt (tokens)")
