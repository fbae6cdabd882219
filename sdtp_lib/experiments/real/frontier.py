"""Quality against FLOPs on a real model: curves of the stored tables, and what the goals come to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...evaluation.intervals import Interval
from ...markdown import Markdown
from ...plots.kinds import LATER, PAPERS
from ...pruning.schedule import PRESET_RATIOS
from ...results import markdown_table
from .methods import has_name

TASKS = ("needle", "documents_qa")
# Label -> methods that are the same score: the one that is shipped is the strongest head's.
SCORES = {
    "strongest, by sentences": ("strongest, by sentences", "sdtp, tuned, by sentences"),
    "attention, pooled over 7": ("attention, pooled over 7",),
    "bm25": ("bm25",),
}


@dataclass(frozen=True)
class Goal:
    """What pruning may cost to be called nearly free, at a FLOP ratio; each held to the whole 95% interval.

    Attributes:
        flops: full / pruned, at least.
        needles: share of the full model's found needles, at least.
        nll: nats per token of the answers above the full model's, at most.
        right: paired difference of right spans, in points, at least.
    """

    flops: float
    needles: float
    nll: float
    right: float


GOALS = {"free": Goal(1.6, 0.95, 0.15, -5), "fast": Goal(2.2, 0.90, 0.35, -8)}


def joined(*tables: Sequence[Mapping]) -> list[Mapping]:
    """Rows of several stored tables, each row once: those of the full model stand in all of them."""
    found: dict[tuple, Mapping] = {}
    for row in (row for table in tables for row in table):
        found.setdefault(tuple(row[key] for key in ("tokens", "task", "schedule", "method")), row)
    return list(found.values())


def curves(rows: Iterable[Mapping], task: str, tokens: int, methods: Sequence[str]) -> dict[str, list[Mapping]]:
    """Label -> the rows of a method under one kind of schedule, by FLOPs; labels in the order of `methods`.

    Schedules without a name are left out, as they were tried and not taken, but for a cut at layer 1, which is nearly
    one before the model.

    Args:
        methods: as the table has them.
    """
    found: dict[str, list[Mapping]] = {}
    cut = [row for row in rows if row["schedule"] != "none" and _is_drawn(row)]
    chosen = [row for row in cut if row["task"] == task and row["tokens"] == tokens]
    for method in methods:
        for row in sorted((row for row in chosen if row["method"] == method), key=lambda row: row["flops"]):
            kind = PAPERS if row["schedule"] in PRESET_RATIOS else LATER
            found.setdefault(f"{method}; {kind}", []).append(row)
    return found


def _is_drawn(row: Mapping) -> bool:
    return has_name(row["schedule"]) or row["layers"] == [1]


def by_layer(
    rows: Iterable[Mapping], task: str, tokens: int, scores: Mapping[str, Collection[str]] = SCORES
) -> dict[str, list[Mapping]]:
    """Label -> the rows of one cut that its methods have, by the layer that it is made at; first `full`, without one.

    Of several rows at one layer that of most records is taken, and of these the one that keeps most.

    Args:
        scores: label -> methods that are the same score.
    """
    asked = [row for row in rows if row["task"] == task and row["tokens"] == tokens]
    found = {"full": [row for row in asked if row["method"] == "full"]}
    for label, methods in scores.items():
        own = [row for row in asked if len(row["layers"]) == 1 and row["method"] in methods]
        best = {row["layers"][0]: row for row in sorted(own, key=lambda row: (row["n"], row["stays"]))}
        found |= {label: [best[layer] for layer in sorted(best)]} if best else {}
    return found


def goal_table(rows: Sequence[Mapping], tokens: int) -> Markdown:
    """Every method under the schedules of the goals: each measure, its goal, and whether the goal is reached.

    A method that was asked none of TASKS has no row; what else it was asked is judged too.
    """
    table = []
    for name, goal in GOALS.items():
        own = [row for row in rows if row["schedule"] == name and row["tokens"] == tokens]
        for method in dict.fromkeys(row["method"] for row in own):
            by_task = {row["task"]: row for row in own if row["method"] == method}
            if not by_task.keys().isdisjoint(TASKS):
                table.append(_judged(name, goal, method, by_task))
    return Markdown(markdown_table(table))


def stage_table(rows: Sequence[Mapping], tokens: int, schedules: Sequence[str], methods: Sequence[str]) -> Markdown:
    """Some methods under some schedules beside the full model: needles found, and the loss of both tasks' answers."""
    table = []
    for schedule in schedules:
        own = [row for row in rows if row["schedule"] == schedule and row["tokens"] == tokens]
        for method in methods:
            if by_task := {row["task"]: row for row in own if row["method"] == method}:
                table.append(_measured(schedule, method, by_task))
    return Markdown(markdown_table(table))


def reached(goal: Goal, by_task: Mapping[str, Mapping]) -> dict[str, bool | None]:
    """Which parts of a goal a method reaches, only of what was measured: None where the bar lies within the interval.

    Args:
        by_task: task -> its row; the needle's score, every task's `nll` and the questions' `right` are judged, by
            their paired differences to the full model.
    """
    found = {}
    if needle := by_task.get("needle"):
        lost = Interval.of(needle["score"]["difference"])
        found["needles"] = lost.at_least((goal.needles - 1) * (needle["score"]["mean"] - lost.mean))
    for task, row in by_task.items():
        above = Interval.of(row["nll"]["difference"]).at_least(goal.nll)
        found[f"NLL, {task}"] = None if above is None else not above
        if task == "documents_qa":
            found["right spans"] = Interval.of(row["right"]["difference"]).at_least(goal.right)
    return found


def _judged(name: str, goal: Goal, method: str, by_task: Mapping[str, Mapping]) -> dict[str, Any]:
    parts = reached(goal, by_task)
    said = [
        f"{word}: {', '.join(some)}"
        for word, what in (("missed", False), ("not decided", None))
        if (some := [part for part, held in parts.items() if held is what])
    ]
    return _measured(name, method, by_task) | {"goal": "; ".join(said) or "reached"}


def _measured(schedule: str, method: str, by_task: Mapping[str, Mapping]) -> dict[str, Any]:
    first, needle, asked = next(iter(by_task.values())), by_task.get("needle"), by_task.get("documents_qa")
    return {
        "schedule": schedule, "full / pruned FLOPs": f"{first['flops']:.2f}", "method": method,
        "needles, %": f"{needle['score']['mean']:.0f}" if needle else "-",
        "their NLL": difference_text(needle["nll"]) if needle else "-",
        "questions' NLL": difference_text(asked["nll"]) if asked else "-",
        "right of 4 spans": difference_text(asked["right"], 1) if asked else "-",
        "n": "/".join(str(each["n"]) for each in (needle, asked) if each),
    }  # fmt: skip


def difference_text(cell: Mapping[str, Any], digits: int = 2) -> str:
    """A paired difference with its 95% interval, such as `+0.10 [-0.02, +0.21]`."""
    found = cell["difference"]
    mean, low, high = (round(x, digits) + 0.0 for x in (found["mean"], *found["ci95"]))  # never -0.00
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
