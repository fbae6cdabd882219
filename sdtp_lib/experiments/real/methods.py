"""What pruning costs a real model: every method beside the full model, from the files that `sdtp evaluate` wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PretrainedConfig

from ...data.chat import takes_template
from ...evaluation.bootstrap import at_most_of, interval
from ...evaluation.paired_differences import FURTHER, difference_cell
from ...latency.flop_estimates import flop_ratio
from ...markdown import Markdown
from ...models.named_schedules import own_presets
from ...pruning.schedule import PRESET_NAMES, PruningSchedule
from ...results import markdown_table, read_json
from ...scorers.pooling import pooling
from ...text_files import read_jsonl

ALIKE = ("model", "dtype")  # what two results must have in common to be compared, beside the prompts
MEASURES = {"score": ("score", 100), **FURTHER}


Run = tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]  # metadata, samples


def compare_methods(
    runs: Mapping[str, Run], config: PretrainedConfig, known: Sequence[Run] = ()
) -> list[dict[str, Any]]:
    """One row for each task of each run, beside the full model on the same prompts.

    Args:
        runs: of `read_runs`.
        config: of the model, for the FLOPs of its prefill.
        known: results of the full model beside those of `runs`; of those the samples may be stored ones, which have
            the number of tokens of a prompt in place of its digest.

    Returns:
        Rows with `tokens`, `task`, `schedule` (its name, or its cuts), `layers` (of its cuts), `stays` (the share that
        one cut keeps; None of several), `method` (a pruner's folder and the pooling in its name), `pruner`, `n`,
        `samples` (the file's stem), `device`, `commit`, `flops` (full / pruned, of a prefill of that many tokens), and
        `score`, `right` (of the choices) and `nll` (per token of the answer), each `mean`, `ci95`, and for all but the
        full model the paired `difference` to it; the full model's come first.

    Raises:
        ValueError: if a pruned result has no full one of the same model and dtype on the same prompts.
    """
    full = [(about, samples) for about, samples in runs.values() if about["method"] == "full"] + [*known]
    rows = []
    for stem, (about, samples) in runs.items():
        for task in about["tasks"]:
            own = [sample for sample in samples if sample["dataset"] == task]
            row = _described(about, task, len(own), config) | {"samples": stem}
            beside = None if about["method"] == "full" else full_beside(own, about, task, row["tokens"], full)
            rows.append(row | measured(own, beside))
    return in_order(rows)


def read_runs(folder: str | os.PathLike) -> dict[str, Run]:
    """By the stem of their files what `sdtp evaluate --output` wrote to a folder; ValueError if there is nothing."""
    runs = {}
    for file in sorted(Path(folder).glob("*.json")):
        _, *samples = read_jsonl(file.with_name(f"{file.stem}.samples.jsonl"))
        runs[file.stem] = read_json(file)["metadata"], samples
    if not runs:
        raise ValueError(f"{folder} has no results of sdtp evaluate")
    return runs


def in_order(rows: Sequence[dict]) -> list[dict]:
    """By length, task and FLOPs; what scores higher first, so that the full model's row leads."""
    return sorted(rows, key=lambda row: (*(row[key] for key in ("tokens", "task", "flops")), -row["score"]["mean"]))


def methods_table(rows: Sequence[Mapping], task: str, tokens: int) -> Markdown:
    """The rows of one task at one length: what each method scores, and by how much it differs from the full model."""
    chosen = [row for row in rows if row["task"] == task and row["tokens"] == tokens]
    table = [
        {
            "schedule": row["schedule"], "method": row["method"], "full / pruned FLOPs": f"{row['flops']:.2f}",
            "n": row["n"], **{name: _shown(row[name]) for name in MEASURES if name in row},
        }
        for row in chosen
    ]  # fmt: skip
    return Markdown(markdown_table(pd.DataFrame(table)))


def _called(schedule: PruningSchedule) -> str:
    """A schedule without a name: its layers, and of one cut also the share that it keeps."""
    layers = str([*schedule.layers])
    return f"{layers} to {schedule.ratios[0]:.0%}" if len(schedule.layers) == 1 else layers


def has_name(schedule: str) -> bool:
    """Whether a row's schedule goes by a name; one without is called by its layers, such as [8] to 27%."""
    return not schedule.startswith("[")


def _described(about: Mapping, task: str, n: int, config: PretrainedConfig) -> dict[str, Any]:
    given, layers, tokens = about["schedule"], config.num_hidden_layers, _tokens(about, task)
    schedule = PruningSchedule(**given)
    presets = [(name, PruningSchedule.preset(name, layers)) for name in PRESET_NAMES]
    presets += own_presets(about["model"]).items()  # which may have names of the presets
    name = next((name for name, preset in presets if preset == schedule), _called(schedule))
    plain = about["method"] == "full" and takes_template(task) and not about["chat_template"]
    form = ", no chat template" if plain else ""
    pruner = about["pruner"] and about["pruner"]["name"]
    designed = f", {pruner.split('/')[-1]}" if pruner else f", last {about['window']}" if about.get("window") else ""
    return {
        "tokens": tokens, "task": task, "schedule": "none" if about["method"] == "full" else name,
        "layers": [] if about["method"] == "full" else [*schedule.layers],
        "stays": schedule.ratios[0] if len(schedule.layers) == 1 else None,
        "method": f"{about['method']}{designed}{pooling(about['pool'])}{form}", "pruner": pruner, "n": n,
        "device": about.get("device"), "commit": about.get("commit"),
        "flops": round(flop_ratio(schedule, layers, config, tokens), 3) if schedule.layers else 1.0,
    }  # fmt: skip


def _tokens(about: Mapping, task: str) -> int | None:
    """Of a task's prompts; see `TaskRecords.tokens`."""
    return about["tokens"][task] if isinstance(about["tokens"], Mapping) else about["tokens"]


def full_beside(
    own: Sequence[Mapping], about: Mapping, task: str, tokens: int | None, full: Sequence[Run]
) -> list[Mapping]:
    """The full model's samples of the same records, asked with the same token ids, in the same order.

    Raises:
        ValueError: if `full` has none of them all, in the model and dtype that `about` names.
    """
    for other, samples in full:
        theirs = [sample for sample in samples if sample["dataset"] == task]
        key = "digest" if all("digest" in sample for sample in [*theirs, *own]) else "prompt_tokens"
        known = {(sample["_id"], sample[key]): sample for sample in theirs}
        asked = [(sample["_id"], sample[key]) for sample in own]
        if all(about[same] == other[same] for same in ALIKE) and known.keys() >= {*asked}:
            return [known[prompt] for prompt in asked]
    raise ValueError(
        f"no result of the full model on the prompts of {task} at {tokens} tokens, as {about['model']} read them in "
        f"{about['dtype']}"
    )


def measured(own: Sequence[Mapping], beside: Sequence[Mapping] | None = None) -> dict[str, dict]:
    """`score`, `right` and `nll` of samples, as far as they have them, with the difference to those of `beside`."""
    return {name: _cell(own, beside, *how) for name, how in MEASURES.items() if how[0] in own[0]}


def paired(own: Sequence[Mapping], others: Sequence[Mapping], key: str, scale: float) -> dict[str, Any]:
    """`mean` and `ci95` of one of MEASURES, sample by sample above those of another method on the same prompts."""
    ours, theirs = _values(own, key, scale), _values(others, key, scale)
    found = difference_cell([[value - other for value, other in zip(ours, theirs, strict=True)]])
    rare = _rare(ours, scale)
    alike = ours == theirs and rare is not None
    return {"mean": found["difference"], "ci95": [-rare, rare] if alike else found["ci95"]}


def _cell(own: Sequence[Mapping], beside: Sequence[Mapping] | None, key: str, scale: float) -> dict[str, Any]:
    values = _values(own, key, scale)
    cell = {"mean": round(sum(values) / len(values), 4), "ci95": interval([values])}
    rare = _rare(values, scale)
    if rare is not None and len({*values}) == 1:
        cell["ci95"] = [0.0, rare] if values[0] == 0 else [scale - rare, float(scale)]
    return cell if beside is None else cell | {"difference": paired(own, beside, key, scale)}


def _values(samples: Sequence[Mapping], key: str, scale: float) -> list[float]:
    return [scale * sample[key] for sample in samples]


def _rare(values: Sequence[float], scale: float) -> float | None:
    """How far a mean of yes-or-no scores may lie from all of them where they are alike, as a bootstrap cannot tell."""
    return round(scale * at_most_of(len(values)), 4) if scale == 100 and {*values} <= {0, 100} else None


def _shown(cell: Mapping) -> str:
    digits = 2 if cell["mean"] < 10 and not float(cell["mean"]).is_integer() else 1
    low, high = cell["ci95"]
    text = f"{cell['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    if "difference" in cell:
        low, high = cell["difference"]["ci95"]
        text += f"; {cell['difference']['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return text
