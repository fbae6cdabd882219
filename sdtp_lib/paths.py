"""Every folder of the project, as absolute paths; no other module names one."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the repository; of a package that was installed without it the folder of all packages
NOTEBOOKS = ROOT / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
LEDGER = "REPRODUCTION.md"
TEMPLATES = PACKAGE / "explorer" / "templates"
DEMO_CHECKPOINT = PACKAGE / "data" / "demo" / "checkpoint"
DEMO_PRUNER = PACKAGE / "data" / "demo" / "pruner"
DENSE_CHECKPOINT = PACKAGE / "data" / "demo" / "dense_checkpoint"
QUESTION_PRUNERS = PACKAGE / "data" / "demo" / "question_pruners"  # <model>/<design>
PRUNERS = PACKAGE / "pruners"  # of real models, <model>/<design>


RESULTS, FIGURES = "results", "figures"  # in the repository, and below the folder of a run
MOVED = {RESULTS: "SDTP_RESULTS", FIGURES: "SDTP_FIGURES"}  # variables that name another folder, of all profiles


def cache() -> Path:
    """Folder of fetched models: `SDTP_CACHE`, or else `sdtp` in the user's cache folder."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sdtp"
    return Path(os.environ.get("SDTP_CACHE") or user).absolute()


def run(profile: str) -> Path:
    """Folder of a profile's last run, which git ignores: `runs/<profile>`, with `results` and `figures` in it."""
    home = ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()  # nothing is written among installed packages
    return home / "runs" / profile


def results(profile: str) -> Path:
    """Where a run of a profile writes its numbers; `SDTP_RESULTS/<profile>`, if that is set."""
    return places(RESULTS, profile)[0]


def figures(profile: str) -> Path:
    """Where a run of a profile writes its pictures; `SDTP_FIGURES/<profile>`, if that is set."""
    return places(FIGURES, profile)[0]


def ledger(profile: str) -> Path:
    """The ledger that a run of a profile writes; in `SDTP_RESULTS`, if that is set."""
    return (moved_to(RESULTS) or run(profile)) / LEDGER


def stored(kind: str, profile: str = "") -> Path:
    """Folder of RESULTS or FIGURES that the repository stores of a profile, or of all."""
    return ROOT / kind / profile


def find_results(profile: str, name: str) -> Path | None:
    """A file of a profile's numbers: of its last run, else as stored; None if there is neither."""
    return _find(RESULTS, profile, name)


def find_figure(profile: str, name: str) -> Path | None:
    """A picture of a profile: of its last run, else as stored; None if there is neither."""
    return _find(FIGURES, profile, name)


def moved_to(kind: str) -> Path | None:
    """The folder that the environment names for RESULTS or FIGURES of all profiles, if it does.

    It is read at each call, so that tests can move the folders.
    """
    named = os.environ.get(MOVED[kind])
    return Path(named).absolute() if named else None


def _find(kind: str, profile: str, name: str) -> Path | None:
    return next((place / name for place in places(kind, profile) if (place / name).is_file()), None)


def places(kind: str, profile: str) -> list[Path]:
    """Where a profile's files are looked for, in this order; who names a folder gets what is in there alone."""
    moved = moved_to(kind)
    return [moved / profile] if moved else [run(profile) / kind, stored(kind, profile)]
