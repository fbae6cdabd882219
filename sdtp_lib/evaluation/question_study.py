"""Beyond the paper: pruning that reads the question, and pruning that does not, over budgets, seeds and questions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import MistralConfig, PreTrainedModel, PreTrainedTokenizerBase

from .. import paper_numbers, paths
from ..every_layer import pruners_of_every_layer
from ..models import SHAPES
from ..report import Markdown, paper_ours
from ..results import markdown_table
from ..schedule import PruningSchedule
from ..schedule_search import flop_ratio
from ..scorers import Scorer, TokenPruner
from .longbench import measure, resolve_schedule
from .schedules import Point, flop_share
from .summary import mean_over_runs

Scorers = Mapping[str, Sequence[Scorer]]  # method -> one scorer per training seed


def _question(**options) -> dict[str, Any]:
    return {"kind": "question_aware", "options": options}


# Name -> fields of `Recipe`.
DESIGNS: dict[str, dict[str, Any]] = {
    "paper": {},
    "question_aware": _question(),
    "mean over the window": _question(pool="mean"),
    "maximum over the window": _question(pool="max"),
    "1 head": _question(heads=1),
    "4 heads": _question(heads=4),
    "window of 8": _question(window=8),
    "window of 32": _question(window=32),
    "without the MLP": _question(width=0),
}


def load_or_train(
    model: PreTrainedModel, name: str, data: str, num_samples: int, folder: str | os.PathLike, designs: Sequence[str],
    seeds: Sequence[int], revision: str | None = None,
) -> dict[str, list[TokenPruner]]:  # fmt: skip
    """Pruners of every layer, in the model's dtype: design -> one per seed.

    Args:
        model: to be pruned; `name` loads the same in float32.
        data, num_samples: what they are trained on, see `saliency.mark`; with 0 samples the shipped ones are taken.
        folder: see `every_layer.pruners_of_every_layer`.
        designs: keys of DESIGNS.

    Raises:
        ValueError: for an unknown design, or one that is not shipped, or several seeds of a shipped one.
    """
    for design in designs:
        if design not in DESIGNS:
            raise ValueError(f"unknown design {design!r}; known: {', '.join(DESIGNS)}")
    if num_samples:
        chosen = {design: DESIGNS[design] for design in designs}
        found = pruners_of_every_layer(name, data, num_samples, folder, chosen, seeds, revision=revision)
    else:
        if len(seeds) > 1:
            raise ValueError(f"one pruner of each design is shipped, not one for each of the seeds {list(seeds)}")
        shipped = {path.name: path for path in sorted(paths.DENSE_PRUNERS.glob("*"))}
        if missing := sorted(set(designs) - set(shipped)):
            raise ValueError(f"no pruner {missing[0]!r} is shipped; there are {', '.join(sorted(shipped))}")
        found = {design: [TokenPruner.from_pretrained(shipped[design])] for design in designs}
    return {
        design: [pruner.to(device=model.device, dtype=model.dtype) for pruner in each] for design, each in found.items()
    }


def paper_stages(model: PreTrainedModel) -> PruningSchedule:
    """The stages of the paper on this model."""
    return resolve_schedule("paper", model)


def full_score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: Sequence[dict], folder: str | os.PathLike
) -> dict[str, Any]:
    """The full model's score (0 to 100) and its 95% interval."""
    found, _ = measure(model, tokenizer, records, "full", folder=folder)
    return {"score": found["average"], "ci95": found["ci95"]}


def quality_over_seeds(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    points: Sequence[Point],
    trained: Scorers,
    folder: str | os.PathLike | None = None,
    **options,
) -> list[Point]:
    """Measure every point on the same records; of a trained method every seed, whose samples are averaged first.

    Args:
        points: of `schedules.budgets`, or others with a `method` and a `schedule`.
        trained: the scorers of methods that are trained, one for each seed; other methods are names of METHODS.
        folder: gets every sample as it comes, see `measure`; a run that was killed goes on there.
        options: of `measure`.

    Returns:
        The points, the schedule as plain values, with `score` (0 to 100, mean over seeds), `ci95` (over records, of
        that mean), `seeds` (score of each), `n` records, and `flops`, the share of the full model's prefill FLOPs at
        the mean prompt length (attention causal; what the scorer costs included, an untrained one as the paper's MLP).
    """
    measured = []
    for number, point in enumerate(points):
        point = dict(point)
        schedule, method = resolve_schedule(point.pop("schedule"), model), point["method"]
        runs, scorers = [], trained.get(method, [None])
        for seed, scorer in enumerate(scorers):
            title = f"{method}-{number}-{seed}"
            name = method if scorer is None else "sdtp"
            runs.append(
                measure(model, tokenizer, records, name, schedule, scorer, folder=folder, title=title, **options)
            )
        tokens = round(runs[0][0]["prompt_tokens"])
        score, ci95 = mean_over_runs([samples for _, samples in runs])
        measured.append({
            **point, "schedule": schedule.to_dict(), "score": score, "ci95": ci95,
            "seeds": [found["average"] for found, _ in runs],
            "n": len(records), "flops": flop_share(model.config, schedule, tokens, scorers[0]),
        })  # fmt: skip
    return measured


