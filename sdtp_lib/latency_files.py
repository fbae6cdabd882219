"""Reading the files of a latency sweep: `{"metadata": {...}, "results": {"4096": {...}}}`, one per schedule."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from . import results

PREFILL_FOLDER = "prefill"  # below a profile's results; beside it, in no folder of their own, lie the end-to-end sweeps
# A speedup beside the seconds of another machine, or of more devices, would say nothing.
WORDS = ("error", "memory_error")  # keys of a record that hold text
ALIKE = ("model", "dtype", "device", "devices", "tensor_parallel")


def read_latency(path: str | os.PathLike, configs: Sequence[str], mode: str) -> dict:
    """One latency document, checked to be what it is taken for.

    Args:
        configs: schedules that the file may hold.
        mode: what will be read from it; an `end2end` file holds prefill times too.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, no latency file, of another schedule, or without the decode that `end2end` needs;
            the message names file and key.
    """
    document = results.read_json(path)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), dict) for key in ("metadata", "results")
    ):
        raise ValueError(f"{path} is no latency file: it needs 'metadata' and 'results'")
    metadata = document["metadata"]
    for length, record in document["results"].items():
        if not (length.isdecimal() and isinstance(record, dict)):
            raise ValueError(f"{path} is no latency file: results {length!r} is no length with a record")
        if fault := _fault(record):
            raise ValueError(f"{path} is damaged: results {length} {fault} is no number")
    if metadata.get("config", configs[0]) not in configs:
        raise ValueError(f"{path} holds config {metadata['config']!r}, not {' or '.join(map(repr, configs))}")
    if mode == "end2end" and metadata.get("mode", mode) != mode:
        raise ValueError(f"{path} holds mode {metadata['mode']!r}, which has no decode; end2end was asked for")
    return document


def _fault(record: Mapping, *above: str) -> str | None:
    """Where a record has something that is no number, nor a list or record of numbers; None if nowhere."""
    for key, value in record.items():
        values = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            if fault := _fault(value, *above, key):
                return fault
        elif key not in WORDS and not all(each is None or type(each) in (int, float) for each in values):
            return ".".join([*above, key])
    return None


def check_alike(documents: Mapping[str, dict], mode: str) -> None:
    """Raise ValueError, naming file and field, if a document differs from the first in ALIKE or in new tokens.

    Args:
        documents: path -> latency document.
        mode: the number of new tokens counts in `end2end` alone.
    """
    (first, reference), *others = documents.items()
    for path, document in others:
        for key in (*ALIKE, "new_tokens") if mode == "end2end" else ALIKE:
            here, there = document["metadata"].get(key), reference["metadata"].get(key)
            if here != there:
                raise ValueError(f"{path} has {key} {here!r}, but {first} has {there!r}")


def lookup(record: Mapping, *keys: str) -> Any:
    """What lies under nested keys, or None if any of them is missing or null."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def completed(record: Mapping) -> Mapping:
    """The record of one length; one from before there were limits gets the prefill's causal limit and share."""
    ratio, gain = lookup(record, "flops", "ratio"), lookup(record, "speedup", "prefill")
    if "limit" in record or not ratio:
        return record
    share = {"prefill": gain * ratio} if gain is not None else {}
    return {**record, "limit": {"prefill_causal": 1 / ratio}, "share_of_limit": share}


def series(document: Mapping, *keys: str) -> dict[int, Any]:
    """length -> what lies under `keys` of its record, ascending; lengths that failed or lack it are left out."""
    values = {int(length): lookup(completed(record), *keys) for length, record in document["results"].items()}
    return {length: values[length] for length in sorted(values) if values[length] is not None}
