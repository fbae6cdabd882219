"""What this project set out to reach on a real model, nearly free pruning, and the reader that answers it."""

from __future__ import annotations

from collections.abc import Mapping

from ..experiments.real.frontier import GOALS, TASKS, Goal, difference_text, reached
from .claims import Claim, notebook
from .findings import Finding, Reader, Status
from .real_readers import TOKENS, row_of

TUNED = "sdtp, tuned, by sentences"  # as the table has the shipped schedules' own score


def nearly_free(name: str) -> Reader:
    """What the schedule `name` of GOALS costs by its own score, and whether it reaches its whole goal."""

    def read(document: Mapping) -> Finding | None:
        by_task = {task: row_of(document, task, name, TUNED) for task in TASKS}
        if None in by_task.values():
            return None
        needle, asked = (by_task[task] for task in TASKS)
        parts = [*reached(GOALS[name], by_task).values(), needle["flops"] >= GOALS[name].flops]
        text = f"needles {needle['score']['mean']:.0f}%, nats {difference_text(needle['nll'])}; questions' nats "
        text += f"{difference_text(asked['nll'])}, right spans {difference_text(asked['right'], 1)} points; "
        text += f"at {needle['flops']:.2f}x{_longer(document, name)}"
        n = f"{needle['n']} needles, {asked['n']} questions"
        key = f"rows of {TOKENS:,} tokens: {name} {TUNED}"
        return Finding(text, Status.decided(all(parts), False in parts), n, "", key)

    return read


def _longer(document: Mapping, name: str) -> str:
    """Needles found in longer prompts, as far as there are any: what holds at one length need not hold at another."""
    found = ""
    for row in document["data"]:
        if (row["task"], row["schedule"], row["method"]) == ("needle", name, TUNED) and row["tokens"] > TOKENS:
            mean, lost = row["score"]["mean"], row["score"]["difference"]["mean"]
            found += f"; at {row['tokens']:,} tokens needles {mean:.0f}% of {row['n']} (full {mean - lost:.0f}%)"
    return found


def _claim(name: str, goal: Goal) -> Claim:
    said = f"at {TOKENS:,} tokens {goal.flops:g}x fewer FLOPs cost at most {1 - goal.needles:.0%} of the needles, "
    said += f"{goal.nll:g} nats, {-goal.right:g} points of spans"
    return Claim(f"`{name}`", said, "-", notebook("12"), (("tuned/methods", nearly_free(name)),))


FREE = tuple(_claim(name, goal) for name, goal in GOALS.items())
