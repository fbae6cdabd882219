"""Designs of the pruner: the paper's and those that read the question, trained alike and compared on one budget."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from .. import paths
from ..evaluation.task_records import records_of
from ..markdown import Markdown, interval_text
from ..models.loading import load_model
from ..models.named_schedules import resolve_schedule
from ..models.names import DEMOS
from ..models.shipped_pruners import shipped_pruners
from ..pruning.schedule import PruningSchedule
from ..results import markdown_table
from ..scorers.token_pruner import TokenPruner
from .all_layer_pruners import pruners_of_every_layer
from .question_aware import Setting, quality_over_seeds

KEEP = 0.7  # of keep07, the schedule that designs are compared under; training raises its targets accordingly
ALIKE = {"epochs": 8, "classification": False}  # a match is learned late, and hidden states are then read once


def _question(**options) -> dict[str, Any]:
    return {**ALIKE, "kind": "question_aware", "options": options}


# Name -> fields of `Recipe`.
DESIGNS: dict[str, dict[str, Any]] = {
    "paper": {**ALIKE},
    "question_aware": _question(),
    "mean over the window": _question(pool="mean"),
    "maximum over the window": _question(pool="max"),
    "1 head": _question(heads=1),
    "4 heads": _question(heads=4),
    "window of 8": _question(window=8),
    "window of 32": _question(window=32),
    "without the MLP": _question(width=0),
}


def prepare(
    kind: str, model_name: str, task: str, limit: int, data: str, num_samples: int, folder: str | os.PathLike,
    designs: Sequence[str] = ("paper", "question_aware"), seeds: Sequence[int] = (0,), dtype: str = "auto",
    revision: str | None = None, source: str | None = None, tokens: int | None = None,
) -> Setting:  # fmt: skip
    """A model with records of one kind of documents and the pruners to compare on them.

    Args:
        kind: name of the documents.
        model_name, dtype, revision: see `models.load_model`.
        task, limit, source, tokens: what is asked, see `evaluation.task_records.records_of`.
        data, num_samples, folder, designs, seeds: see `load_or_train`.
    """
    model, tokenizer = load_model(model_name, dtype=dtype, revision=revision)
    pruners = load_or_train(model, model_name, data, num_samples, folder, designs, seeds, revision)
    return Setting(kind, model, tokenizer, records_of(model, tokenizer, task, limit, source, tokens), pruners)


def prepare_each(
    kinds: Sequence[str], models: Sequence[str], tasks: Sequence[str], limits: Sequence[int], data: Sequence[str],
    num_samples: Sequence[int], folder: str | os.PathLike, **options,
) -> list[Setting]:  # fmt: skip
    """`prepare` for each kind of documents, with the model, task, ... at the same place.

    Raises:
        ValueError: if they are not equally many.
    """
    each = zip(kinds, models, tasks, limits, data, num_samples, strict=True)
    return [prepare(*one, folder, **options) for one in each]


def load_or_train(
    model: PreTrainedModel, name: str, data: str, num_samples: int, folder: str | os.PathLike, designs: Sequence[str],
    seeds: Sequence[int], revision: str | None = None,
) -> dict[str, list[TokenPruner]]:  # fmt: skip
    """Pruners of every layer, in the model's dtype: design -> one per seed.

    Args:
        model: to be pruned; `name` loads the same in float32.
        data, num_samples: what they are trained on, see `sdtp mark`; with 0 samples the shipped ones are taken.
        folder: gets one for each model, see `experiments.all_layer_pruners.pruners_of_every_layer`.
        designs: keys of DESIGNS.

    Raises:
        ValueError: for an unknown design, or one that is not shipped, or several seeds of a shipped one.
    """
    for design in designs:
        if design not in DESIGNS:
            raise ValueError(f"unknown design {design!r}; known: {', '.join(DESIGNS)}")
    if num_samples:
        chosen = {design: DESIGNS[design] for design in designs}
        home = Path(folder) / Path(name).name
        found = pruners_of_every_layer(name, data, num_samples, home, chosen, seeds, KEEP, revision)
    else:
        if len(seeds) > 1:
            raise ValueError(f"one pruner of each design is shipped, not one for each of the seeds {list(seeds)}")
        shipped = shipped_pruners(model)
        if name in DEMOS:  # of these there are some that score at every layer
            shipped = {path.name: path for path in sorted((paths.QUESTION_PRUNERS / name).glob("*"))}
        if missing := sorted(set(designs) - set(shipped)):
            known = ", ".join(shipped) or "none"
            raise ValueError(f"no pruner {missing[0]!r} is shipped for {name}; there are: {known}")
        found = {design: [TokenPruner.from_pretrained(shipped[design])] for design in designs}
    return {
        design: [pruner.to(device=model.device, dtype=model.dtype) for pruner in each] for design, each in found.items()
    }


def compare_designs(
    setting: Setting, schedule: str | PruningSchedule, folder: str | os.PathLike | None = None, **options
) -> dict[str, dict[str, Any]]:
    """Held-out rank correlation (mean over the schedule's layers and over seeds) and quality of designs of the pruner.

    Args:
        setting: its pruners are the designs, as `load_or_train` gives them.
        folder, options: see `quality_over_seeds`.
    """
    stages = resolve_schedule(schedule, setting.model)
    points = [{"method": name, "schedule": stages} for name in setting.pruners]
    measured = quality_over_seeds(setting, points, folder, **options)
    correlations = {name: _correlation(pruners, stages) for name, pruners in setting.pruners.items()}
    return {point["method"]: {**point, "rank_correlation": correlations[point["method"]]} for point in measured}


def design_table(found: Mapping[str, Mapping[str, Any]]) -> Markdown:
    """Designs of the pruner side by side: `rank_correlation`, `score`, `ci95` and `flops` of each."""
    return Markdown(markdown_table([
        {
            "design": name, "rank correlation, held out": row["rank_correlation"], "score": row["score"],
            "95%": interval_text(row["ci95"]), "prefill FLOPs left, %": 100 * row["flops"],
        }
        for name, row in found.items()
    ], {"score": 1, "prefill FLOPs left, %": 0}))  # fmt: skip


def _correlation(pruners: Sequence[TokenPruner], schedule: PruningSchedule) -> float:
    found = [
        pruner.record["held_out"]["rank_correlation"][pruner.layers.index(layer)]
        for pruner in pruners
        for layer in schedule.layers
    ]
    return sum(found) / len(found)
