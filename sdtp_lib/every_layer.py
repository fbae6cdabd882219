"""A pruner that can score at every layer, for schedules that the shipped or preset ones do not have (Fig. 4)."""

from __future__ import annotations

import os
from pathlib import Path

from .models import load_model
from .recipe import Recipe
from .saliency import mark
from .schedule import PruningSchedule
from .scorers import TokenPruner
from .training import Trainer


def pruner_of_every_layer(
    model: str | os.PathLike,
    data: str | os.PathLike,
    num_samples: int,
    folder: str | os.PathLike,
    keep_ratio: float = 0.9,
    revision: str | None = None,
    **recipe,
) -> TokenPruner:
    """Mark prompts at every layer but the first, and train one scorer for each (stages 1 and 2 of the paper).

    Marks are kept in `folder` and not made again. Training simulates a cut of `keep_ratio` at every layer, harder than
    any schedule of few stages.

    Args:
        model, revision: see `models.load_model`.
        data, num_samples: see `saliency.mark`.
        folder: gets `marks` and `pruner`.
        recipe: fields of `Recipe`.

    Raises:
        ValueError, FileNotFoundError: as `mark` and `training.train`.
    """
    settings, folder = Recipe(**recipe), Path(folder)
    network, _ = load_model(model, dtype="float32", revision=revision)
    stages = PruningSchedule(tuple(range(1, network.config.num_hidden_layers)), keep_ratio)
    marks = mark(
        model, data, num_samples, output=folder / "marks", seed=settings.seed, layers=stages.layers, revision=revision
    )
    Trainer(network, marks, stages, settings, folder / "pruner").run(resume=True)
    return TokenPruner.from_pretrained(folder / "pruner")
