"""Measurements that a notebook makes itself, or shows as the repository stores them for a longer profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from .. import paths, results
from ..latency.files import read_latency
from .result_file import write


def stored_or_measured(
    source: str | None, name: str, measure: Callable[[], Any], model: PreTrainedModel, profile: str, /, **details
) -> Any:
    """`data` of a result file: stored by the profile `source`, or, where that is None, measured and written now.

    Args:
        name: of the file below the profile's results, without `.json`.
        measure: gives the data.
        model, profile, details: go into the metadata of what is written.

    Raises:
        FileNotFoundError: if the repository has no such file.
    """
    if source is not None:
        return results.stored(source, name)
    found = measure()
    write(found, paths.results(profile) / f"{name}.json", model, profile, **details)
    return found


def stored_or_own(source: str | None, name: str, own: Any) -> Any:
    """`data` of a result file: stored by the profile `source`, or, where that is None, what this run found itself.

    Raises:
        FileNotFoundError: if the repository has no such file.
    """
    return own if source is None else results.stored(source, name)


def stored_or_swept(
    source: str | None, configs: Sequence[str], folder: str, profile: str, run: Callable[[Path], Any]
) -> dict[str, dict]:
    """Latency documents of some schedules: stored by the profile `source`, or, where that is None, swept now.

    Args:
        folder: below the profile's results.
        run: sweeps into the folder it is given, see `latency.sweep.sweep`.

    Raises:
        FileNotFoundError, ValueError: as `latency.files.read_latency`.
    """
    if source is not None:
        return stored_sweep(source, configs, folder)
    home = paths.results(profile) / folder
    run(home)
    return _read(home, configs)


def stored_sweep(source: str, configs: Sequence[str], folder: str = "") -> dict[str, dict]:
    """The latency documents that a profile stored, see `stored_or_swept`."""
    return _read(paths.stored(paths.RESULTS, source) / folder, configs)


def _read(home: Path, configs: Sequence[str]) -> dict[str, dict]:
    return {config: read_latency(home / f"latency_results_{config}.json", [config], "prefill") for config in configs}
