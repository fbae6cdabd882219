"""One function per figure: plain data in, a `Figure` out that any notebook shows. `save_figure` writes it as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.ticker import PercentFormatter

from . import paper_numbers as paper
from .canvas import GREY, PALETTE, SEQUENTIAL, Figure, finish, line_styles, new_figure, save_figure, styled
from .latency_plots import hook_shares, kv_reduction, latency, limit_share, peak_memory, speedup
from .quality_plots import blend_quality, pooled_quality, quality_against_flops, single_cut_quality, stage_quality
from .score_plots import longbench_bars
from .survival import last_layers, readable, survival_html, survival_text

__all__ = [
    "blend_quality",
    "hook_shares",
    "kv_lengths",
    "kv_reduction",
    "last_layers",
    "latency",
    "limit_share",
    "longbench_bars",
    "loss_curves",
    "peak_memory",
    "pooled_quality",
    "quality_against_flops",
    "rank_correlation",
    "reading_layer",
    "saliency_map",
    "salient_share",
    "save_figure",
    "score_distribution",
    "single_cut_quality",
    "speedup",
    "stage_quality",
    "survival_html",
    "survival_matrix",
    "survival_text",
]

LABEL_POINTS = 7


@styled
def saliency_map(
    saliency: Sequence[Sequence[float]], tokens: Sequence[str], layers: Sequence[int] | None = None
) -> Figure:
    """Fig. 1: heat map of saliency, layer by token; only tokens above 10% of a layer's maximum somewhere are named.

    Args:
        saliency: (layers, tokens), not negative; every layer is scaled to a maximum of 1.
        tokens: their texts.
        layers: 0-based numbers of the rows; default 0, 1, ...

    Raises:
        ValueError: if the shapes disagree.
    """
    values = np.asarray(saliency, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(tokens):
        raise ValueError(f"saliency of shape {values.shape} does not fit {len(tokens)} tokens")
    values = values / np.maximum(values.max(axis=1, keepdims=True), np.finfo(float).tiny)
    figure, axes = new_figure(13, 2.6 + 0.17 * len(values))
    norm, label = PowerNorm(0.5, vmin=0, vmax=1), "saliency / layer's maximum\n(square-root scale)"
    names = [*range(len(values))] if layers is None else list(layers)
    sns.heatmap(values, ax=axes, cmap="rocket_r", norm=norm, yticklabels=names, cbar_kws={"label": label, "pad": 0.01})
    shown = _spaced(np.where(values.max(axis=0) > paper.SALIENT_THRESHOLD, values.mean(axis=0), 0.0), width=10.5)
    axes.set_xticks([token + 0.5 for token in shown])
    axes.set_xticklabels(
        [readable(tokens[token]).strip() for token in shown], rotation=90, fontsize=LABEL_POINTS, parse_math=False
    )
    axes.tick_params(axis="y", labelsize=LABEL_POINTS + 1, rotation=0)
    axes.set(xlabel=f"token, 0 to {len(tokens) - 1} (the most salient ones named)", ylabel="layer")
    return figure


@styled
def salient_share(share: Sequence[float], layers: Sequence[int] | None = None, model: str = "this model") -> Figure:
    """Fig. 2: share (0 to 1) of tokens above 10% of their layer's maximum, against depth, with the paper's read-off."""
    figure, axes = new_figure(7.5, 4)
    layers = list(range(len(share))) if layers is None else list(layers)
    axes.plot(layers, share, marker="o", color=PALETTE[0], label=model)
    scale = layers[-1] / (paper.FIG2_MODEL_LAYERS - 1)
    depth = [(layer - 1) * scale for layer in paper.FIG2_SALIENT_SHARE]  # the paper's figure counts from 1
    low, high = zip(*paper.FIG2_SALIENT_SHARE.values(), strict=True)
    label = f"paper, Llama2-7B on Dolly (read off; {paper.FIG2_MODEL_LAYERS} layers squeezed to this depth)"
    axes.fill_between(depth, low, high, color=PALETTE[1], alpha=0.35, linewidth=1.5, label=label)
    axes.set(xlabel="layer", ylabel="salient tokens", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return finish(figure, axes)


@styled
def reading_layer(
    layers: Sequence[int], accuracy: Sequence[float], local_layers: int = 0, baseline: float | None = None
) -> Figure:
    """Accuracy (0 to 100) when the context is hidden from layer `layers[i]` on: it rises where the answer is read.

    Args:
        local_layers: layers with sliding-window attention, shaded.
        baseline: accuracy with nothing hidden.
    """
    figure, axes = new_figure(7.5, 4)
    axes.plot(layers, accuracy, marker="o", color=PALETTE[0], label="context hidden from this layer on")
    if baseline is not None:
        axes.axhline(baseline, color=GREY, linestyle="--", label="nothing hidden")
    if local_layers:
        axes.axvspan(-0.5, local_layers - 0.5, color=PALETTE[2], alpha=0.2, label="layers with local attention")
    axes.set(xlabel="first layer without the context", ylabel="answers right (%)", ylim=(-3, 103))
    return finish(figure, axes)


@styled
def loss_curves(terms: pd.DataFrame, stages: pd.DataFrame | None = None) -> Figure:
    """Training losses on a log axis, by term and, to the right, by stage.

    Args:
        terms: index step, one column a term of Eq. 8.
        stages: index step, one column a stage's layer.
    """
    figure, axes = new_figure(6 if stages is None else 11, 4, columns=1 if stages is None else 2, squeeze=False)
    for name, style in zip(terms, line_styles(), strict=False):
        known = terms[name].dropna()  # some terms are read at every n-th step only
        axes[0, 0].plot(known.index, known, label=name, **{**style, "marker": None})
    axes[0, 0].set(xlabel="step", ylabel="loss", yscale="log")
    axes[0, 0].legend()
    if stages is not None:
        for name, colour in zip(stages, sns.color_palette(SEQUENTIAL, stages.shape[1]), strict=True):
            axes[0, 1].plot(stages.index, stages[name], color=colour, label=str(name))
        axes[0, 1].set(xlabel="step", ylabel="loss of one stage", yscale="log")
        axes[0, 1].legend(title="layer", ncols=2, fontsize="small")
    return figure


@styled
def rank_correlation(correlations: Mapping[str, Mapping[int, float]]) -> Figure:
    """Rank correlation of predicted with measured saliency on held-out prompts: method -> layer -> -1 to 1."""
    figure, axes = new_figure(7.5, 4)
    for (name, row), style in zip(correlations.items(), line_styles(), strict=False):
        axes.plot([int(layer) for layer in row], list(row.values()), label=name, **style)
    lowest = min(0.0, *(value for row in correlations.values() for value in row.values()))
    axes.set(xlabel="layer of the stage", ylabel="Spearman's rank correlation", ylim=(lowest - 0.03, 1.03))
    return finish(figure, axes)


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
    """Scores per stage over all prompts of a prune log: range, mean size, and in how many cuts a tie decided.

    Args:
        rows: rows of `prune_log.jsonl`.
    """
    figure, (left, right) = new_figure(11, 4, columns=2, width_ratios=(2, 1))
    log = pd.DataFrame(list(rows))
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
    right.bar(layers, stages["ties_decided", "mean"], color=PALETTE[1])
    right.set(xlabel="layer of the stage", ylabel="cuts that a tie decided", ylim=(0, 1))
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize="small")
    return figure


def _spaced(strength: np.ndarray, width: float) -> list[int]:
    """Indices of the strongest of (tokens,) values above 0 whose labels do not touch on an axis of `width` inches."""
    gap = 1.25 * LABEL_POINTS / 72 * len(strength) / width
    shown: list[int] = []
    for token in np.argsort(-strength, kind="stable"):
        if strength[token] > 0 and all(abs(token - other) >= gap for other in shown):
            shown.append(int(token))
    return sorted(shown)
