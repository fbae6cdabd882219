"""What notebooks need that is not in the repository: asked before the first of them runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..data.real.passages import SQUAD, SQUAD_FILE, TRAINING_FILE
from ..models.names import local_path
from ..models.packages import PACKAGES
from .job import Job


def check_needs(jobs: Sequence[Job]) -> None:
    """Refuse jobs whose models of packages, or whose paragraphs of SQuAD, are not here.

    A notebook may read the Hub's SQuAD as well, but the records of a stored result are those of `SDTP_DATA`.

    Raises:
        FileNotFoundError: naming what is missing, and the command.
        ValueError: as `models.packages.fetched`.
    """
    named = [value for job in jobs for each in job.parameters.values() for value in _listed(each)]
    for name in dict.fromkeys(value for value in named if value in PACKAGES):
        local_path(name)
    if SQUAD not in named:
        return
    folder, files = os.environ.get("SDTP_DATA"), [f"{name}.jsonl" for name in (SQUAD_FILE, TRAINING_FILE)]
    missing = [name for name in files if not folder or not Path(folder, name).is_file()]
    if missing:
        where = f"the folder SDTP_DATA={folder} has no" if folder else "SDTP_DATA names no folder with"
        again = f"SDTP_DATA=FOLDER sdtp reproduce --profile {jobs[0].profile}"
        raise FileNotFoundError(f"{where} {' and '.join(missing)}, paragraphs with questions; run `{again}`")


def _listed(value: object) -> Sequence:
    return value if isinstance(value, list) else [value]
