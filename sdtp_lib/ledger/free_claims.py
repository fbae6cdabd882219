"""What this project set out to reach on a real model, nearly free pruning, what it is held to, and the readers."""

from __future__ import annotations

from collections.abc import Mapping

from ..evaluation.intervals import Interval
from ..experiments.real.frontier import GOALS, TASKS, Goal, difference_text, reached
from .claims import Claim, notebook
from .findings import Finding, Reader, Status
from .real_readers import TOKENS, row_of

TUNED = "sdtp, tuned, by sentences"  # as the table has the shipped schedules' own score
WORDS = "bm25"  # the score that reads no model


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


def beats_words(name: str) -> Reader:
    """Whether the answers to questions are likelier under the shipped score than under words alone, at the same cut."""

    def read(document: Mapping) -> Finding | None:
        ours, words = (row_of(document, "documents_qa", name, method) for method in (TUNED, WORDS))
        pair = ours and words and ours["over"].get(words["samples"])
        if not pair:
            return None
        more = Interval.of(pair["nll"])
        text = f"their nats are {difference_text({'difference': pair['nll']})} above BM25's"
        key = f"rows of {TOKENS:,} tokens: {name} {TUNED}, over {words['samples']}"
        return Finding(text, Status.decided(more.high < 0, more.low > 0), f"{words['n']} questions", "", key)

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


FREE = (
    *(_claim(name, goal) for name, goal in GOALS.items()),
    Claim(
        "Control", "under `fast` its score leaves answers likelier than words alone (BM25) at the same cut", "-",
        notebook("12"), (("tuned/methods", beats_words("fast")),),
    ),
)
