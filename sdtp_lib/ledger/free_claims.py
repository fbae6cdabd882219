"""What this project set out to reach on a real model, nearly free pruning, and the reader that answers it."""

from __future__ import annotations

from collections.abc import Mapping

from ..experiments.real.frontier import GOALS, TASKS, Goal, reached
from .claims import Claim, notebook
from .findings import Finding, Reader, Status
from .real_readers import TOKENS, row_of

TUNED = "sdtp, tuned, by sentences"  # as the table has the shipped schedules' own score
CHANCE = 25  # percent of four spans that a blind choice gets right


def nearly_free(name: str) -> Reader:
    """What the schedule `name` of GOALS costs by its own score, and whether it reaches its whole goal."""

    def read(document: Mapping) -> Finding | None:
        by_task = {task: row_of(document, task, name, TUNED) for task in TASKS}
        if None in by_task.values():
            return None
        needle, asked = (by_task[task] for task in TASKS)
        enough = needle["flops"] >= GOALS[name].flops
        text = f"needles {needle['score']['mean']:.0f}, nats {_over(needle['nll'])}; questions' nats "
        text += f"{_over(asked['nll'])}, right spans {_over(asked['right'], 1)}; at {needle['flops']:.2f}x"
        n = f"{needle['n']} needles, {asked['n']} questions"
        key = f"rows of {TOKENS:,} tokens: {name} {TUNED}"
        return Finding(text, Status.of(enough and all(reached(GOALS[name], by_task).values())), n, "", key)

    return read


def _over(cell: Mapping, digits: int = 2) -> str:
    low, high = cell["difference"]["ci95"]
    return f"{cell['difference']['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _claim(name: str, goal: Goal) -> Claim:
    said = (
        f"at {goal.flops:g} times fewer FLOPs {goal.needles:.0%} of the needles, answers at most {goal.nll:g} nats "
        f"less likely, right spans of four ({CHANCE}% by chance) at most {-goal.right:g} points fewer"
    )
    return Claim(f"`{name}`", said, "-", notebook("12"), (("tuned/methods", nearly_free(name)),))


FREE = tuple(_claim(name, goal) for name, goal in GOALS.items())
