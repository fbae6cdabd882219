"""Figures of one pruned prompt: who survives where, keys per layer, and how the scores lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.ticker import PercentFormatter

from .style import PALETTE, Figure, finish, new_figure, styled


@styled
def survival_matrix(last_layer: Sequence[int], num_layers: int) -> Figure:
    """Which token is present at which layer; `last_layer` as `last_layers` gives it."""
    figure, axes = new_figure(11, 4)
    present = np.arange(num_layers)[:, None] <= np.asarray(last_layer)[None, :]  # (layers, tokens)
    axes.pcolormesh(present, cmap=ListedColormap(["#e8e8e8", PALETTE[0]]), vmin=0, vmax=1)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(num_layers) + 0.5, [*map(str, range(num_layers))], fontsize="small")
    axes.set(
        xlabel="token of the prompt",
        ylabel="layer",
        title=f"blue: present; {present[-1].mean():.0%} reach the last layer",
    )
    axes.grid(False)
    return figure


@styled
def kv_lengths(measured: Sequence[int], scheduled: Sequence[int]) -> Figure:
    """Keys per layer right after the prefill, read from the cache, against `PruningSchedule.lengths`."""
    figure, axes = new_figure(7.5, 4)
    axes.bar(range(len(measured)), measured, color=PALETTE[0], alpha=0.75, label="read from the cache")
    edges = np.arange(len(scheduled) + 1) - 0.5
    axes.stairs(scheduled, edges, baseline=None, color=PALETTE[3], linewidth=2, label="by the schedule")
    axes.set(
        xlabel="layer",
        ylabel="keys in the cache (tokens)",
        xlim=(-0.6, len(measured) - 0.4),
        ylim=(0, max(*measured, *scheduled) * 1.05),
    )
    return finish(figure, axes)


@styled
def score_distribution(rows: Sequence[Mapping]) -> Figure:
    """Scores per stage over all prompts of a prune log: range, mean size, and where a tie decided, in how many cuts.

    Args:
        rows: rows of `prune_log.jsonl`.
    """
    log = pd.DataFrame(list(rows))
    tied = bool(log["ties_decided"].any())
    width, panels = (11, {"columns": 2, "width_ratios": (2, 1)}) if tied else (7.5, {})
    figure, axes = new_figure(width, 4, squeeze=False, **panels)
    left, *others = axes[0]
    log["size"] = log["score_abs_sum"] / log["tokens_before"]
    stages = log.groupby("layer").agg(
        {"score_min": ["min", "median"], "score_max": ["median", "max"], "size": "mean", "ties_decided": "mean"}
    )
    layers = [*map(str, stages.index)]
    low, high = stages["score_min"], stages["score_max"]
    left.vlines(
        layers, low["min"], high["max"], color=PALETTE[0], linewidth=1.5, label="smallest to largest, all prompts"
    )
    left.vlines(
        layers, low["median"], high["median"], color=PALETTE[0], linewidth=8, alpha=0.5, label="in the median prompt"
    )
    left.plot(layers, stages["size", "mean"], "D", color=PALETTE[3], label="mean of |score|")
    left.set(xlabel="layer of the stage", ylabel="score (keep logit)")
    for right in others:
        right.bar(layers, stages["ties_decided", "mean"], color=PALETTE[1])
        right.set(xlabel="layer of the stage", ylabel="cuts that a tie decided", ylim=(0, 1))
        right.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize="small")
    return figure
