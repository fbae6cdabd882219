"""The table of `methods` as it is stored: rows as JSON, the same as Markdown, and every sample's scores, packed.

`python -m sdtp_lib.experiments.real.stored_methods FOLDER results/smollm2 --model smollm2-135m` writes the three. With
`--add` the rows that are there already stay; with `--beside` the full model is taken from another stored table.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from ...data.tasks import DATASETS
from ...models.names import local_path
from ...models.packages import RECORD_FILE
from ...results import read_json, write_files
from .methods import compare_methods, in_order, methods_table, read_runs
from .pairs import with_pairs
from .stored_table import JSON, PAGE, SAMPLES, StoredTable

# Of a sample; no text, which is not ours to store.
KEPT = ("_id", "dataset", "prompt_tokens", "digest", "score", "nll", "choice", "group")
TITLES = {
    "needle": "One needle", "needle_multi": "Four needles, one asked for",
    "needle_reworded": "One needle, asked for in other words",
    "documents_qa": "Questions among documents", "prose_nll": "The next 64 tokens of prose",
}  # fmt: skip
HEAD = """# {title}

Score in points of 100; `right`: the right one of four spans is the likeliest (chance 25); `nll`: nats per token of the
right answer. Mean [95% interval]; then the paired difference to the full model on the same records [95% interval].
FLOPs are counted, for the prefill of this model. `sdtp, paper` is the paper's module, `sdtp, question_aware` the one
that also reads the question; a number behind the name is the seed of another training.
Measured on {devices}: each row of `methods.json` names its own.
Scores of all samples are in `methods_samples.jsonl.gz`.
"""


def store_methods(
    folder: str | os.PathLike, output: str | os.PathLike, model: str | os.PathLike, note: str = "",
    beside: str | os.PathLike | None = None, profile: str | None = None, add: bool = False,
) -> list[Path]:  # fmt: skip
    """Write `methods.json`, `methods.md` and `methods_samples.jsonl.gz`, all or none.

    Args:
        folder: JSON files of `sdtp evaluate --output`, with their samples beside them.
        output: folder to write to.
        model: whose FLOPs are counted.
        note: what else a reader of the page must know; by default what the table of `output` says, if it is added to.
        beside: folder of a stored table, whose rows of the full model go before those of `folder`.
        profile: that the results belong to; by default what the files say.
        add: keep the rows of `output` that `folder` has no file of the same name for; their differences are taken anew.

    Returns:
        The files written.

    Raises:
        ValueError, FileNotFoundError: as `compare_methods`, or if there is no such model or table; nothing is written
            then.
    """
    home, runs = local_path(model), read_runs(folder)
    new = {stem: samples for stem, (_, samples) in runs.items()}
    kept = StoredTable.read(output).without(new) if add else StoredTable({}, [], {})
    full = StoredTable({}, [], {})
    if beside:
        asked = {sample["_id"] for samples in [*new.values(), *kept.samples.values()] for sample in samples}
        full = StoredTable.read(beside).full(asked)
        kept = kept.without(full.samples)
    known = [*full.runs(), *kept.runs()]
    rows = compare_methods(runs, AutoConfig.from_pretrained(home or model), known)
    rows += kept.beside(known + [run for run in runs.values() if run[0]["method"] == "full"])
    abouts = [run for run, _ in runs.values()]
    about = {
        key: _different([*(kept.said(key) if kept.rows else []), *(each.get(key) for each in abouts)])
        for key in sorted({key for each in [kept.about, *abouts] for key in each})
    }
    about["profile"], about["note"] = profile or about.get("profile"), note or kept.about.get("note", "")
    source = read_json(home / RECORD_FILE) if home and (home / RECORD_FILE).is_file() else {}
    if source:
        about["weights"] = f"{source['model']}, {source['weights']}"
    rows = with_pairs(in_order(full.rows + rows), kept.samples | new)
    about |= {"device": _different(_devices(rows)), "commit": _different([row["commit"] for row in rows])}
    files = {
        Path(output, JSON): (json.dumps({"metadata": about, "data": rows}, indent=2) + "\n").encode(),
        Path(output, PAGE): methods_page(rows, about).encode(),
        Path(output, SAMPLES): gzip.compress(_lines(kept.samples | new).encode(), mtime=0),
    }
    write_files(files)
    return list(files)


def methods_page(rows: Sequence[Mapping], about: Mapping[str, Any]) -> str:
    """The Markdown page: a table for every task and length that has rows."""
    devices = " and ".join(sorted(_devices(rows)))
    dtypes = about["dtype"] if isinstance(about["dtype"], list) else [about["dtype"]]
    title = f"{about.get('weights', about['model'])}, computed in {' and '.join(dtypes)}"
    parts = [HEAD.format(title=title, devices=devices), *([about["note"] + "\n"] if about["note"] else [])]
    for tokens in sorted({row["tokens"] for row in rows}):
        for task in DATASETS:
            if any(row["tokens"] == tokens and row["task"] == task for row in rows):
                parts.append(f"## {TITLES.get(task, task)}, {tokens:,} tokens\n\n{methods_table(rows, task, tokens)}\n")
    return "\n".join(parts)


def _devices(rows: Sequence[Mapping]) -> list[str]:
    """What the rows ran on, each once; one that was begun on one device and ended on another names both."""
    named = (device for row in rows for device in (row["device"] or "").split(" and "))
    return [device for device in dict.fromkeys(named) if device]


def _different(values: Sequence[Any]) -> Any:
    """What all values say, None if they say nothing; else the different ones in the order in which they come."""
    found = list({json.dumps(value, sort_keys=True): value for value in values if value is not None}.values())
    return found if len(found) > 1 else next(iter(found), None)


def _lines(samples: Mapping[str, Sequence[Mapping]]) -> str:
    lines = []
    for stem, some in sorted(samples.items()):
        for sample in some:
            kept = {key: sample[key] for key in KEPT if key in sample}
            rounded = {key: round(value, 5) if isinstance(value, float) else value for key, value in kept.items()}
            lines.append(json.dumps({"row": stem, **rounded}))
    return "".join(line + "\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Store the table of a real model's methods.")
    parser.add_argument("folder", help="files of sdtp evaluate, with their samples")
    parser.add_argument("output", help="folder that gets methods.json, methods.md and methods_samples.jsonl.gz")
    parser.add_argument("--model", required=True, help="folder or name of the model, whose FLOPs are counted")
    parser.add_argument("--note", default="", help="what else a reader of the page must know")
    parser.add_argument("--beside", default=None, help="folder of a stored table that has the full model's rows")
    parser.add_argument("--profile", default=None, help="that the results belong to")
    parser.add_argument("--add", action="store_true", help="keep the rows of OUTPUT that FOLDER has not")
    for file in store_methods(**vars(parser.parse_args())):
        print(file)


if __name__ == "__main__":
    main()
