"""Figures of saliency: which tokens matter at which layer (Fig. 1 and 2), and at which depth the answer is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .. import paper
from .style import GREY, PALETTE, Figure, finish, new_figure, styled
from .survival import readable

LABEL_POINTS = 7


@styled
def saliency_map(saliency: Sequence[Sequence[float]], tokens: Sequence[str]) -> Figure:
    """Fig. 1: heat map of saliency, layer by token; only tokens above 10% of a layer's maximum somewhere are named.

    Args:
        saliency: (layers, tokens), not negative; every layer is scaled to a maximum of 1.
        tokens: their texts.

    Raises:
        ValueError: if the shapes disagree.
    """
    values = np.asarray(saliency, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(tokens):
        raise ValueError(f"saliency of shape {values.shape} does not fit {len(tokens)} tokens")
    values = values / np.maximum(values.max(axis=1, keepdims=True), np.finfo(float).tiny)
    figure, axes = new_figure(13, 2.6 + 0.17 * len(values))
    norm, label = PowerNorm(0.5, vmin=0, vmax=1), "saliency / layer's maximum\n(square-root scale)"
    names = [*range(len(values))]
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
def salient_share(share: Sequence[float], model: str = "this model") -> Figure:
    """Fig. 2: share (0 to 1) of tokens above 10% of their layer's maximum, against depth, with the paper's read-off.

    On a log axis, as the shares of two models may be a factor of twenty apart.
    """
    figure, axes = new_figure(7.5, 4)
    axes.plot(range(len(share)), share, marker="o", color=PALETTE[0], label=model)
    scale = (len(share) - 1) / (paper.FIG2_MODEL_LAYERS - 1)
    depth = [(layer - 1) * scale for layer in paper.FIG2_SALIENT_SHARE]  # the paper's figure counts from 1
    low, high = zip(*paper.FIG2_SALIENT_SHARE.values(), strict=True)
    label = f"paper, Llama2-7B on Dolly (read off; {paper.FIG2_MODEL_LAYERS} layers squeezed to this depth)"
    axes.fill_between(depth, low, high, color=PALETTE[1], alpha=0.35, linewidth=1.5, label=label)
    axes.set(xlabel="layer", ylabel="salient tokens (log axis)", yscale="log", ylim=(None, 1))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.3%}".rstrip("0%").rstrip(".") + "%"))
    axes.yaxis.set_minor_locator(NullLocator())
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


def _spaced(strength: np.ndarray, width: float) -> list[int]:
    """Indices of the strongest of (tokens,) values above 0 whose labels do not touch on an axis of `width` inches."""
    gap = 1.25 * LABEL_POINTS / 72 * len(strength) / width
    shown: list[int] = []
    for token in np.argsort(-strength, kind="stable"):
        if strength[token] > 0 and all(abs(token - other) >= gap for other in shown):
            shown.append(int(token))
    return sorted(shown)
