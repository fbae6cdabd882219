"""Corpora as plain records: the embedded demo, and LongBench from the Hub (pinned) or a local folder.

A training pair is `{"id", "prompt", "answer", "dataset"}`; the answer is the text that follows the prompt at once. A
LongBench record has LongBench's own fields: `input context answers length dataset language all_classes _id`. The
last five may be missing; `records` says what each field must hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..text_files import numbered_rows, read_jsonl, shown
from .demo.corpus import TASKS, longbench_mini
from .demo.dense import ALL_TASKS, DENSE_TASKS, longbench_dense
from .records import HUB_RECORD, LONGBENCH_RECORD, check, check_new
from .tasks import DATASETS, DENSE, MINI

__all__ = ["demo_pairs", "longbench_records", "read_jsonl"]

# A parquet copy: `datasets` 4 and later refuse the loading script of the original.
LONGBENCH, LONGBENCH_REVISION = "Xnhyacinth/LongBench", "2e9ade51ebf45d98942056c0716234f9d5d257d5"
MINI_SEED = 2025  # LongBench-mini's documents; demo pairs must not share them
MINI_SIZE = 100  # records of one LongBench-mini dataset when no limit is given


def demo_pairs(count: int, seed: int, tokens: tuple[int, int] = (256, 960), dense: bool = False) -> list[dict]:
    """`count` prompts with answers over the five demo categories in turn, one fresh document each.

    Args:
        count: number of pairs.
        seed: of the documents; LongBench-mini's own seed is refused, so that evaluation stays unseen.
        tokens: range of document lengths, in tokens.
        dense: half of the documents are those of dense LongBench-mini.

    Raises:
        ValueError: for `count` below 1, or LongBench-mini's seed.
    """
    check_limit("count", count)
    if seed == MINI_SEED:
        raise ValueError(f"seed {seed} makes the documents of LongBench-mini; take another one for training")
    makers = {name: longbench_mini for name in TASKS} | {name: longbench_dense for name in DENSE_TASKS if dense}
    share = -(-count // len(makers))
    rows = zip(*(make(name, share, seed, tokens) for name, make in makers.items()), strict=True)
    return [_demo_pair(record) for row in rows for record in row][:count]


def _demo_pair(record: dict) -> dict:
    task = ALL_TASKS[record["dataset"]]
    prompt = task.prompt(record["context"], record["input"])
    answer = task.before + record["answers"][0]
    return {"id": record["_id"], "prompt": prompt, "answer": answer, "dataset": record["dataset"]}


def longbench_records(
    dataset: str,
    source: str | os.PathLike = "mini",
    limit: int | None = None,
    revision: str | None = LONGBENCH_REVISION,
) -> list[dict]:
    """The first `limit` records of one dataset, each with a context and at least one answer.

    Args:
        dataset: one of LongBench-mini's or LongBench's names.
        source: "mini" for the embedded LongBench-mini, a folder with `<dataset>.jsonl`, or a Hub name. Records of a Hub
            copy that come with `question` and `answer_prefix` keep them.
        limit: None takes all (LongBench-mini: 100).
        revision: of the Hub's copy.

    Raises:
        FileNotFoundError: if the source is not there.
        ValueError: for a limit below 1, an unknown mini dataset, no records, a damaged line, or a record that does not
            fit its schema (`data.records.LONGBENCH_RECORD` or `HUB_RECORD`), has the identifier of another, belongs to
            another dataset, or has no classes where they are needed.
    """
    check_limit("limit", limit)
    if source == "mini":
        make = longbench_dense if dataset in DENSE_TASKS else longbench_mini
        return make(dataset, limit or MINI_SIZE, MINI_SEED)
    records, seen = [], {}
    for index, (where, row) in enumerate(islice(rows_of(source, dataset, "test", revision), limit)):
        name = index if row.get("_id") is None else row["_id"]
        label = shown(name).strip('"')
        _check_record(row, dataset, f"{where}, {dataset} record {label}")
        check_new(str(name), seen, where)
        records.append({
            **row, "input": row.get("input") or "", "dataset": dataset, "answers": list(row["answers"]),
            "all_classes": list(row.get("all_classes") or []) or None, "_id": str(name),
        })  # fmt: skip
    if not records:
        raise ValueError(f"{dataset} in {source} holds no records")
    return records


def source_of(dataset: str, source: str | os.PathLike | None) -> str | os.PathLike:
    """Where a dataset's records come from: `source` if given, else the embedded sets or the Hub's copy."""
    return source or ("mini" if dataset in MINI or dataset in DENSE else LONGBENCH)


def _check_record(row: dict, dataset: str, where: str) -> None:
    """Raise ValueError for a LongBench record that cannot be asked and scored as one of `dataset`."""
    check(row, LONGBENCH_RECORD if row.get("question") is None else HUB_RECORD, where)
    if row.get("dataset") != dataset and row.get("dataset") in DATASETS:
        raise ValueError(f"{where}, field dataset: found {shown(row['dataset'])}; keep each dataset in its own file")
    if dataset in DATASETS and DATASETS[dataset].metric == "accuracy" and not row.get("all_classes"):
        raise ValueError(f"{where} has no all_classes: the answers of {dataset} are classes, so all must be listed")


def rows_of(
    source: str | os.PathLike, name: str | None, split: str, revision: str | None
) -> Iterator[tuple[str, dict]]:
    """Rows of a file, of `<name>.jsonl` (or the only JSONL file) in a folder, or of a dataset on the Hub.

    With each comes what to call its place in an error.
    """
    path = Path(source)
    if path.is_dir():
        files = [path / f"{name}.jsonl"] if name else sorted(path.glob("*.jsonl"))
        if len(files) != 1 or not files[0].is_file():
            wanted = f"file {name}.jsonl" if name else "single JSONL file"
            raise FileNotFoundError(f"folder {path} has no {wanted}")
        return numbered_rows(files[0])
    if path.exists():  # a pipe is no regular file
        return numbered_rows(path)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) or str(source).startswith("."):
        raise FileNotFoundError(f"{source} is neither a file nor a folder")
    from datasets import load_dataset  # slow to import, and not needed offline

    try:
        rows = load_dataset(str(source), name, split=split, revision=revision)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise FileNotFoundError(f"{source} is no local folder and the Hub does not give it: {first}") from None
    return ((f"{source} row {number}", row) for number, row in enumerate(rows, 1))


def check_limit(name: str, limit: int | None) -> None:
    """Raise ValueError unless a limit is None or a whole number of 1 or more."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"{name} must be a whole number, 1 or more, got {limit}")
