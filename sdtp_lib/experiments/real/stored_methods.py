"""The table of `methods` as it is stored: rows as JSON, the same as Markdown, and every sample's scores, packed.

`python -m sdtp_lib.experiments.real.stored_methods FOLDER results/smollm2 --model smollm2-135m` writes the three. With
`--beside` the full model is taken from a table that is stored already.
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
from ...text_files import read_jsonl
from .methods import ALIKE, Run, compare_methods, measured, methods_table

# Of a sample; no text, which is not ours to store.
KEPT = ("_id", "dataset", "prompt_tokens", "digest", "score", "nll", "choice", "group")
TITLES = {
    "needle": "One needle", "needle_multi": "Four needles, one asked for",
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
    beside: str | os.PathLike | None = None, profile: str | None = None,
) -> list[Path]:  # fmt: skip
    """Write `methods.json`, `methods.md` and `methods_samples.jsonl.gz`, all or none.

    Args:
        folder: JSON files of `sdtp evaluate --output`, with their samples beside them.
        output: folder to write to.
        model: whose FLOPs are counted.
        note: what else a reader of the page must know.
        beside: folder of a stored table, whose rows of the full model go before those of `folder`.
        profile: that the results belong to; by default what the files say.

    Returns:
        The files written.

    Raises:
        ValueError, FileNotFoundError: as `compare_methods`, or if there is no such model; nothing is written then.
    """
    home = local_path(model)
    full, known = _full_of(Path(beside), _asked(Path(folder))) if beside else ([], [])
    rows = [*full, *compare_methods(folder, AutoConfig.from_pretrained(home or model), known)]
    source = read_json(home / RECORD_FILE) if home and (home / RECORD_FILE).is_file() else {}
    runs = [read_json(file)["metadata"] for file in sorted(Path(folder).glob("*.json"))]
    about = {key: _of_all([run.get(key) for run in runs]) for key in sorted({key for run in runs for key in run})}
    about["profile"] = profile or about.get("profile")
    if source:
        about["weights"] = f"{source['model']}, {source['weights']}"
    document = {"metadata": about, "data": rows}
    files = {
        Path(output, "methods.json"): (json.dumps(document, indent=2) + "\n").encode(),
        Path(output, "methods.md"): methods_page(rows, about, note).encode(),
        Path(output, "methods_samples.jsonl.gz"): gzip.compress(_samples(Path(folder)).encode(), mtime=0),
    }
    write_files(files)
    return list(files)


def methods_page(rows: Sequence[Mapping], about: Mapping[str, Any], note: str = "") -> str:
    """The Markdown page: a table for every task and length that has rows."""
    devices = " and ".join(sorted({row["device"] for row in rows}))
    dtypes = about["dtype"] if isinstance(about["dtype"], list) else [about["dtype"]]
    title = f"{about.get('weights', about['model'])}, computed in {' and '.join(dtypes)}"
    parts = [HEAD.format(title=title, devices=devices), *([note + "\n"] if note else [])]
    for tokens in sorted({row["tokens"] for row in rows}):
        for task in DATASETS:
            if any(row["tokens"] == tokens and row["task"] == task for row in rows):
                parts.append(f"## {TITLES.get(task, task)}, {tokens:,} tokens\n\n{methods_table(rows, task, tokens)}\n")
    return "\n".join(parts)


def _of_all(values: Sequence[Any]) -> Any:
    """What all runs say, None if they say nothing; else the different values in the order in which they come."""
    different = list({json.dumps(value, sort_keys=True): value for value in values if value is not None}.values())
    return different if len(different) > 1 else next(iter(different), None)


def _asked(folder: Path) -> set[str]:
    """The ids of all records that the result files of a folder hold."""
    files = [file.with_name(f"{file.stem}.samples.jsonl") for file in folder.glob("*.json")]
    return {sample["_id"] for file in files for sample in [*read_jsonl(file)][1:]}


def _full_of(stored: Path, asked: set[str]) -> tuple[list[dict], list[Run]]:
    """The full model's rows of a stored table on the records asked, and its runs as `compare_methods` takes them."""
    document = read_json(stored / "methods.json")
    full = [row for row in document["data"] if row["method"] == "full"]
    samples: dict[tuple, list[dict]] = {(row["samples"], row["task"]): [] for row in full}
    for line in gzip.decompress((stored / "methods_samples.jsonl.gz").read_bytes()).decode().splitlines():
        sample = json.loads(line)
        if (key := (sample["row"], sample["dataset"])) in samples and sample["_id"] in asked:
            samples[key].append(sample)
    rows = [
        {**row, "n": len(some), **measured(some)}
        for row in full
        if (some := samples[row["samples"], row["task"]])
    ]  # fmt: skip
    about = {key: document["metadata"][key] for key in ALIKE}
    return rows, [(about, some) for some in samples.values() if some]


def _samples(folder: Path) -> str:
    lines = []
    for file in sorted(folder.glob("*.json")):
        _, *samples = read_jsonl(file.with_name(f"{file.stem}.samples.jsonl"))
        for sample in samples:
            kept = {key: sample[key] for key in KEPT if key in sample}
            rounded = {key: round(value, 5) if isinstance(value, float) else value for key, value in kept.items()}
            lines.append(json.dumps({"row": file.stem, **rounded}))
    return "".join(line + "\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Store the table of a real model's methods.")
    parser.add_argument("folder", help="files of sdtp evaluate, with their samples")
    parser.add_argument("output", help="folder that gets methods.json, methods.md and methods_samples.jsonl.gz")
    parser.add_argument("--model", required=True, help="folder or name of the model, whose FLOPs are counted")
    parser.add_argument("--note", default="", help="what else a reader of the page must know")
    parser.add_argument("--beside", default=None, help="folder of a stored table that has the full model's rows")
    parser.add_argument("--profile", default=None, help="that the results belong to")
    given = parser.parse_args()
    for file in store_methods(given.folder, given.output, given.model, given.note, given.beside, given.profile):
        print(file)


if __name__ == "__main__":
    main()
