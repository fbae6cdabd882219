"""What this project set out to show beyond the paper, and the readers that answer it from notebook 10's results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import MistralConfig

from ..latency.flop_estimates import flop_ratio
from ..models.loading import SHAPES
from ..pruning.schedule import PruningSchedule
from .claim_readers import Finding
from .claims import NOTEBOOK, Claim

FEWEST = 25  # records below which a notebook's run says nothing about quality
LOST, GAINED = 1.0, 10.0  # points: lost at most on ordinary documents, gained at least on dense ones
FLOPS, TIME = 0.01, 0.02  # shares of the prefill that the module may take
RATIO = 2.6  # prefill FLOPs full / pruned on Mistral-7B's shape at 8,192 tokens
OURS, PAPERS, ATTENTION = "question_aware", "paper", "attention"


def _scores(curve: Mapping[str, Any], label: str, value: Any) -> dict[str, Mapping[str, Any]]:
    return {point["method"]: point for point in curve["points"] if point[label] == value}


def ordinary(data: dict) -> Finding | None:
    """Points lost by `fast` on ordinary documents, and its FLOP ratio."""
    curve = data["ordinary"]
    points = _scores(curve, "preset", "fast")
    if OURS not in points or points[OURS]["n"] < FEWEST:
        return None
    schedule, shape = PruningSchedule(**points[OURS]["schedule"]), MistralConfig(**SHAPES["mistral-7b"])
    ratio = flop_ratio(schedule, curve["layers"], shape)
    lost = points[OURS]["score"] - curve["full"]["score"]
    text = f"{lost:+.1f} points at {ratio:.2f}x (full {curve['full']['score']:.1f}, the paper's module "
    text += f"{points[PAPERS]['score']:.1f}, attention {points[ATTENTION]['score']:.1f}; {points[OURS]['n']} records)"
    return Finding(text, lost >= -LOST and ratio >= RATIO)


def dense(data: dict) -> Finding | None:
    """Points gained over the paper's module and over attention at keep07 on dense documents."""
    points = _scores(data["dense"], "ratio", 0.7)
    if not {OURS, PAPERS, ATTENTION} <= points.keys() or points[OURS]["n"] < FEWEST:
        return None
    ours, papers, attention = (points[name]["score"] for name in (OURS, PAPERS, ATTENTION))
    text = f"{ours:.1f}: {ours - papers:+.1f} over the paper's module, {ours - attention:+.1f} over attention "
    text += f"(full {data['dense']['full']['score']:.1f}; {points[OURS]['n']} records)"
    return Finding(text, ours - papers >= GAINED and ours >= attention)


def pooled(data: dict) -> Finding | None:
    """Scores at keep07 on dense documents, pooled over the most neighbours tried, each method alike."""
    curve = data["dense"]
    width = max(point["width"] for point in curve["points"])
    points = _scores(curve, "width", width)
    if not {OURS, PAPERS, ATTENTION} <= points.keys() or points[OURS]["n"] < FEWEST:
        return None
    ours, papers, attention = (points[name]["score"] for name in (OURS, PAPERS, ATTENTION))
    text = f"{ours:.1f}, the paper's module {papers:.1f}, attention {attention:.1f}, each pooled over {width} tokens "
    text += f"(full {curve['full']['score']:.1f}; {points[OURS]['n']} records)"
    return Finding(text, ours > max(papers, attention))


def cost(data: list[dict]) -> Finding | None:
    """What the module takes of the prefill's FLOPs and time, at the prompt length that was timed."""
    (row,) = [row for row in data if row["method"] == OURS]
    if row["tokens"] < 4096:
        return None
    text = f"{100 * row['flops']:.2f}% of FLOPs, scoring {100 * row['scoring']:.2f}% of the time"
    return Finding(f"{text} at {row['tokens']:,} tokens", row["flops"] < FLOPS and row["scoring"] < TIME)


def second(data: list[dict]) -> Finding | None:
    """The second question asked of the cache that the first one pruned."""
    rows = {row["method"]: row for row in data}
    ours, papers = rows.get("blend 1"), rows.get("blend 0")
    if not ours or not papers or ours["n"] < FEWEST:
        return None
    shown = {"question-aware": ours, "the paper's module": papers, "full": rows["full"]}
    text = "; ".join(f"{name} {row['first']:.1f} then {row['second']:.1f}" for name, row in shown.items())
    fallen = [row["first"] - row["second"] - (rows["full"]["first"] - rows["full"]["second"]) for row in (ours, papers)]
    return Finding(text, fallen[0] > fallen[1])


BEYOND = (
    Claim(
        "Ordinary", f"`fast`, whose FLOP ratio is {RATIO} or more, loses {LOST:g} point at most (asked of `demo`)",
        "-2.5 points at 1.71x", NOTEBOOK.format("10"), ("question_presets",), ordinary,
    ),
    Claim(
        "Dense", f"reading the question gains {GAINED:g} points at keep07, and it is not below attention",
        "-", NOTEBOOK.format("10"), ("question_curves",), dense,
    ),
    Claim(
        "Dense, pooled", "with every score pooled over neighbours, the one that reads the question is still ahead", "-",
        NOTEBOOK.format("10"), ("question_pooled",), pooled,
    ),
    Claim(
        "Cost", f"the module takes under {FLOPS:.0%} of prefill FLOPs and {TIME:.0%} of its time", "-",
        NOTEBOOK.format("10"), ("question_costs",), cost,
    ),
    Claim(
        "Second question", "a cache pruned by the first question loses more on the second than the paper's module does",
        "-", NOTEBOOK.format("10"), ("question_twice",), second,
    ),
)  # fmt: skip
