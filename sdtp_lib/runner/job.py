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

from .. import paths, results

MANIFEST = "manifest"  # folder with a file for each notebook that is done, so that runs side by side do not collide
# Folder below a profile's results -> number of the notebook that fills it. Who has a parameter that points there reads
# it, and has to wait for that notebook.
WRITERS = {"training/pruners": "02"}
TIMED = ("04", "05", "11")  # notebooks about times: on one processor nothing may run beside them

LONGEST = ("09", "02", "10", "06")  # notebooks to begin with, so that at the end none of them runs alone


@dataclass(frozen=True)
class Job:
    """One run of a notebook with parameters of a profile.

    Attributes:
        notebook: the one to run.
        parameters: papermill's.
        executed: where the executed copy goes; in a grid each point has its own.
        keep: not to be run again where it is done.
    """

    notebook: Path
    parameters: dict[str, Any] = field(hash=False)
    executed: Path
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
        digest = hashlib.sha256(json.dumps([self.parameters, versions], sort_keys=True).encode())
        for file in (self.notebook, *sorted(paths.PACKAGE.rglob("*.py"))):
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def is_done(self) -> bool:
        """Whether the executed copy is complete and was made from the same notebook, parameters, library, versions."""
        done = self.executed.exists() and self.entry.exists()
        return done and results.read_json(self.entry) == {"digest": self.digest()}

    def forget(self) -> None:
        """Take the entry away, as the notebook is about to run."""
        self.entry.unlink(missing_ok=True)

    def record(self, digest: str) -> None:
        """Enter that the notebook ran to its end; `digest` is from before it ran."""
        results.write_json(self.entry, {"digest": digest})

    def needs(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of `jobs` that write what this one reads."""
        profile = self.executed.parent.parent.name
        texts = [Path(value).as_posix() + "/" for value in self.parameters.values() if isinstance(value, str)]
        numbers = {who for folder, who in WRITERS.items() if any(f"/{profile}/{folder}/" in text for text in texts)}
        return [job for job in jobs if job.number in numbers - {self.number}]
