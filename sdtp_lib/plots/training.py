"""Figures of training a pruner: its losses, and how well it ranks tokens it has not seen."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import seaborn as sns

from .style import SEQUENTIAL, Figure, finish, line_styles, new_figure, styled

OFTEN = 0.5  # of the steps


@styled
def loss_curves(terms: pd.DataFrame, stages: pd.DataFrame | None = None) -> Figure:
    """Training losses, by term and, to the right, by stage, each as a share of its own first value.

    So the falls of large and small losses show on one linear axis. A term that is read at few steps, of few prompts,
    such as the pruned model's cross-entropy, goes up and down by a multiple of itself and is left out.

    Args:
        terms: index step, one column a term of Eq. 8.
        stages: index step, one column a stage's layer.
    """
    figure, axes = new_figure(6 if stages is None else 11, 4, columns=1 if stages is None else 2, squeeze=False)
    often = [name for name in terms if terms[name].notna().mean() > OFTEN]
    for name, style in zip(often, line_styles(), strict=False):
        known = terms[name].dropna()
        axes[0, 0].plot(known.index, known / known.iloc[0], label=name, **{**style, "marker": None})
    axes[0, 0].set(xlabel="step", ylabel="loss / its first value")
    axes[0, 0].legend()
    if stages is not None:
        for name, colour in zip(stages, sns.color_palette(SEQUENTIAL, stages.shape[1]), strict=True):
            axes[0, 1].plot(stages.index, stages[name] / stages[name].iloc[0], color=colour, label=str(name))
        axes[0, 1].set(xlabel="step", ylabel="loss of one stage / its first value")
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
