"""Beyond the paper: pruning that reads the question, and pruning that does not, over budgets, seeds and documents."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paper as paper_numbers
from ..evaluation.bootstrap import mean_nll, mean_over_runs, means_over_runs
from ..evaluation.longbench import measure
from ..evaluation.methods import make_scorer
from ..evaluation.paired_differences import difference_cell
from ..latency.flop_estimates import flop_ratio
from ..markdown import Markdown, interval_text, paper_ours
from ..models.named_schedules import resolve_schedule
from ..models.shapes import shape_config
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..results import markdown_table
from ..scorers.pooled import PooledScorer
from .schedule_quality import Point, flop_share

OURS = "question_aware"


@dataclass(frozen=True)
class Setting:
    """What is asked of which model.

    Attributes:
        name: of the kind of documents; goes into tables.
        model, tokenizer: what is pruned.
        records: in LongBench's schema.
        pruners: method -> one scorer per training seed; other methods are names of METHODS.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    records: Sequence[dict]
    pruners: Mapping[str, Sequence[Scorer]]


def with_harder_learner(easy: Setting, hard: Setting) -> list[Setting]:
    """Both settings; where the model of `hard` is another one, `easy` is asked of it as well."""
    if hard.model.name_or_path == easy.model.name_or_path:
        return [easy, hard]
    return [easy, hard, replace(easy, name=f"{easy.name}, learned with {hard.name}", model=hard.model,
                                pruners=hard.pruners)]  # fmt: skip


def curve(setting: Setting, points: Sequence[Point], folder: str | os.PathLike, **options) -> dict[str, Any]:
    """`full`, the full model's score (0 to 100) with its 95% interval, `layers` of the model, and `points`, see
    `quality_over_seeds`."""
    found, _ = measure(setting.model, setting.tokenizer, setting.records, "full", folder=folder, **options)
    return {
        "full": {"score": found["average"], "ci95": found["ci95"]},
        "layers": setting.model.config.num_hidden_layers,
        "points": quality_over_seeds(setting, points, folder, **options),
    }


def quality_over_seeds(
    setting: Setting, points: Sequence[Point], folder: str | os.PathLike | None = None, **options
) -> list[Point]:
    """Measure every point on the same records; of a trained method every seed, whose samples are averaged first.

    Args:
        points: of `budgets`, or others with a `method` and a `schedule`; scores of one with a `width` are
            pooled over so many neighbours.
        folder: gets every sample as it comes, see `measure`; a run that was killed goes on there.
        options: of `measure`.

    Returns:
        The points, the schedule as plain values, with `score` (0 to 100, mean over seeds), `ci95` (over records, of
        that mean), `seeds` (score of each), `samples` (dataset -> that mean for each record), `n` records, where
        answers are weighed `nll`, and `flops`, the share of the full model's prefill FLOPs at the mean prompt length
        (attention causal; what the scorer costs included, an untrained one as the paper's MLP).
    """
    model, measured = setting.model, []
    for number, point in enumerate(points):
        point = dict(point)
        schedule, method = resolve_schedule(point.pop("schedule"), model), point["method"]
        runs, scorers = [], setting.pruners.get(method, [None])
        alone = scorers[0]  # whose FLOPs count; sums over neighbours are next to nothing
        if (width := point.get("width", 1)) > 1:
            scorers = [PooledScorer(scorer or make_scorer(method), width) for scorer in scorers]
        for seed, scorer in enumerate(scorers):
            title = f"{method}-{number}-{seed}"
            name = method if scorer is None else "sdtp"
            runs.append(
                measure(
                    model, setting.tokenizer, setting.records, name, schedule, scorer, folder=folder, title=title,
                    **options,
                )
            )  # fmt: skip
        tokens, weighed = round(runs[0][0]["prompt_tokens"]), [mean_nll(found) for found, _ in runs]
        samples = [each for _, each in runs]
        score, ci95 = mean_over_runs(samples)
        measured.append({
            **point, "schedule": schedule.to_dict(), "score": score, "ci95": ci95,
            "seeds": [found["average"] for found, _ in runs], "samples": means_over_runs(samples),
            "n": len(setting.records), "flops": flop_share(model.config, schedule, tokens, alone),
            **({"nll": mean(each["nll"] for each in weighed)} if all(weighed) else {}),
        })  # fmt: skip
    return measured


def preset_points(presets: Sequence[str], methods: Sequence[str]) -> list[Point]:
    """Every method under every preset; labelled `preset`."""
    return [{"method": method, "preset": preset, "schedule": preset} for preset in presets for method in methods]


def pooled_points(widths: Sequence[int], methods: Sequence[str]) -> list[Point]:
    """Every method under `keep07`, its scores pooled over neighbours; labelled `width`."""
    return [{"method": method, "width": width, "schedule": "keep07"} for method in methods for width in widths]


def curves(
    settings: Sequence[Setting], points: Sequence[Point], folder: str | os.PathLike, **options
) -> dict[str, dict]:
    """`curve` of the same points in several settings: name of the setting -> curve."""
    return {each.name: curve(each, points, Path(folder) / each.name.replace(" ", "_"), **options) for each in settings}


def gains(found: Mapping[str, Mapping[str, Any]], label: str) -> Markdown:
    """Points that the question-aware pruner is above each other method and the full model's score, on the same records
    and schedule.

    Args:
        found: what `curves` gave; the full model's column is a plain difference, the others are paired.
        label: of the points, such as `ratio`, that tells schedules apart.
    """
    rows = []
    for name, each in found.items():
        ours = {point[label]: point for point in each["points"] if point["method"] == OURS}
        for point in each["points"]:
            if point["method"] == OURS or point[label] not in ours:
                continue
            mine = ours[point[label]]
            groups = [
                [a - b for a, b in zip(scores, point["samples"][dataset], strict=True)]
                for dataset, scores in mine["samples"].items()
            ]
            cell = difference_cell(groups)
            rows.append({
                "documents": name, label: point[label], OURS: mine["score"], "full": each["full"]["score"],
                "against": point["method"], "its score": point["score"], "difference": cell["difference"],
                "95%": interval_text(cell["ci95"], sign=True),
                **({"nll": mine["nll"], "its nll": point["nll"]} if "nll" in point else {}),
            })  # fmt: skip
    return Markdown(markdown_table(rows, {title: 1 for title in (OURS, "full", "its score", "difference")}))


def against_paper(presets: Mapping[str, Any], preset: str) -> Markdown:
    """Points lost against the full model and prefill FLOPs: Table 1's SDTP, and the question-aware pruner's.

    Args:
        presets: one of what `curves` gave for `preset_points`.
        preset: which of them.
    """
    (ours,) = [p for p in presets["points"] if (p["preset"], p["method"]) == (preset, OURS)]
    lost = paper_numbers.TABLE1["SDTP"]["AVG"] - paper_numbers.TABLE1["original"]["AVG"]
    config = shape_config()
    theirs = PruningSchedule.preset("paper", config.num_hidden_layers)
    schedule = PruningSchedule(**ours["schedule"])
    made_for = ((theirs, config.num_hidden_layers), (schedule, presets["layers"]))
    ratios = [flop_ratio(each, layers, config) for each, layers in made_for]
    return paper_ours([
        ("points lost on average", lost, ours["score"] - presets["full"]["score"]),
        ("prefill FLOPs full / pruned, counted on Mistral-7B's shape at 8,192 tokens", *ratios),
    ])  # fmt: skip
