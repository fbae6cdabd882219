"""What a tuning was asked for, on disk beside its unfinished work, so that no other tuning goes on with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.samples import Sample
from ...results import check_output, check_resumable, read_json, write_json
from ...scorers.files import CONFIG_FILE, FILES, read_config

WORK, SETTINGS_FILE = "work", "tune.json"
TUNING = "tuning"  # of a pruner's record: the same settings, once it is done


def check_free(output: Path, resume: bool) -> None:
    """Refuse an output that cannot be written, or that holds other work; asked before a model is loaded.

    Raises:
        ValueError: if it holds a pruner, or work that is not to be resumed; without `resume` for either.
        OSError: if nothing can be written there.
    """
    check_output(output, folder=True)
    for name in FILES:
        check_output(output / name)
    if (output / CONFIG_FILE).exists() and not resume:
        raise ValueError(f"{output} already holds a pruner; name another folder")
    if (output / WORK).exists() and not resume:
        raise ValueError(f"{output} holds an unfinished tuning; go on with --resume, or name another folder")


def finished(output: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a pruner that was tuned with these settings and is done; None if it is not done.

    Raises:
        ValueError: if the folder's pruner, or its unfinished work, belongs to other settings; names the first of them.
    """
    settings = json.loads(json.dumps(settings))
    if (output / CONFIG_FILE).exists():
        record = read_config(output)["record"]
        if TUNING not in record:
            raise ValueError(f"{output} already holds a pruner that was not tuned; name another folder")
        _check_same(record[TUNING], settings, output)
        return record
    if (output / WORK / SETTINGS_FILE).exists():
        _check_same(read_json(output / WORK / SETTINGS_FILE), settings, output)
    return None


def begin(output: Path, settings: Mapping[str, Any]) -> Path:
    """The folder for unfinished work, with the settings in it."""
    write_json(output / WORK / SETTINGS_FILE, settings)
    return output / WORK


def end(output: Path) -> None:
    """Remove the unfinished work: its marks hold the prompts, which a pruner's folder shall not."""
    shutil.rmtree(output / WORK, ignore_errors=True)


def samples_digest(samples: Sequence[Sample]) -> str:
    """Identifies prompts and answers, in their order."""
    return hashlib.sha256("".join(sample.digest for sample in samples).encode()).hexdigest()[:16]


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any], output: Path) -> None:
    try:
        check_resumable(old, new, list(new))
    except ValueError as error:
        raise ValueError(f"{error}; name another folder than {output}") from None
