"""Quality of other schedules and scores, against what they leave of the prefill's FLOPs; Fig. 4 and 5 use it too.

A point is a dict with a `method`, a `schedule` and whatever says where it belongs in a figure; measured, it has a score
and the share of the full model's prefill FLOPs as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.longbench import measure
from ..latency.flops import schedule_flops
from ..markdown import Markdown
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..results import markdown_table

UNPRUNED = PruningSchedule(())
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
    pruner: Scorer | Mapping[str, Scorer] | None = None,
    **options,
) -> list[Point]:
    """Measure every point on the same records.

    Args:
        pruner: of the method `sdtp`, with a scorer for every layer that is cut; or the scorers of several methods by
            name, which need not be names of METHODS.
        options: of `measure`; a point may bring its own `positions`.

    Returns:
        The points, the schedule as plain values, with `score` (0 to 100), `ci95`, `n`, `flops` (share of the full
        model's prefill FLOPs at the mean prompt length, attention causal, pruner included) and `kept` (mean over layers
        of the share of tokens present).

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
        method, scorer = point["method"], pruner
        if isinstance(pruner, Mapping):
            method, scorer = ("sdtp", pruner[method]) if method in pruner else (method, None)
        found, _ = measure(model, tokenizer, records, method, schedule, scorer, **{**options, **own})
        present = found["tokens_per_layer"]
        measured.append({
            **point, "schedule": schedule.to_dict(), "score": found["average"], "ci95": found["ci95"],
            "n": sum(task["n"] for task in found["tasks"].values()),
            "flops": flop_share(model.config, schedule, round(found["prompt_tokens"])),
            "kept": sum(present) / (len(present) * found["prompt_tokens"]),
        })  # fmt: skip
    return measured


def flop_share(config: PretrainedConfig, schedule: PruningSchedule, tokens: int, scorer: Scorer | None = None) -> float:
    """Pruned over full FLOPs of a prefill of `tokens` tokens; a scorer that does not tell its own costs an MLP's."""
    pruned = schedule_flops(config, schedule, tokens, scoring=getattr(scorer, "flops", None))
    return pruned / schedule_flops(config, UNPRUNED, tokens)


def points_table(points: Sequence[Point], labels: Sequence[str]) -> Markdown:
    """Measured points as a table: their `labels`, then score, interval and FLOPs left."""
    return Markdown(markdown_table([
        {label: point[label] for label in labels}
        | {"score": point["score"], "95%": "{:.1f} to {:.1f}".format(*point["ci95"]), "FLOPs, %": 100 * point["flops"]}
        for point in points
    ]))  # fmt: skip
