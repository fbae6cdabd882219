"""Every folder of the project, as absolute paths; no other module names one."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the repository, as the package is installed in place
NOTEBOOKS = ROOT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
TEMPLATES = PACKAGE / "templates"
DEMO_CHECKPOINT = PACKAGE / "demo" / "checkpoint"
DEMO_PRUNER = PACKAGE / "demo" / "pruner"
DENSE_CHECKPOINT = PACKAGE / "demo" / "dense_checkpoint"
QUESTION_PRUNERS = PACKAGE / "demo" / "question_pruners"  # <model>/<design>


def results(profile: str | None = None) -> Path:
    """Folder of a profile's numbers, or of all profiles; below `SDTP_RESULTS` if that is set."""
    return _folder("SDTP_RESULTS", "results", profile)


def figures(profile: str | None = None) -> Path:
    """Folder of a profile's pictures, or of all profiles; below `SDTP_FIGURES` if that is set."""
    return _folder("SDTP_FIGURES", "figures", profile)


def _folder(variable: str, name: str, profile: str | None) -> Path:
    """The environment is read at each call, so that tests can move the folders."""
    base = Path(os.environ.get(variable) or ROOT / name).absolute()
    return base / profile if profile else base
