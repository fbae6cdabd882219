"""Sample files that several processes fill: each writes a part of its own, and the main process puts them together.

A part has the layout of `SampleFile`. Parts that a killed run left behind are read first, by however many processes the
run is repeated: nothing in them is asked again, and nothing is lost.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.workers import Workers
from .sample_files import SampleFile


def open_samples(path: Path, settings: Mapping[str, Any], resume: bool, workers: Workers) -> SampleFile:
    """The samples at `path` and in parts of it, for this process to add to.

    Args:
        path: JSONL file; of several machines' processes, in a folder that all of them see.
        settings, resume: see `SampleFile`; without `resume` old parts go as well.

    Raises:
        ValueError: as `SampleFile`, for a part too, and if the processes have different settings.
    """
    workers.check_same("settings", settings)

    def put_together() -> SampleFile:
        whole = SampleFile(path, settings, resume)
        for part in sorted(path.parent.glob(f"{glob.escape(path.stem)}.part*{path.suffix}")):
            if resume:
                whole.take(SampleFile(part, settings).samples.values())
            part.unlink()
        return whole

    whole = workers.on_main(put_together)
    return whole if workers.count == 1 else SamplePart(whole, settings, workers)


class SamplePart(SampleFile):
    """What one process adds to a sample file; knows the samples of the whole file as it was opened.

    Args:
        whole: read by the main process.
        settings: see `SampleFile`.
        workers: whose file it is.
    """

    def __init__(self, whole: SampleFile, settings: Mapping[str, Any], workers: Workers):
        path = whole.path.with_name(f"{whole.path.stem}.part{workers.index}{whole.path.suffix}")
        super().__init__(path, settings, resume=False)
        self.whole, self.workers, self.known = whole, workers, set(whole.samples)
        self.samples.update(whole.samples)

    def close(self) -> None:
        """When all processes are done: their samples go to the whole file, then the parts are deleted."""
        own = [row for key, row in self.samples.items() if key not in self.known]
        rows = self.workers.gather(own)
        self.workers.on_main(lambda: self.whole.take(rows))
        self.path.unlink(missing_ok=True)
