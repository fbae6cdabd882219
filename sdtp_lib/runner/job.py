"""One notebook with its parameters: what it was made from when it last ran, and which others it has to wait for."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat

from .. import paths, results
from ..models.code_version import code_digest, code_version

MANIFEST = "manifest"  # folder with a file for each notebook that is done, so that runs side by side do not collide
# Folder below a run's results -> number of the notebook that fills it. Who has a parameter that points there reads
# it, and has to wait for that notebook.
WRITERS = {"training/pruners": "02"}
TIMED = ("04", "05", "11")  # notebooks about times: on one processor nothing may run beside them
LONGEST = ("09", "02", "10", "06", "07", "08")  # notebooks to begin with, so that at the end none of them runs alone


@dataclass(frozen=True)
class Job:
    """One run of a notebook with parameters of a profile.

    Attributes:
        notebook: the one to run.
        parameters: papermill's.
        executed: where the executed copy goes; in a grid each point has its own.
        profile: whose parameters they are.
        keep: not to be run again where it is done.
    """

    notebook: Path
    parameters: dict[str, Any] = field(hash=False)
    executed: Path
    profile: str
    keep: bool = field(default=False, compare=False)

    @property
    def number(self) -> str:
        """Of the notebook, such as `04`."""
        return self.notebook.name[:2]

    def turn(self) -> int:
        """When it is begun where several run at a time: the longest first, the others in the order they have."""
        return LONGEST.index(self.number) if self.number in LONGEST else len(LONGEST)

    @property
    def entry(self) -> Path:
        """Holds the digest of what the executed copy was made from; there only if it is complete."""
        return self.executed.parent / MANIFEST / f"{self.executed.stem}.json"

    def digest(self) -> str:
        """Changes with the notebook, its parameters, the library's code, and the versions that numbers depend on."""
        versions = [sys.version, *(version(name) for name in ("torch", "transformers"))]
        return _sha256([self.parameters, versions, code_digest(), self.notebook.read_text(encoding="utf-8")])

    def notebook_digest(self) -> str:
        """Of the code in the notebook and its parameters, to be recorded: neither outputs nor folders change it."""
        cells = nbformat.read(self.notebook, as_version=4).cells
        return _sha256([self.parameters, [cell.source for cell in cells if cell.cell_type == "code"]])

    def is_done(self) -> bool:
        """Whether the executed copy is complete and was made from the same notebook, parameters, library, versions."""
        done = self.executed.exists() and self.entry.exists()
        return done and results.read_json(self.entry)["digest"] == self.digest()

    def forget(self) -> None:
        """Take the entry away, as the notebook is about to run."""
        self.entry.unlink(missing_ok=True)

    def record(self, digest: str) -> None:
        """Enter that the notebook ran to its end; `digest` is from before it ran."""
        results.write_json(self.entry, {"digest": digest, **code_version()})

    def needs(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of `jobs` that write what this one reads."""
        where = f"{self.profile}/{paths.RESULTS}"
        texts = [Path(value).as_posix() + "/" for value in self.parameters.values() if isinstance(value, str)]
        numbers = {who for folder, who in WRITERS.items() if any(f"/{where}/{folder}/" in text for text in texts)}
        return [job for job in jobs if job.number in numbers - {self.number}]


def _sha256(values: list) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
