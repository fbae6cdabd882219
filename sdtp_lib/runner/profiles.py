"""What a profile runs: its notebooks in order, each with its parameters, or once for every point of a grid of them.

A profile is a folder with a file `NN.yaml` for each notebook, a flat list of `name: value` that papermill takes. Beside
it may lie a grid, `NN.grid.yaml`: lists of values, every combination of which is a run of its own. A value may itself
set several names:

    length: [1024, 4096]
    config: [keep09, keep07]
    model: [{model_name: mistral-7b}, {model_name: /models/llama, pruner_folder: /models/llama-pruner}]
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import papermill
import yaml

from .. import paths
from ..text_files import read_text
from .job import Job

GRID = ".grid.yaml"


class _Loader(yaml.SafeLoader):
    """Refuses a name that is set twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        if twice := [key for key, _ in node.value if names.count(key.value) > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[-1].value!r} is set twice", twice[-1].start_mark
            )
        return super().construct_mapping(node, deep)


def plan(profile: str, only: str | None = None, model: str | None = None) -> list[Job]:
    """The notebooks to run, in order, each with parameters that it knows.

    Args:
        profile: name of a folder of `paths.PROFILES`.
        only: number of the one notebook to run, such as `04`.
        model: to load in every notebook, whatever the profile names.

    Raises:
        ValueError: for an unknown profile, number or parameter, a damaged profile file, or a `model` that is neither
            here nor a name.
        FileNotFoundError: if there are no notebooks, or the profile has no file for the one asked for, or for any.
    """
    notebooks = sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise FileNotFoundError(f"no notebooks in {paths.NOTEBOOKS}; run this from a checkout of the repository")
    known = sorted(folder.name for folder in paths.PROFILES.glob("*") if folder.is_dir())
    if profile not in known:
        raise ValueError(f"unknown profile {profile!r}; known: {', '.join(known) or 'none'}")
    _check_files(profile, notebooks)
    chosen = [notebook for notebook in notebooks if only is None or notebook.name[:2] == only]
    if not chosen:
        raise ValueError(f"unknown notebook {only!r}; known: {', '.join(notebook.name[:2] for notebook in notebooks)}")
    if only is None:  # a profile may be about some of the notebooks alone
        chosen = [notebook for notebook in chosen if profile_file(notebook, profile).is_file()]
        if not chosen:
            raise FileNotFoundError(
                f"profile {profile!r} has no file for any notebook, such as {notebooks[0].name[:2]}.yaml"
            )
    folder = paths.results(profile) / "notebooks"
    return [
        Job(notebook, parameters | _loading(notebook, model), folder / f"{notebook.stem}{label}.ipynb", profile)
        for notebook in chosen
        for label, parameters in runs(notebook, profile).items()
    ]


def _check_files(profile: str, notebooks: Sequence[Path]) -> None:
    """Raise ValueError for a file of parameters that would be passed over, as no notebook has its number."""
    wanted = {f"{notebook.name[:2]}{ending}" for notebook in notebooks for ending in (".yaml", GRID)}
    for file in sorted(paths.PROFILES.glob(f"{profile}/*.y*ml")):
        if file.name not in wanted:
            raise ValueError(f"{_named(file)} belongs to no notebook; known names: {', '.join(sorted(wanted))}")


def _loading(notebook: Path, model: str | None) -> dict[str, Any]:
    """The parameters by which a notebook loads another model; of a folder or file its absolute path, as notebooks have
    their own working folder.

    Raises:
        ValueError: for what looks like a path and is not there.
    """
    if model is None:
        return {}
    known, there = papermill.inspect_notebook(str(notebook)), os.path.exists(model)
    if not there and os.sep in model and (model.count("/") > 1 or model[0] in "./~"):  # else a name on the Hub
        raise ValueError(f"model folder {model} does not exist")
    name = os.path.abspath(model) if there else model
    several = {"models": [name] * len(yaml.safe_load(known["models"]["default"]))} if "models" in known else {}
    return several | ({"model_name": name, "revision": None} if "model_name" in known else {})


def profile_file(notebook: Path, profile: str) -> Path:
    """What a profile sets for a notebook; it need not be there."""
    return paths.PROFILES / profile / f"{notebook.name[:2]}.yaml"


def runs(notebook: Path, profile: str) -> dict[str, dict[str, Any]]:
    """Ending of the executed copy's name -> parameters, of every run of a notebook; without a grid just `""`.

    papermill itself only warns about names that the notebook does not have.

    Raises: as `plan`.
    """
    file = profile_file(notebook, profile)
    if not file.is_file():
        raise FileNotFoundError(f"profile {profile!r} has no {file.name} for {notebook.name}")
    values, grid = _read(file), file.with_suffix(GRID)
    if any(isinstance(value, dict) for value in values.values()):
        raise ValueError(f"{profile}/{file.name} must be a flat list of `name: value`")
    axes = _read(grid) if grid.is_file() else {}
    if not all(isinstance(some, list) and some and {} not in some for some in axes.values()):
        raise ValueError(f"{profile}/{grid.name} must have a list of values for each name")
    sets = [[point if isinstance(point, dict) else {name: point} for point in axes[name]] for name in axes]
    names = [{name for one in some for name in one} for some in (*sets, [values])]
    if twice := [name for name, count in Counter(itertools.chain(*names)).items() if count > 1]:
        raise ValueError(f"{profile}/{file.name} and its grid set {twice[0]!r} twice")
    known = papermill.inspect_notebook(str(notebook))
    if unknown := [str(name) for name in itertools.chain(*names) if name not in known]:
        also = " and its grid set" if axes else " sets"
        raise ValueError(f"{notebook.name} has no parameter {unknown[0]!r}, which {profile}/{file.name}{also}")
    points = list(itertools.product(*sets))
    found = {_label(point): dict(ChainMap(*point, values)) for point in points}
    if len(found) < len(points):
        raise ValueError(f"{profile}/{grid.name} has two points of the same name")
    if "profile" in known:
        default = yaml.safe_load(known["profile"]["default"])
        for said in (parameters.get("profile", default) for parameters in found.values()):
            if said != profile:
                raise ValueError(
                    f"{_named(file)} has profile: {said}, so its results would go to {said!r}; write profile: {profile}"
                )
    return found


def _read(file: Path) -> dict[str, Any]:
    """A YAML file of names and values."""
    where = _named(file)
    try:
        values = yaml.load(read_text(file, "profile"), _Loader) or {}
        json.dumps(values)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{where} is no YAML: {line}{error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is no YAML: {' '.join(str(error).split())}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} has a value that is none of JSON's, such as a date: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a flat list of `name: value`")
    return values


def _named(file: Path) -> str:
    """A profile's file in a message."""
    return f"{file.parent.name}/{file.name}"


def _label(point: Sequence[Mapping[str, Any]]) -> str:
    """A point as a part of a file's name; of values set together the first one names them."""
    return "".join(f".{re.sub(r'[^A-Za-z0-9-]+', '-', str(next(iter(each.values()))))}" for each in point)
