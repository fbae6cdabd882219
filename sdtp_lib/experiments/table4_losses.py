"""The paper's Table 4: what the losses of the pruner's training are worth on the harness's tasks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paper
from ..evaluation.paired_differences import difference_cell
from ..markdown import Markdown, interval_text, paper_ours
from ..models.loading import load_pruner
from ..models.named_schedules import resolve_schedule
from ..paper import ABLATIONS
from ..results import markdown_table
from .stored import stored_or_measured
from .table3_downstream import downstream, mean_score


def loss_ablation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str], folder: str | os.PathLike,
    *, schedule: str = "paper", seed: int = 0, **options,
) -> dict[str, dict]:  # fmt: skip
    """Table 4: the same tasks pruned by pruners that were trained with all losses and without some.

    Args:
        tasks, schedule, seed, options: as of `downstream`.
        folder: of the pruners, one for each of `paper.ABLATIONS`, as `table5_losses.train_ablations` writes them.

    Returns:
        {name in ABLATIONS: {average: mean over the tasks, 0 to 100; tasks: what `downstream` gives; and, of all but the
        first, against_all_losses: `evaluation.paired_differences.difference_cell` on the same samples}}.

    Raises:
        FileNotFoundError: if one of the pruners is missing, before anything runs.
        ValueError: as `downstream`, or for a pruner that does not fit.
    """
    stages = resolve_schedule(schedule, model)
    pruners = {name: load_pruner(Path(folder) / name.replace(" ", "_"), model, stages, seed) for name in ABLATIONS}
    found: dict[str, dict] = {}
    for name, pruner in pruners.items():
        scored = downstream(model, tokenizer, tasks, ["sdtp"], pruner, schedule, seed=seed, **options)["sdtp"]
        found[name] = {"average": mean_score(scored), "tasks": scored}
    best = found[ABLATIONS[0]]["tasks"]
    for name in ABLATIONS[1:]:
        pairs = [zip(best[task]["samples"], row["samples"], strict=True) for task, row in found[name]["tasks"].items()]
        found[name]["against_all_losses"] = difference_cell([[b - a for a, b in pair] for pair in pairs], seed)
    return found


def stored_or_run(
    folder: str | os.PathLike | None, stored_in: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str], profile: str, seed: int = 0, **options,
) -> dict[str, dict]:  # fmt: skip
    """`loss_ablation` of the pruners in `folder`, measured and written; without a folder as `stored_in` stored it.

    Args:
        options: further ones of `loss_ablation`; `limit` and `fewshot` are written down.
    """
    asked = {key: options[key] for key in ("limit", "fewshot") if key in options}
    return stored_or_measured(
        stored_in if folder is None else None, "table4_loss_ablation",
        lambda: loss_ablation(model, tokenizer, tasks, folder, seed=seed, **options), model, profile,
        tasks=list(tasks), seed=seed, **asked,
    )  # fmt: skip


def loss_ablation_table(found: Mapping[str, dict]) -> Markdown:
    """What `loss_ablation` gave: accuracy of each task, their mean, and the paired difference from all losses."""
    rows = []
    for name, row in found.items():
        cell = row.get("against_all_losses")
        shown = {"": name} | {task: each["score"] for task, each in row["tasks"].items()} | {"mean": row["average"]}
        shown["- all losses"] = cell["difference"] if cell else None
        rows.append(shown | {"95%": interval_text(cell["ci95"], sign=True) if cell else None})
    return Markdown(markdown_table(rows, digits=1))


def loss_ablation_against_paper(found: Mapping[str, dict]) -> Markdown:
    """Points lost on the mean over tasks by leaving losses out: Table 4's and ours."""
    first, theirs = ABLATIONS[0], {name: row["Avg"] for name, row in paper.TABLE4.items()}
    return paper_ours([
        (name, theirs[name] - theirs[first], found[name]["average"] - found[first]["average"]) for name in ABLATIONS[1:]
    ])  # fmt: skip
