"""Schedules by name: presets, cuts that are written out, and those that a pruner's folder was tuned for."""

from __future__ import annotations

import os
from pathlib import Path

from transformers import PreTrainedModel

from ..pruning.schedule import PRESET_NAMES, TUNED_NAME, PruningSchedule, is_name
from ..scorers.files import read_config
from ..scorers.use import own_schedules
from .shipped_pruners import check_given, pruner_folder, shipped_folders


def resolve_schedule(
    schedule: str | PruningSchedule, model: PreTrainedModel, pruner: str | os.PathLike | None = None
) -> PruningSchedule:
    """A schedule by name, or as it is, checked against the model's number of layers.

    Args:
        schedule: a preset, cuts such as `15:0.3` (`PruningSchedule.named`), or the name of a schedule that the pruner
            was tuned for: its FLOP ratio, such as `1.6`, or `free`, `fast`, `fastest`. Of a pruner that was tuned for
            none of the last two, presets of these names are taken.
        pruner: as in `load_pruner`; read for such a name alone.

    Raises:
        ValueError: for an unknown name, a stage beyond the model, or a damaged pruner.
        FileNotFoundError: if the pruner's folder or a file in it is missing.
    """
    layers = model.config.num_hidden_layers
    if isinstance(schedule, str) and TUNED_NAME.fullmatch(schedule):
        own = _own(model, pruner)
        name = schedule if schedule.isalpha() else f"{float(schedule):g}"  # 2.0 is stored by `sdtp tune` as 2
        if name not in own and name not in PRESET_NAMES:
            raise ValueError(f"the pruner has no schedule {schedule!r}; known: {', '.join((*own, *PRESET_NAMES))}")
        schedule = own.get(name, schedule)
    if isinstance(schedule, str):
        schedule = PruningSchedule.named(schedule, layers)
    schedule.check_model(layers)
    return schedule


def default_schedule(model: PreTrainedModel, pruner: str | os.PathLike | None, otherwise: str = "paper") -> str:
    """The name of the schedule that a pruner was tuned for first; `otherwise`, if it was tuned for none.

    Raises:
        ValueError, FileNotFoundError: as `resolve_schedule`.
    """
    return next(iter(_own(model, pruner)), otherwise)


def tuned_name(pruner: str | os.PathLike | None) -> str:
    """The name of the schedule that a pruner's folder was tuned for first; asked before its model is loaded.

    Raises:
        ValueError: if there is none, or the folder is damaged.
        FileNotFoundError: if it is not there, or lacks a file.
    """
    check_given(pruner)
    own = _of_folder(Path(pruner)) if pruner is not None and os.path.isdir(pruner) else {}
    if not own:
        raise ValueError("name a schedule (--config): there is no --pruner whose folder was tuned for one")
    return next(iter(own))


def own_presets(name: str) -> dict[str, PruningSchedule]:
    """The schedules that shipped pruners were tuned for on a model of this name; empty for any other model."""
    folders = [folder for folder in shipped_folders() if read_config(folder)["record"].get("model") == name]
    return {key: each for folder in folders for key, each in _of_folder(folder).items()}


def check_schedule_name(schedule: str | PruningSchedule | None) -> None:
    """Refuse what can be no schedule's name, whatever the pruner; asked before a model is loaded.

    Raises:
        ValueError: for an unknown name, or cuts that are none.
    """
    if isinstance(schedule, str) and not is_name(schedule):
        PruningSchedule.named(schedule, 0)


def _own(model: PreTrainedModel, pruner: str | os.PathLike | None) -> dict[str, PruningSchedule]:
    folder = pruner_folder(pruner, model)
    return _of_folder(folder) if folder else {}


def _of_folder(folder: Path) -> dict[str, PruningSchedule]:
    return own_schedules(read_config(folder)["record"])
