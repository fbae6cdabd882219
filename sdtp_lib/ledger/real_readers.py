"""Readers of a real model's `methods.json`: rows of `experiments.real.methods`, one a task, schedule and method."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import paths
from ..evaluation.intervals import Interval
from ..scorers.files import CONFIG_FILE, read_config
from .findings import Finding, Reader, Status, higher

TOKENS = 1024  # of the prompts; every method was run at this length
TASKS = {"needle": "one needle", "needle_multi": "one of four needles", "documents_qa": "questions (F1)"}


@dataclass(frozen=True)
class Arm:
    """A method under a schedule.

    Attributes:
        method: as the table has it, without the pruner's folder: `random`, `sdtp`, `sdtp, pooled over 7`.
        schedule: a preset's name.
        design: of the trained pruner: its folder, or several that have a seed behind this name.
        shown: in the ledger.
    """

    method: str
    schedule: str = "paper"
    design: str | None = None
    shown: str | None = None

    def __str__(self) -> str:
        return self.shown or self.method


@dataclass(frozen=True)
class Measured:
    """What an arm scored on one task: points of 100, and of the full model's on the same records.

    Attributes:
        rows: of the table, one for each seed of its pruner.
    """

    score: Interval
    lost: Interval
    rows: Sequence[Mapping]

    def n(self, *others: Measured) -> str:
        """On how many records it and its differences to others are: `384`, or `368 to 384`."""
        pairs = [pair for other in others for pair in self._pairs(other) if pair]
        found = [row["n"] for row in self.rows] + [pair["score"]["n"] for pair in pairs]
        return " to ".join(f"{n:,}" for n in sorted({min(found), max(found)}))

    @property
    def seeds(self) -> int:
        """How many pruners were trained."""
        return len(self.rows)

    def over(self, other: Measured) -> Interval:
        """How much higher it scores, record by record where the table has both paired, seeds with seeds."""
        pairs = self._pairs(other)
        if not all(pairs):
            return self.score.over(other.score)
        return Interval.around(Interval.of(pair["score"]) for pair in pairs)

    def _pairs(self, other: Measured) -> list[Mapping | None]:
        return [row.get("over", {}).get(each.get("samples")) for row in self.rows for each in other.rows]


MODULE = Arm("sdtp", design="paper", shown="SDTP")
LOW_MODULE = Arm("sdtp", "low", "paper", "SDTP-low")
RANDOM = Arm("random")


def measured(document: Mapping, arm: Arm) -> dict[str, Measured]:
    """task -> what `arm` scored, over the seeds of its pruner; empty if it was not run."""
    found: dict[str, list[Mapping]] = {}
    for row in document["data"]:
        pruner = (row["pruner"] or "").split("/")[-1]
        method = row["method"].replace(f", {pruner}", "", 1) if pruner else row["method"]
        same = (row["tokens"], row["schedule"], method) == (TOKENS, arm.schedule, arm.method)
        if same and row["task"] in TASKS and _is(arm.design, pruner):
            found.setdefault(row["task"], []).append(row)
    return {task: _over_seeds(found[task]) for task in TASKS if task in found}


def _is(design: str | None, pruner: str) -> bool:
    """Whether a pruner is of a design: `paper`, or with a seed behind it, `paper-1` or `paper_seed1`."""
    return pruner == "" if design is None else re.fullmatch(rf"{design}([-_]?[a-z]*\d+)?", pruner) is not None


def _over_seeds(rows: Sequence[Mapping]) -> Measured:
    scores, lost = ([Interval.of(cell) for cell in cells] for cells in (
        [row["score"] for row in rows], [row["score"]["difference"] for row in rows]))  # fmt: skip
    return Measured(Interval.around(scores), Interval.around(lost), rows)


def stays_close(arm: Arm, bar: float) -> Reader:
    """What each task loses against the full model; holds if none loses more than `bar` points, intervals and all."""

    def read(document: Mapping) -> Finding | None:
        ours = measured(document, arm)
        if not ours:
            return None
        full = {task: cell.score.mean - cell.lost.mean for task, cell in ours.items()}
        text = "; ".join(f"{TASKS[task]} {full[task]:.1f} to {cell.score.mean:.1f}: {cell.lost}"
                         for task, cell in ours.items())  # fmt: skip
        scores = [score for task, cell in ours.items() for score in (full[task], cell.score.mean)]
        status = Status.of_all(Status.of(cell.lost.at_least(-bar)) for cell in ours.values())
        return Finding(text, Status.of_scores(scores, status), _n(ours), _chance(document, ours, arm), _key(arm))

    return read


def is_better(arm: Arm, *others: Arm) -> Reader:
    """`arm` against others on the same records; holds if it is above each: clearly on a task, clearly below on none."""

    def read(document: Mapping) -> Finding | None:
        ours, theirs = measured(document, arm), {other: measured(document, other) for other in others}
        if not ours or not all(found.keys() >= ours.keys() for found in theirs.values()):
            return None
        statuses, said = [], {task: [] for task in ours}
        for other, found in theirs.items():
            gaps = {task: cell.over(found[task]) for task, cell in ours.items()}
            scores = [each[task].score.mean for task in ours for each in (ours, found)]
            statuses.append(higher(gaps.values(), scores))
            for task, gap in gaps.items():
                said[task].append(f"{gap} over {other}")
        texts = [f"{TASKS[task]} {cell.score.mean:.1f}: {', '.join(said[task])}" for task, cell in ours.items()]
        chance = _chance(document, ours, arm, *others)
        n = _n(ours, *theirs.values())
        return Finding("; ".join(texts), Status.of_all(statuses), n, chance, _key(arm, *others))

    return read


def row_of(document: Mapping, task: str, schedule: str, method: str) -> Mapping | None:
    """The row of one task, schedule and method, as the table names them, or None."""
    asked = {"tokens": TOKENS, "task": task, "schedule": schedule, "method": method}
    return next((row for row in document["data"] if all(row[key] == value for key, value in asked.items())), None)


def flops_saved(document: Mapping) -> Finding | None:
    """Share of the prefill's FLOPs that the paper's schedule saves on this model."""
    row = next((row for row in document["data"] if (row["tokens"], row["schedule"]) == (TOKENS, "paper")), None)
    if row is None:
        return None
    text = f"{100 * (1 - 1 / row['flops']):.1f}% at {TOKENS:,} tokens"
    return Finding(text, Status.of(row["flops"] > 1), key="flops")


def _n(ours: Mapping[str, Measured], *theirs: Mapping[str, Measured]) -> str:
    records = ", ".join(
        f"{TASKS[task]} {cell.n(*(found[task] for found in theirs))}"
        + (f" ({cell.seeds} seeds, intervals around all)" if cell.seeds > 1 else "")
        for task, cell in ours.items()
    )
    trained = {prompts for cell in ours.values() for row in cell.rows if (prompts := _trained_on(row["pruner"]))}
    return "".join((
        f"{records} records",
        f"; the pruner was trained on {', '.join(map(str, sorted(trained)))} prompts" if trained else "",
    ))  # fmt: skip


def _trained_on(pruner: str | None) -> int | None:
    """On how many prompts a pruner that comes with the library was trained; None of any other."""
    folder = paths.PRUNERS / (pruner or "")
    if not pruner or not (folder / CONFIG_FILE).is_file():
        return None
    record = read_config(folder)["record"]
    recipe = record.get("recipe", {})
    return record["steps"] * recipe["batch_size"] // recipe["epochs"] if recipe else None


def _chance(document: Mapping, ours: Mapping[str, Measured], *asked: Arm) -> str:
    """What random tokens score at the same schedule on the tasks of `ours`, where that is not what was asked."""
    if any(arm.method == RANDOM.method for arm in asked):
        return ""
    found = measured(document, Arm(RANDOM.method, asked[0].schedule))
    scores = ", ".join(f"{TASKS[task]} {cell.score.mean:.1f}" for task, cell in found.items() if task in ours)
    return f"random tokens, same schedule: {scores}" if scores else ""


def _key(*arms: Arm) -> str:
    named = dict.fromkeys(f"{arm.schedule} {arm.method}{f' {arm.design}' if arm.design else ''}" for arm in arms)
    return f"rows of {TOKENS:,} tokens: {'; '.join(named)}"
