"""What this project set out to show beyond the paper, and the readers that answer it from notebook 10's results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..evaluation.intervals import Interval
from ..latency.flop_estimates import flop_ratio
from ..models.shapes import shape_config
from ..pruning.schedule import PruningSchedule
from .claims import Claim, notebook
from .findings import Finding, Reader, Status, higher
from .real_readers import Arm, is_better

SHORTEST = 1024  # tokens of a prompt below which nobody prunes, the paper's shortest
FEWEST = 25  # records below which a notebook's run says nothing about quality
LOST, GAINED = 1.0, 10.0  # points: lost at most on ordinary documents, gained at least on dense ones
FLOPS, TIME = 0.01, 0.02  # shares of the prefill that the module may take
RATIO = 2.6  # prefill FLOPs full / pruned on Mistral-7B's shape at 8,192 tokens
OURS, PAPERS, ATTENTION, ORACLE = "question_aware", "paper", "attention", "oracle"
POOLED = "{}, pooled over 7"  # as the real model's table has it


def _scores(curve: Mapping[str, Any], label: str, value: Any) -> dict[str, Mapping[str, Any]]:
    return {point["method"]: point for point in curve["points"] if point[label] == value}


def _answer(text: str, status: Status, curve: Mapping, points: Mapping, key: str) -> Finding:
    """A finding of one notebook's curve; beside it what random tokens score, and the most recent ones."""
    others = [f"{name} {points[name]['score']:.1f}" for name in ("random", "recency") if name in points]
    chance = f"same schedule: {', '.join(others)}" if others else ""
    n = f"{points[OURS]['n']} records"
    return Finding(f"{text}; full {curve['full']['score']:.1f}", status, n, chance, key)


def ordinary(document: Mapping) -> Finding | None:
    """Points lost by `fast` on ordinary documents, and its FLOP ratio."""
    curve = document["data"]["ordinary"]
    points = _scores(curve, "preset", "fast")
    if OURS not in points or points[OURS]["n"] < FEWEST:
        return None
    schedule, shape = PruningSchedule(**points[OURS]["schedule"]), shape_config()
    ratio, scores = flop_ratio(schedule, curve["layers"], shape), (curve["full"]["score"], points[OURS]["score"])
    text = f"{round(scores[1] - scores[0], 1) + 0.0:+.1f} points at {ratio:.2f}x, the paper's module "
    text += f"{points[PAPERS]['score']:.1f}, attention {points[ATTENTION]['score']:.1f}"
    status = Status.of_scores(scores, scores[1] - scores[0] >= -LOST) if ratio >= RATIO else Status.FAILS
    return _answer(text, status, curve, points, "ordinary.points")


def dense(document: Mapping) -> Finding | None:
    """Points gained over the paper's module at keep07 on dense documents, and whether another score is above."""
    curve = document["data"]["dense"]
    points = _scores(curve, "ratio", 0.7)
    if not {OURS, PAPERS, ATTENTION} <= points.keys() or points[OURS]["n"] < FEWEST:
        return None
    ours, papers, attention = scores = [points[name]["score"] for name in (OURS, PAPERS, ATTENTION)]
    text = f"{ours:.1f}: {ours - papers:+.1f} over the paper's module (bar {GAINED:+g}), "
    text += f"{ours - attention:+.1f} over attention"
    best = max(point["score"] for name, point in points.items() if name not in (OURS, ORACLE))
    status = Status.of_scores(scores, ours - papers >= GAINED and ours >= best)
    return _answer(text, status, curve, points, "dense.points")


def pooled(document: Mapping) -> Finding | None:
    """Scores at keep07 on dense documents, pooled over the most neighbours tried, each method alike."""
    curve = document["data"]["dense"]
    width = max(point["width"] for point in curve["points"])
    points = _scores(curve, "width", width)
    if not {OURS, PAPERS, ATTENTION} <= points.keys() or points[OURS]["n"] < FEWEST:
        return None
    ours, *others = [Interval.of(points[name]) for name in (OURS, PAPERS, ATTENTION)]
    text = f"{ours.mean:.1f}: {ours.over(others[0])} over the paper's module, {ours.over(others[1])} over attention, "
    status = Status.of_all(higher([ours.over(other)], [ours.mean, other.mean]) for other in others)
    return _answer(f"{text}each pooled over {width} tokens", status, curve, points, "dense.points")


def cost(document: Mapping) -> Finding | None:
    """What the module takes of the prefill's FLOPs and time, at the prompt length that was timed; None if it is short.

    Both are those of a shape: `experiments.costs.question_costs` counts and times no model of the file's profile.
    """
    (row,) = [row for row in document["data"] if row["method"] == OURS]
    if row["tokens"] < SHORTEST:
        return None
    text = f"{100 * row['flops']:.2f}% of FLOPs, scoring {100 * row['scoring']:.2f}% of the time"
    status = Status.of(row["flops"] < FLOPS and row["scoring"] < TIME)
    text += f" at {row['tokens']:,} tokens; FLOPs are counted on Mistral-7B's shape"
    return Finding(text, status, key="flops, scoring", model="scaled-mistral")


def second(document: Mapping) -> Finding | None:
    """The second question asked of the cache that the first one pruned.

    How much more the question-aware module loses has an interval made of those of four means, each of 27 records or so.
    """
    rows = {row["method"]: row for row in document["data"]}
    ours, papers = rows.get("blend 1"), rows.get("blend 0")
    if not ours or not papers or ours["n"] < FEWEST:
        return None
    shown = {"question-aware": ours, "the paper's module": papers, "full": rows["full"]}
    text = "; ".join(f"{name} {row['first']:.1f} then {row['second']:.1f}" for name, row in shown.items())
    falls = [_asked(row, "first").over(_asked(row, "second")) for row in (ours, papers)]
    more = falls[0].over(falls[1])
    status = Status.decided(more.low > 0, more.high <= 0)
    return Finding(f"{text}; it falls by {more} points more", status, f"{ours['n']} records", key="first, second")


def _asked(row: Mapping, which: str) -> Interval:
    return Interval(row[which], *row[f"{which}_ci95"])


def _on_real(kind: str, *without_training: str) -> Reader:
    """The question-aware module above the paper's at its schedule, and above scores without training, of one kind."""
    ours, papers = (Arm(kind.format("sdtp"), design=design) for design in (OURS, PAPERS))
    papers = replace(papers, shown="the paper's module")
    return is_better(ours, papers, *(Arm(kind.format(name), shown=name) for name in without_training))


BEYOND = (
    Claim(
        "Ordinary", f"`fast` at a FLOP ratio of {RATIO} or more loses {LOST:g} point at most (asked of the toy)",
        "-2.5 points at 1.71x", notebook("10"), (("question_presets", ordinary),),
    ),
    Claim(
        "Dense", "reading the question beats the paper's module and untrained scores (toy: keep07)", "-",
        notebook("10"),
        (("methods", _on_real("{}", ATTENTION, "recency", "norm", "random")), ("question_curves", dense)),
    ),
    Claim(
        "Dense, pooled", "the same with every score pooled over neighbours (toy: keep07)", "-",
        notebook("10"),
        (("methods", _on_real(POOLED, ATTENTION)), ("question_pooled", pooled)),
    ),
    Claim(
        "Cost", f"the module takes under {FLOPS:.0%} of prefill FLOPs and {TIME:.0%} of its time", "-",
        notebook("10"), (("question_costs", cost),),
    ),
    Claim(
        "Second question", "a cache pruned by the first question loses more on the second than the paper's module does",
        "-", notebook("10"), (("question_twice", second),),
    ),
)  # fmt: skip
