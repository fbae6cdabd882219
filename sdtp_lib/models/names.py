"""What a model's name stands for: a shipped model, one of a package, a folder or file, or none; and its record."""

from __future__ import annotations

import os
from pathlib import Path

from .. import paths
from . import packages

DEMOS = ("demo", "demo-dense")


def local_path(name: str | os.PathLike) -> Path | None:
    """The folder or GGUF file of a model; None for what has none here: a shape, a name on the Hub, an unknown one.

    Raises:
        FileNotFoundError: for a model of a package that was not fetched, naming the command that does.
        ValueError: if what was fetched is another version.
    """
    shipped = dict(zip(DEMOS, (paths.DEMO_CHECKPOINT, paths.DENSE_CHECKPOINT), strict=True))
    if name in shipped:
        return shipped[name]
    if name in packages.PACKAGES:
        return packages.fetched(name)
    return Path(name) if os.path.exists(name) else None


def label(name: str | os.PathLike) -> str:
    """A name as it is recorded: of something on this machine's disk the last part alone."""
    name = str(name)
    return os.path.basename(os.path.abspath(name)) if os.path.exists(name) else name
