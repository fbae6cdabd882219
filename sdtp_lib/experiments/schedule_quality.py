"""Quality of other schedules and scores, against what they leave of the prefill's FLOPs; Fig. 4 and 5 use it too.

A point is a dict with a `method`, a `schedule` and whatever says where it belongs in a figure; measured, it has a score
and the share of the full model's prefill FLOPs as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.bootstrap import mean_nll
from ..evaluation.longbench import measure
from ..evaluation.methods import Pruners, read_row
from ..evaluation.paired_differences import paired_differences
from ..latency.flops import schedule_flops
from ..markdown import Markdown, interval_text
from ..pruning.schedule import UNPRUNED, PruningSchedule
from ..pruning.scoring import Scorer
from ..results import markdown_table

Point = dict[str, Any]


def budgets(schedule: PruningSchedule, ratios: Sequence[float], methods: Sequence[str]) -> list[Point]:
    """The stages of `schedule` with other keep ratios, for every method: quality against FLOPs; labelled `ratio`."""
    return [
        {"method": method, "ratio": ratio, "schedule": PruningSchedule(schedule.layers, ratio)}
        for method in methods
        for ratio in ratios
    ]


def quality(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    points: Sequence[Point],
    pruner: Pruners = None,
    full: Sequence[dict] | None = None,
    **options,
) -> list[Point]:
    """Measure every point on the same records.

    Args:
        pruner: see `evaluation.methods.make_scorer`; with a scorer for every layer that is cut.
        full: samples of the full model, for `against_full`.
        options: of `measure`; a point may bring its own `positions`. Its `method` may say how scores are
            pooled, as `evaluation.methods.read_row` reads it.

    Returns:
        The points, the schedule as plain values, with `score` (0 to 100), `ci95`, `n`, `flops` (share of the full
        model's prefill FLOPs at the mean prompt length, attention causal, pruner included), `kept` (mean over layers
        of the share of tokens present), where answers are weighed `nll`, and with `full` the paired difference
        `against_full` from its score, see `evaluation.paired_differences.difference_cell`.

    Raises:
        ValueError: as `measure`; for a schedule that does not fit the model, before anything runs.
    """
    layers = model.config.num_hidden_layers
    for point in points:
        point["schedule"].check_model(layers)
    measured = []
    for point in tqdm(points, desc="points", unit="point"):
        point = dict(point)
        schedule, own = point.pop("schedule"), {"positions": point["positions"]} if "positions" in point else {}
        row = read_row(point["method"])
        found, samples = measure(
            model, tokenizer, records, row.method, schedule, pruner, pool=row.pool, title=_title(point, schedule),
            **{**options, **own},
        )  # fmt: skip
        against = {} if full is None else {"against_full": paired_differences(full, samples)["average"]}
        present = found["tokens_per_layer"]
        measured.append({
            **point, "schedule": schedule.to_dict(), "score": found["average"], "ci95": found["ci95"],
            "n": sum(task["n"] for task in found["tasks"].values()),
            "flops": flop_share(model.config, schedule, round(found["prompt_tokens"])),
            "kept": sum(present) / (len(present) * found["prompt_tokens"]), **mean_nll(found), **against,
        })  # fmt: skip
    return measured


def _title(point: Point, schedule: PruningSchedule) -> str:
    """Of a point's samples: what it is, and a hash of where and how much it cuts."""
    cuts = hashlib.sha256(json.dumps(schedule.to_dict()).encode()).hexdigest()[:8]
    return "-".join([point["method"], point.get("positions", "original"), cuts])


def flop_share(config: PretrainedConfig, schedule: PruningSchedule, tokens: int, scorer: Scorer | None = None) -> float:
    """Pruned over full FLOPs of a prefill of `tokens` tokens; a scorer that does not tell its own costs an MLP's."""
    pruned = schedule_flops(config, schedule, tokens, scoring=getattr(scorer, "flops", None))
    return pruned / schedule_flops(config, UNPRUNED, tokens)


def positions(original: Sequence[Point], measured: Callable[[list[Point]], list[Point]]) -> list[Point]:
    """Points of the pruner, with kept tokens at their own positions and renumbered at every stage.

    Args:
        original: measured points of any methods; those of `sdtp` are shown as they are, labelled.
        measured: measures points, as `quality` does.
    """
    stayed = [{**point, "positions": "original"} for point in original if point["method"] == "sdtp"]
    moved = [{key: point[key] for key in ("method", "ratio")} | {"positions": "compact"} for point in stayed]
    for point, other in zip(moved, stayed, strict=True):
        point["schedule"] = PruningSchedule(**other["schedule"])
    return stayed + measured(moved)


def points_table(points: Sequence[Point], labels: Sequence[str]) -> Markdown:
    """Measured points as a table: their `labels`, then score, interval and FLOPs left, and what else is known of it."""
    rows = []
    for point in points:
        row = {label: point[label] for label in labels}
        row |= {"score": point["score"], "95%": interval_text(point["ci95"])}
        if against := point.get("against_full"):
            row |= {"- full": against["difference"], "95% ": interval_text(against["ci95"], sign=True)}
        row |= {"nll": point["nll"]} if "nll" in point else {}
        rows.append(row | {"FLOPs, %": 100 * point["flops"]})
    return Markdown(markdown_table(rows, {"score": 1, "- full": 1, "FLOPs, %": 0}))
