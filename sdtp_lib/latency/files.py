"""Reading the files of a latency sweep: `{"metadata": {...}, "results": {"4096": {...}}}`, one per schedule."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .. import results
from ..data.records import LATENCY, check

PREFILL_FOLDER = "prefill"  # below a profile's results; beside it, in no folder of their own, lie the end-to-end sweeps
WORDS = ("error", "memory_error")  # keys of a record that say what went wrong
# A speedup beside the seconds of another machine, or of more devices, would say nothing.
ALIKE = ("model", "dtype", "device", "devices", "tensor_parallel")


def read_latency(path: str | os.PathLike, configs: Sequence[str], mode: str) -> dict:
    """One latency document, checked to be what it is taken for.

    Args:
        configs: schedules that the file may hold.
        mode: what will be read from it; an `end2end` file holds prefill times too.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, no latency file (`records.LATENCY`), of another schedule, or without the decode
            that `end2end` needs.
    """
    document = results.read_json(path)
    check(document, LATENCY, f"{path} is no latency file, which `sdtp profile` writes: it")
    metadata = document["metadata"]
    if metadata.get("config", configs[0]) not in configs:
        raise ValueError(f"{path} holds config {metadata['config']!r}, not {' or '.join(map(repr, configs))}")
    if mode == "end2end" and metadata.get("mode", mode) != mode:
        raise ValueError(f"{path} holds mode {metadata['mode']!r}, which has no decode; end2end was asked for")
    return document


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
