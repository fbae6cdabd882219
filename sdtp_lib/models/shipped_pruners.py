"""Pruners that come with the library, found by the weights that they were trained on."""

from __future__ import annotations

import os
from pathlib import Path

from transformers import PreTrainedModel

from .. import paths
from ..scorers.files import CONFIG_FILE, read_config
from .identity import fingerprint
from .names import DEMOS
from .packages import PACKAGES

DESIGNS = ("question_aware", "paper", "tuned")  # a model gets the first one that it comes with by default


def with_pruners() -> list[str]:
    """Models that come with pruners, as far as they have a name to be loaded by; others are known by their weights."""
    return [*DEMOS, *sorted({folder.parent.name for folder in shipped_folders()} & {*PACKAGES})]


def check_given(given: str | os.PathLike | None) -> None:
    """Refuse a pruner that is neither a folder here nor one of `DESIGNS`; asked before its model is loaded.

    Raises:
        FileNotFoundError: if it is neither, nor None.
    """
    if given is not None and given not in DESIGNS and not os.path.isdir(given):
        raise FileNotFoundError(f"pruner folder {given} does not exist")


def pruner_folder(given: str | os.PathLike | None, model: PreTrainedModel) -> Path | None:
    """The folder of a pruner for a model; None if none is given and the model comes with none.

    Args:
        given: a folder, or one of `DESIGNS` unless a pruner's folder has that name; None for the model's default.

    Raises:
        ValueError: for a design of which the model comes with no pruner.
    """
    if given is not None and (given not in DESIGNS or Path(given, CONFIG_FILE).exists()):
        return Path(given)
    shipped = shipped_pruners(model)
    if given is not None and given not in shipped:
        kind = given.replace("_", "-")
        raise ValueError(f"model {model.name_or_path!r} comes with no {kind} pruner; name the folder of one")
    return shipped[given] if given else next(iter(shipped.values()), None)


def shipped_pruners(model: PreTrainedModel) -> dict[str, Path]:
    """Design -> folder of the pruners that a model comes with; the first one is what it gets by default.

    A demo model is known by its name, and has the paper's pruner by default; others by their weights.
    """
    name = model.name_or_path
    if name in DEMOS:
        home = paths.QUESTION_PRUNERS / name
        return {"paper": paths.DEMO_PRUNER if name == "demo" else home / "paper", "question_aware": home / DESIGNS[0]}
    found = shipped_folders()
    if not found:  # or reading the model's weights would be for nothing
        return {}
    weights = fingerprint(model)
    own = {path.name: path for path in found if read_config(path)["record"].get("fingerprint") == weights}
    return {design: own[design] for design in DESIGNS if design in own}


def shipped_folders() -> list[Path]:
    """Of all pruners that come with the library, but for those of the demo models."""
    return [path.parent for path in sorted(paths.PRUNERS.glob(f"*/*/{CONFIG_FILE}"))]