def design_table(found: Mapping[str, Mapping[str, Any]]) -> Markdown:
    """Designs of the pruner side by side: `rank_correlation`, `score`, `ci95` and `flops` of each."""
    return Markdown(markdown_table([
        {
            "design": name, "rank correlation, held out": row["rank_correlation"], "score": row["score"],
            "95%": "{:.1f} to {:.1f}".format(*row["ci95"]), "prefill FLOPs left, %": 100 * row["flops"],
        }
        for name, row in found.items()
    ]))  # fmt: skip


def compare_designs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    pruners: Mapping[str, Sequence[TokenPruner]],
    schedule: str | PruningSchedule,
    folder: str | os.PathLike | None = None,
    **options,
) -> dict[str, dict[str, Any]]:
    """Held-out rank correlation (mean over the schedule's layers and over seeds) and quality of designs of the pruner.

    Args:
        pruners: design -> what `every_layer.pruners_of_every_layer` trained, one per seed.
        folder, options: see `quality_over_seeds`.
    """
    stages = resolve_schedule(schedule, model)
    points = [{"method": name, "schedule": stages} for name in pruners]
    measured = quality_over_seeds(model, tokenizer, records, points, pruners, folder, **options)
    return {point["method"]: {**point, "rank_correlation": _correlation(pruners[point["method"]], stages)}
            for point in measured}  # fmt: skip


def _correlation(pruners: Sequence[TokenPruner], schedule: PruningSchedule) -> float:
    found = [
        pruner.record["held_out"]["rank_correlation"][pruner.layers.index(layer)]
        for pruner in pruners
        for layer in schedule.layers
    ]
    return sum(found) / len(found)


def preset_points(presets: Sequence[str], methods: Sequence[str]) -> list[Point]:
    """Every method under every preset; labelled `preset`."""
    return [{"method": method, "preset": preset, "schedule": preset} for preset in presets for method in methods]


def quality_by_set(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sets: Mapping[str, Sequence[dict]],
    points: Sequence[Point], trained: Scorers, folder: str | os.PathLike, **options,
) -> list[Point]:  # fmt: skip
    """`quality_over_seeds` of the same points on several sets of records; labelled `set`."""
    return [
        {"set": name, **point}
        for name, records in sets.items()
        for point in quality_over_seeds(model, tokenizer, records, points, trained, Path(folder) / name, **options)
    ]


def against_paper(
    presets: Sequence[Point], full: Mapping[str, Any], layers: int, shape: str = "mistral-7b"
) -> Markdown:
    """Points lost against the full model and prefill FLOPs: Table 1's SDTP, and `fast` on ordinary documents.

    Args:
        presets: what `quality_by_set` gave for `preset_points`.
        full: what `full_score` gave for the ordinary documents.
        layers: of the model that they were measured on.
        shape: on which FLOPs are counted, for both.
    """
    (ours,) = [p for p in presets if (p["set"], p["preset"], p["method"]) == ("ordinary", "fast", "question_aware")]
    lost = paper_numbers.TABLE1["SDTP"]["AVG"] - paper_numbers.TABLE1["original"]["AVG"]
    config = MistralConfig(**SHAPES[shape])
    theirs = PruningSchedule.preset("paper", config.num_hidden_layers)
    ratios = [flop_ratio(theirs, config.num_hidden_layers, config), flop_ratio(_schedule(ours), layers, config)]
    return paper_ours([
        ("points lost on average", lost, ours["score"] - full["score"]),
        ("prefill FLOPs full / pruned, counted on Mistral-7B's shape at 8,192 tokens", *ratios),
    ])  # fmt: skip


def _schedule(point: Point) -> PruningSchedule:
    return PruningSchedule(**point["schedule"])
