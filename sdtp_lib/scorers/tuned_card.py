"""The part of a model card that a tuned pruner has besides: how it is used, and what that cost on held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..results import markdown_table
from .pooling import pooling
from .use import USE, own_schedules

SCORES = {
    "question_aware": "a module that reads the question", "paper": "the paper's module",
    "attention": "last-window attention", "strongest": "the strongest head's attention",
}  # fmt: skip
PARTS = ("searched", "measured")  # of the record, shown as tables here; `places` too, if they were looked for
SECTION = """
## Use

`sdtp tune` chose {scored}, and a schedule for each of the FLOP ratios {ratios}
(of the prefill, full / pruned, counted at {tokens} tokens, the median of {data}). `sdtp evaluate`, `demo`, `explore`
and `profile` take all of it by `--pruner FOLDER`, Python as above.

{schedules}

## Quality on held-out prompts

{held_out} prompts that neither trained nor chose anything; NLL in nats per token of the right answer, lower is better,
95% intervals by bootstrap, differences paired. Prefill times are medians of runs in turns on the machine that tuned.

{measured}

{verdict}

## Candidates, on the search part

{searched}
"""
PLACES = """
## Where one cut costs least

NLL of the right answers of {prompts} prompts of the search part under one cut at each layer, by the strongest head and
whole sentences. The layers that lose least joined the candidates above.

{places}
"""


def tuned_section(record: Mapping[str, Any]) -> str:
    """That part, from a record of `sdtp tune`; empty for any other."""
    if not {USE, "score", "tuning", *PARTS} <= record.keys():
        return ""
    about, schedules = record["tuning"], own_schedules(record)
    rows = [
        {"name": name, "layers": ", ".join(map(str, each.layers)), "kept": ", ".join(f"{x:.3f}" for x in each.ratios)}
        for name, each in schedules.items()
    ]
    candidates = [{"FLOP ratio": ratio, **row} for ratio, each in record["searched"].items() for row in each]
    section = SECTION.format(
        scored=scored_by(record), ratios=", ".join(schedules), data=about["data"],
        tokens=about["median_tokens"], held_out=about["prompts"]["held_out"], schedules=markdown_table(rows),
        measured=measured_table(record["measured"]), verdict=verdict(record), searched=markdown_table(candidates, 3),
    )  # fmt: skip
    return section + _places(record.get("places", {}))


def _places(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One row a layer, one column a FLOP ratio."""
    rows: dict[int, dict[str, Any]] = {}
    for ratio, each in found.items():
        for row in each:
            rows.setdefault(row["layer"], {"layer": str(row["layer"])})[f"at {ratio}x"] = row["nll"]
    if not rows:
        return ""
    prompts = next(row["prompts"] for each in found.values() for row in each)
    return PLACES.format(prompts=prompts, places=markdown_table([rows[layer] for layer in sorted(rows)], 3))


def scored_by(record: Mapping[str, Any]) -> str:
    """The score and its pooling, in words."""
    return f"{SCORES[record['score']]}{pooling(record[USE]['pool']) or ', not pooled'}"


def measured_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each method beside the full model and the tuned one, in Markdown."""
    return markdown_table([
        {
            "FLOP ratio": row["asked"] or "-", "method": row["method"], "FLOPs full / pruned": row["flops"],
            "prefill full / pruned": row["prefill"], "NLL": f"{row['nll']:.3f} {_shown(row['ci95'])}",
            "above full": _difference(row.get("above_full")), "above tuned": _difference(row.get("above_tuned")),
        }
        for row in rows
    ])  # fmt: skip


def verdict(record: Mapping[str, Any]) -> str:
    """What the intervals say about the tuned score beside the full model, and each other score at the same FLOPs."""
    words = {"higher": "worse than", "lower": "better than", "no difference seen": "not told apart from"}
    found = [
        f"- At {row['asked']}x {row['method']} is {words.get(row['above_tuned']['verdict'], 'not comparable with')} "
        f"what was tuned ({_difference(row['above_tuned'])})."
        for row in record["measured"]
        if row["asked"] and "above_tuned" in row
    ]
    costs = {"higher": "costs, as its answers are less likely than the full model's", "lower": "beats the full model"}
    found[:0] = [
        f"- At {row['asked']}x what was tuned "
        f"{costs.get(row['above_full']['verdict'], 'is not told apart from the full model')} "
        f"({_difference(row['above_full'])})."
        for row in record["measured"]
        if row["asked"] and "above_full" in row and "above_tuned" not in row
    ]
    if record["score"] in ("attention", "strongest"):
        found.insert(0, "- No trained module was better than attention on the search part.")
    return "\n".join(found)


def _difference(cell: Mapping[str, Any] | None) -> str:
    return "-" if cell is None else f"{_rounded(cell['difference']):+.3f} {_shown(cell['ci95'])}"


def _shown(interval: Sequence[float]) -> str:
    return "[{:.3f}, {:.3f}]".format(*map(_rounded, interval))


def _rounded(value: float) -> float:
    return round(value, 3) + 0.0  # never -0.0
