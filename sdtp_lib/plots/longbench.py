"""Figures of LongBench scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..evaluation.bootstrap import score_columns
from .style import Figure, looks, new_figure, styled


@styled
def longbench_bars(table: pd.DataFrame) -> Figure:
    """Table 1 as bars, by category and method, with 95% intervals; `table` as `bootstrap.table1` makes it."""
    figure, axes = new_figure(11, 4.5)
    columns = [name for name in score_columns(table) if table[name].notna().any()]
    width = 0.85 / len(table)
    for index, (row, look) in enumerate(zip(table.to_dict("records"), looks(table["method"]), strict=True)):
        at = np.arange(len(columns)) + (index - (len(table) - 1) / 2) * width
        scores = np.array([row[name] for name in columns], dtype=float)
        ends = [row.get(f"{name} ci95") for name in columns]
        ends = np.array([end if isinstance(end, (list, tuple)) else (np.nan, np.nan) for end in ends], dtype=float)
        errors = np.clip(np.abs([scores - ends[:, 0], ends[:, 1] - scores]), 0, None)
        style = {"color": look["color"], "edgecolor": "white", "error_kw": {"capsize": 2, "elinewidth": 1}}
        style["hatch"] = "///" if look.get("linestyle") == "--" else ""  # on top of pruning
        axes.bar(at, scores, width, yerr=errors, label=row["method"], **style)
    axes.set_xticks(range(len(columns)), columns)
    axes.set(xlabel="category", ylabel="score (0 to 100), 95% interval", ylim=(0, 105))
    axes.grid(axis="x", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(7, len(table)))
    return figure
