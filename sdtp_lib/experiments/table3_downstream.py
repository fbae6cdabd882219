"""The paper's Table 3 in kind: tasks of lm-evaluation-harness, full and pruned, on the same samples."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paper
from ..evaluation.bootstrap import standard_error
from ..evaluation.harness.arguments import refuse_oracle
from ..evaluation.harness.command import TASKS
from ..evaluation.methods import make_pruning
from ..evaluation.paired_differences import difference_cell
from ..markdown import Markdown, interval_text, paper_ours
from ..plots.style import Figure, looks, new_figure, styled
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..results import markdown_table

MAIN_METRICS = ("acc", "exact_match", "score")  # the paper's Table 3 gives plain accuracy
FULL = "full"


def downstream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    methods: Sequence[str],
    pruner: Scorer | None = None,
    schedule: str | PruningSchedule = "paper",
    *,
    limit: int | None = None,
    fewshot: int | None = None,
    batch_size: int = 4,
    seed: int = 0,
) -> dict[str, dict[str, dict]]:
    """Run harness tasks under several methods, all on the same samples.

    Args:
        tasks: names of the harness's tasks and groups, and of this project's.
        methods: names of `evaluation.methods.METHODS`, `full` first if differences from it are wanted.
        pruner: of the method `sdtp`.
        schedule: of all methods but `full`.
        limit: samples of each task; None takes all.
        fewshot: examples before each question; None: as each task says.
        batch_size: contexts at a time.
        seed: of random scores, few-shot examples and intervals.

    Returns:
        method -> task -> `score`, `stderr` (points of 100), `n`, `samples` (0 to 100 each, in order), for multiple
        choice `gold_logprob` (mean log-likelihood of the right answer, nats) and its `perplexity` per answer; and for
        every method but `full` what `evaluation.paired_differences.difference_cell` says under `against_full`.

    Raises:
        ValueError: for an unknown task or method, the oracle, or a task without one of MAIN_METRICS.
    """
    from lm_eval.evaluator import simple_evaluate  # heavy, and the module's tables need it not
    from lm_eval.tasks import TaskManager

    from ..evaluation.harness.model import SDTPLM

    refuse_oracle("oracle" in methods)  # before hours are spent on the others
    manager, found = TaskManager(include_path=str(TASKS), include_defaults=False), {}
    if not {*tasks} <= {*manager.all_tasks}:  # the harness's own are thousands of files, which take ten seconds
        manager = TaskManager(include_path=str(TASKS))
    for method in methods:
        pruning = make_pruning(model, method, schedule, pruner, seed, tokenizer=tokenizer)
        with _warnings_off():
            run = simple_evaluate(
                SDTPLM(model, tokenizer, pruning, batch_size=batch_size), tasks=list(tasks), task_manager=manager,
                limit=limit, num_fewshot=fewshot, bootstrap_iters=0, random_seed=seed, fewshot_random_seed=seed,
            )  # fmt: skip
        found[method] = {name: _task(name, samples) for name, samples in sorted(run["samples"].items())}
    for method in (name for name in found if name != FULL and FULL in found):
        for name, row in found[method].items():
            before, after = found[FULL][name]["samples"], row["samples"]
            row["against_full"] = difference_cell([[b - a for a, b in zip(before, after, strict=True)]], seed)
    return found


def downstream_table(found: Mapping[str, Mapping[str, dict]]) -> Markdown:
    """What `downstream` gave: a row per task and method, its mean over tasks at the end of each method."""
    rows = []
    for method, tasks in found.items():
        for name, row in tasks.items():
            shown = {"method": method, "task": name, "score": row["score"], "standard error": row["stderr"]}
            shown["nats, right answer"] = -row["gold_logprob"] if "gold_logprob" in row else None
            difference = row.get("against_full", {})
            shown["pruned - full"] = difference.get("difference")
            shown["95%"] = interval_text(difference["ci95"], sign=True) if difference else None
            rows.append(shown | {"": difference.get("verdict")})
        if len(tasks) > 1:
            rows.append({"method": method, "task": "mean", "score": mean_score(tasks)})
    return Markdown(markdown_table(rows, {"score": 1, "standard error": 1, "pruned - full": 1}))


def against_paper(found: Mapping[str, Mapping[str, dict]]) -> Markdown:
    """What pruning does to the mean over tasks, in points: Table 3's for its models, and ours."""
    ours = mean_score(found["sdtp"]) - mean_score(found[FULL])
    theirs = {model: pruned - full for model, (full, pruned) in paper.TABLE3["Avg"].items()}
    return paper_ours([(f"mean, {model} in the paper", change, ours) for model, change in theirs.items()])


@styled
def downstream_bars(found: Mapping[str, Mapping[str, dict]]) -> Figure:
    """Scores by task and method, with standard errors."""
    figure, axes = new_figure(9, 4.2)
    names, width = [*next(iter(found.values()))], 0.8 / len(found)
    for index, ((method, tasks), look) in enumerate(zip(found.items(), looks(found), strict=True)):
        at = np.arange(len(names)) + (index - (len(found) - 1) / 2) * width
        errors = [tasks[name]["stderr"] or 0 for name in names]
        style = {"color": look["color"], "edgecolor": "white"}
        axes.bar(at, [tasks[name]["score"] for name in names], width, yerr=errors, capsize=2, label=method, **style)
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize="small")
    axes.set(xlabel="task", ylabel="accuracy (0 to 100), standard error", ylim=(0, 105))
    axes.grid(axis="x", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(found), fontsize="small")
    return figure


def mean_score(tasks: Mapping[str, dict]) -> float:
    """Plain mean over tasks, as the paper's."""
    return float(np.mean([row["score"] for row in tasks.values()]))


def _task(name: str, samples: Sequence[dict]) -> dict:
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    metric = next((each for each in MAIN_METRICS if each in samples[0]), None)
    if metric is None:
        raise ValueError(f"task {name!r} has none of the metrics {', '.join(MAIN_METRICS)}")
    scores = [100.0 * float(sample[metric]) for sample in samples]
    row = {"score": float(np.mean(scores)), "stderr": standard_error([scores]), "n": len(scores), "samples": scores}
    gold = [_gold_logprob(sample) for sample in samples]
    if None not in gold:
        row["gold_logprob"] = float(np.mean(gold))
        row["perplexity"] = math.exp(-row["gold_logprob"])
    return row


def _gold_logprob(sample: dict) -> float | None:
    """Log-likelihood of the right one among several answers; None where there are none."""
    answers, target = sample["filtered_resps"], sample["target"]
    if not str(target).isdecimal() or len(answers) < 2 or isinstance(answers[0], str):
        return None
    return float(answers[int(target)][0])


@contextmanager
def _warnings_off() -> Iterator[None]:
    """Without what the harness says at each run: that the model is loaded already, and what was asked for."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
