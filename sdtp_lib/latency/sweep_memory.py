"""Peak memory of a sweep on a CPU: read in fresh processes after the timing, and put into the sweep's records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import results
from .memory import resident_peaks


def read_memory(documents: dict[str, dict], files: Mapping[str, Path | None], options: Mapping) -> None:
    """Peaks of the full model once and of every schedule, into their records; each file is rewritten when it is done.

    Args:
        documents, files: config -> latency document, and where it is kept, if anywhere.
        options: of `resident_peaks`.
    """
    lengths = sorted(set().union(*map(_lacking, documents.values())))
    full = resident_peaks(config="none", lengths=lengths, **options) if lengths else {}
    for name, path in files.items():
        _add_peaks(documents[name], name, full, **options)
        if path is not None:
            results.write_json(path, documents[name])


def _lacking(document: Mapping) -> list[int]:
    """Lengths of a latency document that were timed but have no peak memory yet."""
    sides = ("baseline", "sdtp")
    return [
        int(length)
        for length, record in document["results"].items()
        if any(side in record and record[side]["memory_gb"] is None for side in sides)
    ]


def _add_peaks(document: dict, config: str, full: Mapping[int, dict], **options) -> None:
    """Set `memory_gb` of both sides, in place; it stays null where the peak could not be read, and where that failed
    `memory_error` says why.

    Args:
        document: a latency document of `config`.
        full: what `resident_peaks` gave for the full model.
        options: of `resident_peaks`.
    """
    lengths = _lacking(document)
    for length in lengths:
        document["results"][str(length)].pop("memory_error", None)
    pruned = resident_peaks(config=config, lengths=lengths, **options) if lengths and config != "none" else {}
    for side, peaks in (("baseline", full), ("sdtp", pruned)):
        for length in (length for length in lengths if length in peaks):
            record, peak = document["results"][str(length)], peaks[length]["peak_bytes"]
            record[side]["memory_gb"] = None if peak is None else peak / 1e9
            if "error" in peaks[length]:
                record["memory_error"] = peaks[length]["error"]
