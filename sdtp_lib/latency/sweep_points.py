"""Points of a sweep over model, schedule and length: each its own latency file, so that they merge by being there.

Any process on any machine may add a point; nothing is shared between them but the folder. A speedup is that of one
point: the full and the pruned model on the same devices, in turns.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from .. import paths, results
from ..errors import Failed
from ..markdown import Markdown
from ..models import provenance
from ..models.dtypes import resolve_dtype
from ..options import MODES
from ..pruning.schedule import PRESET_NAMES
from ..text_files import check_apart
from .files import ALIKE, completed, lookup, read_latency
from .sweep import profile

FOLDER = "points"  # below a profile's results
TABLE = "sweep.md"  # beside it
SWEPT = ("config", "mode", "new_tokens", "decode", "chunk", "seed")  # points that agree in these are one sweep's
ABOUT = {"Model": "model", "Dtype": "dtype", "Schedule": "config", "Mode": "mode", "New tokens": "new_tokens"}
COLUMNS = {  # column -> keys in the record of one length
    "Full prefill (s)": ("baseline", "prefill_latency_seconds"),
    "Pruned (s)": ("sdtp", "prefill_latency_seconds"),
    "Full total (s)": ("baseline", "total_latency_seconds"),
    "Pruned total (s)": ("sdtp", "total_latency_seconds"),
    "Prefill x": ("speedup", "prefill"),
    "End2End x": ("speedup", "total"),
    "Prefill / estimate": ("share_of_limit", "prefill"),
    "End2End / estimate": ("share_of_limit", "end2end"),
    "KV reduction": ("kv_reduction",),
}
NOTE = """
Every row is one run, in which the full and the pruned model took turns on the devices it names. Seconds of rows with
other devices, or another number of them, say nothing about pruning; no speedup here is over fewer devices.
"""


def measure_point(profile_name: str, model: str, config: str, length: int, mode: str = "end2end", **options) -> dict:
    """Time one point and write its file into the profile's folder of points.

    Its name has the model, the schedule and the length, and a digest of all else that makes it another point: the other
    options, and the device.

    Args:
        profile_name, model, config, mode, options: see `latency.sweep.profile`.
        length: of the prompt, in tokens.

    Returns:
        The document written.

    Raises:
        ValueError, FileNotFoundError: as `latency.sweep.profile`.
        Failed: if the point failed, out of memory for instance; the file says so too.
    """
    options["dtype"] = resolve_dtype(options.get("dtype", "auto"), options.get("device"))
    which = {"model": model, "mode": mode, **options, "device": provenance.environment_record()["device"]}
    digest = hashlib.sha256(json.dumps(which, sort_keys=True, default=str).encode()).hexdigest()[:8]
    file = paths.results(profile_name) / FOLDER / f"{Path(model).name}_{config}_{length}_{digest}.json"
    document = profile(mode, config, [length], model, output=file, profile_name=profile_name, **options)
    if problem := lookup(document["results"], str(length), "error"):
        raise Failed(f"{length} tokens failed: {problem}")
    return document


def read_points(folder: str | os.PathLike) -> list[dict]:
    """The latency documents of a folder, by name.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: naming the file that is no latency file.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise FileNotFoundError(f"no points in {folder}")
    return [read_latency(file, PRESET_NAMES, MODES[0]) for file in files]


def merge_points(documents: Sequence[Mapping], like: Mapping) -> dict[str, dict]:
    """Label -> one latency document of all points that differ in their length alone, for a figure of one model.

    Args:
        documents: see `read_points`; those of another model, dtype or devices than `like` are left out.
        like: latency document.

    Returns:
        Labels name the schedule, and what else differs between the documents; of two points of one length the last.
    """
    groups: dict[tuple, dict] = {}
    for metadata, rows in ((document["metadata"], document["results"]) for document in documents):
        if all(metadata.get(key) == like["metadata"].get(key) for key in ALIKE):
            key = tuple(str(metadata.get(name)) for name in SWEPT)
            groups.setdefault(key, {"metadata": metadata, "results": {}})["results"] |= rows
    told = [at for at, name in enumerate(SWEPT) if name == "config" or len({key[at] for key in groups}) > 1]
    return {", ".join(key[at] for at in told): merged for key, merged in groups.items()}


def points_table(documents: Sequence[Mapping]) -> pd.DataFrame:
    """One row per point: ABOUT, devices, length and COLUMNS; NaN where it failed or has no such number."""
    rows = []
    for metadata, found in ((document["metadata"], document["results"]) for document in documents):
        named = {column: metadata.get(key) for column, key in ABOUT.items()} | {"Devices": devices(metadata)}
        for length, record in found.items():
            numbers = {column: lookup(completed(record), *keys) for column, keys in COLUMNS.items()}
            rows.append({**named, "Length": int(length), **numbers, "Failed": record.get("error")})
    table = pd.DataFrame(rows).sort_values([*ABOUT, "Devices", "Length"], ignore_index=True)
    return table.dropna(axis="columns", how="all")


def devices(metadata: Mapping) -> str:
    """What a latency document was measured on, in words."""
    device, spread, processes = (metadata.get(key) for key in ("device", "devices", "tensor_parallel"))
    if processes:
        return f"{device}, split over {processes} processes"
    return f"{device}, layers on {', '.join(spread)}" if spread else str(device)


def show_points(documents: Sequence[Mapping]) -> Markdown:
    """`points_table` for a notebook."""
    table, seconds = points_table(documents), [column for column in COLUMNS if "(s)" in column]
    return Markdown(results.markdown_table(table, dict.fromkeys(seconds, 3)))


def write_points(folder: str | os.PathLike, output: str | os.PathLike) -> None:
    """Write `points_table` of a folder's files as Markdown. Raises as `read_points`; ValueError for a bad output."""
    results.check_output(output)
    check_apart(output, *Path(folder).glob("*.json"))
    results.write_text(output, show_points(read_points(folder)) + "\n" + NOTE)
