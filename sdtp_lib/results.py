"""Result files in and out: each written whole or not at all, and recording what produced it."""

from __future__ import annotations

import json
import numbers
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import paths

LOADED = object()  # stands for the pruners that were loaded for a model
RESUME_KEYS = ("schedule", "model", "device", "devices", "torch", "transformers", "dtype")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path`, making its folder; an existing file is replaced in one step or left as it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{platform.node()}.{os.getpid()}"  # other machines may write here too
    partial = path.with_name(f".{path.name}.{writer}.partial")  # same folder: a rename across disks is a copy
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write `data` as indented JSON, see `write_text`; NumPy and torch numbers and arrays become plain ones.

    Raises:
        ValueError: for NaN or infinite numbers, which JSON does not know; for values with no JSON form.
    """
    write_text(path, _dumps(path, data, indent=2) + "\n")


def check_output(path: str | os.PathLike) -> None:
    """Raise ValueError if no file could be written at `path`; asked before long work, not after it."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"output {path} is a folder; give a file name")
    blocked = [parent for parent in path.absolute().parents if parent.exists() and not parent.is_dir()]
    if blocked:
        raise ValueError(f"output {path} cannot be written: {blocked[0]} is a file")


def append_jsonl(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one line of JSON per row, all in one write; makes file and folder where missing.

    Raises:
        ValueError: as `write_json`, before anything is written.
    """
    text = "".join(_dumps(path, row) + "\n" for row in rows)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no JSON, for instance cut short.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"result file {path} does not exist")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # broken JSON or broken UTF-8
        raise ValueError(f"result file {path} is damaged: {error}") from None


def environment_record(model: Any = None) -> dict[str, Any]:
    """Device, versions and commit of this run, as plain JSON values; of a model laid over several also which `devices`.

    Args:
        model: whose `device` counts; anything without one stands for the GPU if there is one, else the CPU.
    """
    import torch

    device = getattr(model, "device", None) or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    places = getattr(model, "hf_device_map", None) or {}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        **({"devices": sorted(map(str, {*places.values()}))} if len({*places.values()}) > 1 else {}),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **_commit(),
    }


def metadata(
    *, profile: str | None, model: Any, dtype: str | None = None, schedule: Any = None, pruner: Any = LOADED, **details
) -> dict:
    """What every result file carries: what was run, and `environment_record`.

    Args:
        profile: name of the profile, or None outside of one.
        model: a loaded model or the name of one; of a local folder only the last part is recorded.
        dtype: by default the model's own.
        schedule: a `PruningSchedule`, or None.
        pruner: the scorer that pruned, or None, see `identity.pruner_record`; by default those that
            `models.load_pruner` has loaded for the model so far.
        details: further JSON values, such as seeds and repeats.
    """
    from .identity import pruner_record, pruners_of  # torch is slow to import, and not every caller needs it

    name = str(getattr(model, "name_or_path", model))
    if pruner is LOADED:
        pruner = pruners_of(model)
        pruner = pruner[0] if len(pruner) == 1 else pruner or None
    else:
        pruner = pruner_record(pruner, model)
    if dtype is None and hasattr(model, "dtype"):
        dtype = str(model.dtype).removeprefix("torch.")
    return {
        "profile": profile,
        "model": Path(name).name if os.path.isdir(name) else name,
        "dtype": dtype,
        "schedule": schedule.to_dict() if hasattr(schedule, "to_dict") else schedule,
        "pruner": pruner,
        **details,
        **environment_record(model),
    }


def check_resumable(old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str] = RESUME_KEYS) -> None:
    """Raise ValueError, naming the first of `keys` that differs, unless a run recorded as `old` may go on as `new`."""
    for key in keys:
        if old.get(key) != new.get(key):
            raise ValueError(f"cannot resume: {key} was {old.get(key)!r} and is now {new.get(key)!r}")


def markdown_table(table: Any, digits: int = 2) -> str:
    """A Markdown table, floats rounded to `digits`, missing values as a dash, numbers to the right.

    Args:
        table: a DataFrame, without its index, or a list of rows as dicts.
    """
    import pandas as pd
    from tabulate import tabulate

    frame = pd.DataFrame(table)
    align = ["right" if pd.api.types.is_numeric_dtype(dtype) else "left" for dtype in frame.dtypes]
    rows = [[_cell(value, digits) for value in row] for row in frame.astype(object).itertuples(index=False)]
    return tabulate(rows, [*map(str, frame.columns)], "pipe", disable_numparse=True, colalign=align if rows else None)


def _cell(value: Any, digits: int) -> str:
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "-"
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 turns -0.0 into 0.0
    return str(value).replace("|", "\\|")


def _dumps(path: str | os.PathLike, data: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(data, indent=indent, allow_nan=False, ensure_ascii=False, default=_plain)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} was not written: {error}") from None


def _plain(value: Any) -> Any:
    """NumPy and torch values; all else has no JSON form."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> dict[str, Any]:
    """The repository's commit and whether the library differs from it; nothing outside a checkout."""
    if not (paths.ROOT / ".git").exists():  # an installed copy must not report a repository around it
        return {"commit": None, "modified": None}
    try:
        return {"commit": _git("rev-parse", "HEAD"), "modified": bool(_git("status", "--porcelain", "--", "sdtp_lib"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "modified": None}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(paths.ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def stored(profile: str, name: str) -> dict:
    """`data` of a result file as the repository stores it, wherever this run's own results go.

    Raises:
        FileNotFoundError: if the repository has no such file.
    """
    return read_json(paths.ROOT / "results" / profile / f"{name}.json")["data"]
