"""Pruners that can score at every layer, for schedules that the shipped or preset ones do not have (Fig. 4)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..models.loading import load_model
from ..pruning.schedule import PruningSchedule
from ..scorers.token_pruner import TokenPruner
from ..training.hidden_states import KeptStates
from ..training.recipe import Recipe, check_seeds
from ..training.saliency import mark
from ..training.trainer import Trainer


def pruner_of_every_layer(
    model: str | os.PathLike,
    data: str | os.PathLike,
    num_samples: int,
    folder: str | os.PathLike,
    revision: str | None = None,
    **recipe,
) -> TokenPruner:
    """Mark prompts at every layer but the first, and train one scorer for each (stages 1 and 2 of the paper).

    Marks are kept in `folder` and not made again. Training simulates a cut to 90% at every layer, harder than
    any schedule of few stages.

    Args:
        model, revision: see `models.load_model`.
        data, num_samples: see `training.saliency.mark`.
        folder: gets `marks` and `pruner/<seed>`.
        recipe: fields of `Recipe`.

    Raises:
        ValueError, FileNotFoundError: as `mark` and `training.trainer.train`.
    """
    seed = Recipe(**recipe).seed
    ((pruner,),) = pruners_of_every_layer(
        model, data, num_samples, folder, {"pruner": recipe}, [seed], revision=revision, mark_seed=seed
    ).values()
    return pruner


def pruners_of_every_layer(
    model: str | os.PathLike,
    data: str | os.PathLike,
    num_samples: int,
    folder: str | os.PathLike,
    designs: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int] = (0,),
    keep_ratio: float = 0.9,
    revision: str | None = None,
    mark_seed: int = 0,
) -> dict[str, list[TokenPruner]]:
    """Like `pruner_of_every_layer` for several designs and seeds on the same marks: design -> a pruner per seed.

    A pruner that is there already is not trained again, if it was trained in just this way.

    Args:
        folder: gets `marks`, and `<design>/<seed>` for each pruner.
        designs: name -> fields of `Recipe` but the seed.
        mark_seed: of the prompts.
    """
    check_seeds(seeds)
    recipes = {
        name: [Recipe(**{**fields, "seed": seed}) for seed in seeds] for name, fields in designs.items()
    }  # before anything runs
    network, _ = load_model(model, dtype="float32", revision=revision)
    stages = PruningSchedule(tuple(range(1, network.config.num_hidden_layers)), keep_ratio)
    marks = mark(
        model, data, num_samples, output=Path(folder) / "marks", seed=mark_seed, layers=stages.layers, revision=revision
    )
    states = KeptStates(network, stages.layers)  # all designs and seeds read the same
    found: dict[str, list[TokenPruner]] = {}
    for name, each in recipes.items():
        found[name] = []
        for recipe in each:
            home = Path(folder, name, str(recipe.seed))
            trainer = Trainer(network, marks, stages, recipe, home, states)
            if not holds(home, trainer.settings):
                trainer.run(resume=True)
            found[name].append(TokenPruner.from_pretrained(home))
    return found


def holds(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a folder holds the pruner of a finished run of these settings."""
    try:
        record = TokenPruner.from_pretrained(folder).record
    except (FileNotFoundError, ValueError):
        return False
    return all(record.get(key) == value for key, value in settings.items())
