"""Result files in and out: each written whole or not at all, and recording what produced it."""

from __future__ import annotations

import json
import numbers
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import paths, text_files
from .errors import stopping_waits

RESUME_KEYS = ("schedule", "model", "device", "devices", "torch", "transformers", "dtype")
PROBE_BYTES = 4096  # a block, so that a full disk is found as well


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write `content` to `path`, making its folder; an existing file is replaced in one step or left as it was."""
    write_files({Path(path): content})


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all are complete on disk before the first takes its place."""
    partials = {path: _partial(path) for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _naming(path), open(partials[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        with stopping_waits():
            for path, partial in partials.items():
                os.replace(partial, path)
    finally:
        for partial in partials.values():
            with suppress(OSError):  # the error that matters is the one of writing
                partial.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write `data` as indented JSON, see `write_text`; NumPy and torch numbers and arrays become plain ones.

    Raises:
        ValueError: for NaN or infinite numbers, which JSON does not know; for values with no JSON form.
    """
    write_text(path, _dumps(path, data, indent=2) + "\n")


def check_output(path: str | os.PathLike, folder: bool = False) -> None:
    """Refuse an output that cannot be written; asked before long work, not after it.

    What really counts is tried: a file is written where the first one of the output will be, and removed.

    Args:
        folder: whether `path` is a folder that files go to.

    Raises:
        ValueError: for a file where a folder is wanted, or the other way round.
        OSError: of the system's own kind and number, if no file can be written there.
    """
    path = Path(path)
    try:
        if folder and path.exists() and not path.is_dir():
            raise ValueError(f"output {path} is a file; give a folder")
        if not folder and path.is_dir():
            raise ValueError(f"output {path} is a folder; give a file name")
        if not folder and path.exists() and not path.is_file():  # it would be replaced, also /dev/null
            raise ValueError(f"output {path} is no regular file; give a file name")
        absolute = path.absolute()
        above = [absolute, *absolute.parents] if folder else absolute.parents
        nearest = next(place for place in above if os.path.lexists(place))
        if not nearest.is_dir():
            raise ValueError(f"output {path} cannot be written: {nearest} is a file")
        _try_to_write(_partial(nearest / absolute.name))
    except OSError as error:
        raise type(error)(error.errno, f"output {path} cannot be written: {error.strerror}") from None


@contextmanager
def _naming(path: str | os.PathLike) -> Iterator[None]:
    """An OSError of the block, which on a full disk names no file, names this one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, f"{path} was not written: {error.strerror}") from None


def _try_to_write(probe: Path) -> None:
    try:
        with open(probe, "wb") as file:
            file.write(bytes(PROBE_BYTES))
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """Where a file lies until it is whole; in the same folder, as a rename across disks is a copy."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.partial")  # other machines may write here too


def append_jsonl(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one line of JSON per row, all of them or none; makes file and folder where missing.

    Raises:
        ValueError: as `write_json`, before anything is written.
    """
    rest = memoryview("".join(_dumps(path, row) + "\n" for row in rows).encode())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with _naming(path), open(path, "ab", buffering=0) as file:
        start = file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:  # half a line is worse than none
            file.truncate(start)
            if not start:
                os.unlink(path)
            raise


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file of results holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no JSON, for instance cut short.
    """
    return text_files.read_json(path, "result file", "copy it again, or run again what wrote it")


def check_resumable(old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str] = RESUME_KEYS) -> None:
    """Raise ValueError, naming the first of `keys` that differs, unless a run recorded as `old` may go on as `new`."""
    for key in keys:
        if old.get(key) != new.get(key):
            raise ValueError(f"cannot resume: {key} was {old.get(key)!r} and is now {new.get(key)!r}")


def markdown_table(table: Any, digits: int | Mapping[str, int] = 2) -> str:
    """A Markdown table, floats rounded to `digits`, missing values as a dash, numbers to the right.

    Args:
        table: a DataFrame, without its index, or a list of rows as dicts.
        digits: of all columns, or column -> digits, and 2 of those not named.
    """
    import pandas as pd
    from tabulate import tabulate

    frame = pd.DataFrame(table)
    align = ["right" if pd.api.types.is_numeric_dtype(dtype) else "left" for dtype in frame.dtypes]
    places = [digits if isinstance(digits, int) else digits.get(str(name), 2) for name in frame.columns]
    values = frame.astype(object).itertuples(index=False)
    rows = [[_cell(value, place) for value, place in zip(row, places, strict=True)] for row in values]
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


def stored(profile: str, name: str) -> dict:
    """`data` of a result file as the repository stores it, wherever this run's own results go.

    Raises:
        FileNotFoundError: if the repository has no such file.
    """
    return read_json(paths.stored(paths.RESULTS, profile) / f"{name}.json")["data"]
