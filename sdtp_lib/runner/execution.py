"""Run one notebook headless, and clean what its executed copy says of this machine."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import papermill
from nbstripout import strip_output

from .. import paths, results
from ..errors import Failed
from ..models.code_version import CODE, code_version

VOLATILE = [
    "metadata.papermill", "metadata.widgets", "metadata.language_info.version",
    "cell.metadata.papermill", "cell.metadata.execution",
]  # fmt: skip
# Transformers draws its bars with tqdm.auto, which in a notebook heeds no TQDM_DISABLE. The inline backend is what puts
# pictures into a notebook; a backend set by the caller would keep them out.
KERNEL = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "KINETO_LOG_LEVEL": "99",  # PyTorch's profiler prints a line whenever it starts or stops
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


class NotebookFailed(Failed):
    """A notebook raised an error; the message names it and its copy, executed as far as it came."""


def store(notebook: str | os.PathLike) -> None:
    """Execute a notebook in place with its own defaults, as the repository stores it: counts, outputs, ids.

    Raises:
        FileNotFoundError: if there is no such notebook.
        NotebookFailed: if it raises an error; the notebook is left as it was.
    """
    notebook = Path(notebook).absolute()
    if not notebook.is_file():
        raise FileNotFoundError(f"notebook {notebook} does not exist")
    executed = notebook.parent / ".partial" / notebook.name  # where no test looks for notebooks
    with kernel_environment(OFFLINE):
        execute(notebook, executed, {})
    os.replace(executed, notebook)


def refresh(notebook: str | os.PathLike) -> None:
    """Execute again what a stored notebook shows above its parameters, which comes from stored results alone.

    So it says what the repository holds without running a model; all below the parameters is left as it last ran.

    Raises:
        FileNotFoundError: if there is no such notebook.
        NotebookFailed: if a cell raises an error; the notebook is left as it was.
    """
    notebook = Path(notebook).absolute()
    whole = nbformat.read(notebook, as_version=4)
    tagged = [index for index, cell in enumerate(whole.cells) if "parameters" in cell.metadata.get("tags", [])]
    above = nbformat.from_dict({**whole, "cells": whole.cells[: tagged[0]]})
    part = notebook.parent / ".partial" / notebook.name
    results.write_text(part, nbformat.writes(above) + "\n")
    with kernel_environment(OFFLINE):
        execute(part, part.with_stem(f"{part.stem}_above"), {})
    whole.cells[: tagged[0]] = nbformat.read(part.with_stem(f"{part.stem}_above"), as_version=4).cells
    results.write_text(notebook, nbformat.writes(whole) + "\n")
    for file in (part, part.with_stem(f"{part.stem}_above")):
        file.unlink()


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take from an executed notebook, in place, what changes from run to run or names a folder of this machine."""
    strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=VOLATILE)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill draws a new one each time
        if "outputs" in cell:
            cell.outputs = _without_folders(cell.outputs)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]  # papermill gives every cell an empty list
    return notebook


def execute(notebook: Path, executed: Path, parameters: dict[str, Any]) -> None:
    """Run in the notebook's own folder, as Jupyter and nbval do; the copy is cleaned also where a cell failed.

    Raises:
        NotebookFailed: if a cell raises an error, or the kernel dies.
    """
    executed.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            notebook, executed, parameters, kernel_name="python3", cwd=notebook.parent, progress_bar=False,
            extra_arguments=["--log-level=40"],  # the kernel's warnings would break into the progress bar
        )  # fmt: skip
    except Exception as error:  # an error in a cell, a dead kernel, a kernel that did not start
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise NotebookFailed(f"notebook {notebook.name} failed: {reason}; executed so far: {executed}") from error
    finally:
        if executed.exists():
            results.write_text(executed, nbformat.writes(clean(nbformat.read(executed, as_version=4))) + "\n")


def _without_folders(value: Any) -> Any:
    """The same outputs, with the folders of the project made relative and those of this machine given a name."""
    if isinstance(value, dict):  # pictures are left alone: their base64 may look like anything
        return nbformat.from_dict(
            {key: item if key.startswith("image/") else _without_folders(item) for key, item in value.items()}
        )
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    value = re.sub(r"\S*/ipykernel_\d+/\d+\.py", "<cell>", value)
    names = {
        **{folder: kind for kind in paths.MOVED if (folder := paths.moved_to(kind))},  # may lie inside the next ones
        sys.prefix: "<python>", sys.base_prefix: "<python>", paths.ROOT: ".", Path.home(): "~",
    }  # fmt: skip
    for folder, name in names.items():
        value = re.sub(rf"{re.escape(str(folder))}(?![\w.-])", name, value) if len(Path(folder).parts) > 1 else value
    return value


@contextmanager
def kernel_environment(extra: dict[str, str]) -> Iterator[None]:
    """Set the variables that kernels inherit, and put the old ones back.

    Kernels have another working folder, and record the code as it is now.
    """
    folders = {paths.MOVED[kind]: str(folder) for kind in paths.MOVED if (folder := paths.moved_to(kind))}
    with patch.dict(os.environ, KERNEL | folders | {CODE: json.dumps(code_version())} | extra):
        yield
