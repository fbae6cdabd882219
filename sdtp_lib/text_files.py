"""Text and JSON as they come in: from a file, a pipe or standard input; UTF-8, with or without a byte order mark.

Line ends of every system become `\\n`, and neither they nor the mark are part of what is read.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STDIN = "-"
MARK = "\ufeff"  # a byte order mark, decoded
WIDTH = 60  # characters that an error shows of a value


def read_text(source: str | os.PathLike, what: str = "file") -> str:
    """The text of a file or a pipe, or for `-` of standard input.

    Args:
        what: what to call the source in an error.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a folder, or no UTF-8 text.
    """
    name, content = _read(source, what)
    try:
        return decode(content)
    except ValueError as error:
        raise ValueError(f"{name} is {error}") from None


def decode(content: bytes) -> str:
    """The text that UTF-8 bytes hold, see above.

    Raises:
        ValueError: saying what they are instead; null bytes are taken for another encoding.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("no UTF-8 text but UTF-16; save it as UTF-8")
    if (null := content.find(b"\0")) >= 0:
        raise ValueError(f"no UTF-8 text: UTF-16 or binary, with a null byte at byte {null}; save it as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from None
    return text.removeprefix(MARK).replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | os.PathLike, what: str = "file", remedy: str = "write or copy it again") -> Any:
    """What a JSON file holds.

    Args:
        what: what to call the file in an error.
        remedy: what to do about a damaged one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no JSON, for instance cut short; names the place.
    """
    name, content = _read(path, what)
    try:
        return parse_json(decode(content))
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}; {remedy}") from None


def read_jsonl(path: str | os.PathLike) -> Iterator[dict]:
    """Yield the objects of a JSONL file; ValueError for a line that is none, naming it."""
    return (row for _, row in numbered_rows(path))


def numbered_rows(path: str | os.PathLike) -> Iterator[tuple[str, dict]]:
    """As `read_jsonl`, each with the name of its place, such as `data/qasper.jsonl line 3`."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.removeprefix(MARK)  # files that were put together keep the marks of each
        if line.strip():
            yield f"{path} line {number}", parse_object(line, f"{path} line {number}")


def parse_object(line: str, where: str) -> dict:
    """The JSON object that a line holds.

    Raises:
        ValueError: if it is none, naming its place `where`; also for half a character (an escaped surrogate), which no
            tokenizer takes.
    """
    try:
        row = parse_json(line)
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} holds {ascii(error.object[error.start])}, half a character; correct it") from None
    except ValueError as error:
        raise ValueError(f"{where} is not a JSON object: {error}; write or copy the file again") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where} is not a JSON object, which every line must be, but {shown(row)}")
    return row


def parse_json(text: str) -> Any:
    """What JSON says, held to its standard.

    Raises:
        ValueError: naming the place of the error; also for a key twice in one object, of which the first would be lost.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise ValueError("it is empty") from None
        line = f"line {error.lineno} " if "\n" in text.strip() else ""
        raise ValueError(f"no JSON at {line}column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def shown(value: Any) -> str:
    """A value as its file has it, cut to a part of a line."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."


def check_apart(output: str | os.PathLike | None, *inputs: str | os.PathLike | None) -> None:
    """Raise ValueError if the output is one of the inputs, by whatever name; None stands for no such file."""
    if output is None or not os.path.exists(output):
        return
    for given in inputs:
        given = "/dev/stdin" if given == STDIN else given
        if given is not None and os.path.exists(given) and os.path.samefile(output, given):
            raise ValueError(f"output {output} is the input {given} as well; name another output")


def _read(source: str | os.PathLike, what: str) -> tuple[str, bytes]:
    """(what to call it in an error, content); a pipe can be read once."""
    if source == STDIN:
        return f"{what} from standard input", sys.stdin.buffer.read()
    path = Path(source)
    if path.is_dir():
        raise ValueError(f"{what} {path} is a folder; name a file")
    if not path.exists():
        raise FileNotFoundError(f"{what} {path} does not exist")
    return f"{what} {path}", path.read_bytes()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} comes twice in one object")
    return found
