"""Corpora as plain records: the embedded demo, and Dolly-15k and LongBench from the Hub (pinned) or a local folder.

A training pair is `{"id", "prompt", "answer", "dataset"}`; the answer is the text that follows the prompt at once. A
LongBench record has LongBench's own fields: `input context answers length dataset language all_classes _id`.
"""

from __future__ import annotations

import json
import os
import re
from itertools import islice
from pathlib import Path

from .demo.corpus import TASKS, longbench_mini
from .demo.dense import ALL_TASKS, DENSE_TASKS, longbench_dense

DOLLY, DOLLY_REVISION = "databricks/databricks-dolly-15k", "bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a"
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
    _check_limit("count", count)
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


def dolly_pairs(
    source: str | os.PathLike = DOLLY, revision: str | None = DOLLY_REVISION, limit: int | None = None
) -> list[dict]:
    """Dolly-15k (the paper's training data) as prompts with answers; blank instructions and responses are left out.

    Args:
        source: a Hub name, a JSONL file, or a folder with one.
        revision: of the Hub's copy.
        limit: take the first `limit` pairs; None takes all.

    Raises:
        FileNotFoundError: if the source is not there.
        ValueError: for a limit below 1, a damaged line, or a record without the fields instruction and response.
    """
    _check_limit("limit", limit)
    pairs = []
    for index, row in enumerate(_rows(source, None, "train", revision)):
        if not {"instruction", "response"} <= row.keys():
            raise ValueError(f"record {index} of {source} has no instruction and response; it has {', '.join(row)}")
        if not (row["instruction"] or "").strip() or not (row["response"] or "").strip():
            continue
        context = f"Context: {row['context'].strip()}\n\n" if row.get("context") else ""
        prompt = f"Instruction: {row['instruction'].strip()}\n\n{context}Response:"
        answer = f" {row['response'].strip()}"
        pairs.append({"id": f"dolly-{index}", "prompt": prompt, "answer": answer, "dataset": "dolly"})
        if len(pairs) == limit:
            break
    return pairs


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
        ValueError: for a limit below 1, an unknown mini dataset, a damaged line, a record without context or answers.
    """
    _check_limit("limit", limit)
    if source == "mini":
        make = longbench_dense if dataset in DENSE_TASKS else longbench_mini
        return make(dataset, limit or MINI_SIZE, MINI_SEED)
    records = []
    for index, row in enumerate(islice(_rows(source, dataset, "test", revision), limit)):
        name = f"{dataset} record {row.get('_id', index)}"
        if not (row.get("context") or "").strip():
            raise ValueError(f"{name} has no context; such a prompt tests nothing")
        if not row.get("answers"):
            raise ValueError(f"{name} has no answers")
        records.append({
            **row, "input": row.get("input") or "", "dataset": dataset, "answers": list(row["answers"]),
            "all_classes": list(row.get("all_classes") or []) or None, "_id": str(row.get("_id", index)),
        })  # fmt: skip
    if not records:
        raise ValueError(f"{dataset} in {source} holds no records")
    return records


def read_jsonl(path: str | os.PathLike):
    """Yield the objects of a JSONL file; ValueError for a line that is none, naming it."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise ValueError(f"{path} line {number} is not a JSON object")
            yield row


def _rows(source: str | os.PathLike, name: str | None, split: str, revision: str | None):
    """Rows of a file, of `<name>.jsonl` (or the only JSONL file) in a folder, or of a dataset on the Hub."""
    path = Path(source)
    if path.is_dir():
        files = [path / f"{name}.jsonl"] if name else sorted(path.glob("*.jsonl"))
        if len(files) != 1 or not files[0].is_file():
            wanted = f"file {name}.jsonl" if name else "single JSONL file"
            raise FileNotFoundError(f"folder {path} has no {wanted}")
        return read_jsonl(files[0])
    if path.is_file():
        return read_jsonl(path)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) or str(source).startswith("."):
        raise FileNotFoundError(f"{source} is neither a file nor a folder")
    from datasets import load_dataset  # slow to import, and not needed offline

    try:
        return iter(load_dataset(str(source), name, split=split, revision=revision))
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise FileNotFoundError(f"{source} is no local folder and the Hub does not give it: {first}") from None


def _check_limit(name: str, limit: int | None) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"{name} must be a whole number, 1 or more, got {limit}")
