"""Every folder of the project, as absolute paths; no other module names one."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the repository; of a package that was installed without it the folder of all packages
NOTEBOOKS = ROOT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
LEDGER = "REPRODUCTION.md"  # among the results of all profiles
TEMPLATES = PACKAGE / "explorer" / "templates"
DEMO_CHECKPOINT = PACKAGE / "data" / "demo" / "checkpoint"
DEMO_PRUNER = PACKAGE / "data" / "demo" / "pruner"
DENSE_CHECKPOINT = PACKAGE / "data" / "demo" / "dense_checkpoint"
QUESTION_PRUNERS = PACKAGE / "data" / "demo" / "question_pruners"  # <model>/<design>
PRUNERS = PACKAGE / "pruners"  # of real models, <model>/<design>


def results(profile: str | None = None) -> Path:
    """Folder of a profile's numbers, or of all profiles; `SDTP_RESULTS` is where it lies, if that is set."""
    return _folder("SDTP_RESULTS", "results", profile)


def figures(profile: str | None = None) -> Path:
    """Folder of a profile's pictures, or of all profiles; `SDTP_FIGURES` is where it lies, if that is set."""
    return _folder("SDTP_FIGURES", "figures", profile)


def cache() -> Path:
    """Folder of fetched models: `SDTP_CACHE`, or else `sdtp` in the user's cache folder."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sdtp"
    return Path(os.environ.get("SDTP_CACHE") or user).absolute()


def _folder(variable: str, name: str, profile: str | None) -> Path:
    """The environment is read at each call, so that tests can move the folders."""
    home = ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()  # nothing is written among installed packages
    base = Path(os.environ.get(variable) or home / name).absolute()
    return base / profile if profile else base
