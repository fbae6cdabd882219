"""Beyond the paper: pruning that reads the question, and pruning that does not, over budgets, seeds and questions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..blend import BlendScorer
from ..data import MINI_SEED
from ..demo.questions import TWICE_DATASETS, two_questions
from ..report import Markdown
from ..results import markdown_table
from ..schedule import PruningSchedule
from ..scorers import Scorer, TokenPruner
from .longbench import make_pruning, measure, resolve_schedule
from .sample_files import SampleFile, run_settings
from .schedules import Point, flop_share
from .second_question import ask_twice, second_scores
from .summary import interval

Scorers = Mapping[str, Sequence[Scorer]]  # method -> one scorer per training seed


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
        score, ci95 = _mean([samples for _, samples in runs])
        measured.append({
            **point, "schedule": schedule.to_dict(), "score": score, "ci95": ci95,
            "seeds": [found["average"] for found, _ in runs],
            "n": len(records), "flops": flop_share(model.config, schedule, tokens, scorers[0]),
        })  # fmt: skip
    return measured


def _mean(runs: Sequence[Sequence[dict]]) -> tuple[float, list[float]]:
    """Mean over datasets and its 95% interval, 0 to 100, of scores that are means over runs on the same records."""
    groups: dict[str, list[float]] = {}
    for samples in zip(*runs, strict=True):
        groups.setdefault(samples[0]["dataset"], []).append(100 * sum(s["score"] for s in samples) / len(samples))
    score = sum(sum(group) / len(group) for group in groups.values()) / len(groups)
    return score, interval(list(groups.values()))


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


def twice_records(sets: Sequence[str], limit: int, tokens: tuple[int, int] = (272, 960)) -> list[dict]:
    """`limit` records with two questions of each dataset of the sets "ordinary" and "dense"."""
    datasets = [name for name in TWICE_DATASETS if ("dense" if name.startswith("dense_") else "ordinary") in sets]
    return [record for name in datasets for record in two_questions(name, limit, MINI_SEED, tokens)]


def second_question(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    schedule: str | PruningSchedule,
    scorers: Mapping[str, Scorer | None],
    folder: str | os.PathLike | None = None,
    resume: bool = True,
) -> list[dict[str, Any]]:
    """Scores of both questions when the second is asked of the cache that was pruned with the first.

    Args:
        records: of `twice_records`.
        scorers: label -> scorer, or None where the label is a name of METHODS.
        folder, resume: see `measure`.

    Returns:
        One dict per label: `method`, and for `first` and `second` the score (0 to 100) and its `ci95`.
    """
    stages, rows = resolve_schedule(schedule, model), []
    for label, scorer in scorers.items():
        pruning, file = make_pruning(model, label if scorer is None else "sdtp", stages, scorer), None
        if folder is not None:
            used = stages if pruning else resolve_schedule("none", model)
            settings = run_settings(model, label, used, _weights(scorer), share=getattr(scorer, "share", None))
            file = SampleFile(Path(folder) / f"twice-{label}.jsonl", settings, resume)
        samples = ask_twice(model, tokenizer, records, pruning, title=label, file=file)
        row: dict[str, Any] = {"method": label, "n": len(samples)}
        for turn, asked in (("first", samples), ("second", second_scores(samples))):
            row[turn], row[f"{turn}_ci95"] = _mean([asked])
        rows.append(row)
    return rows


def _weights(scorer: Scorer | None) -> Scorer | None:
    """What tells a scorer's weights apart; of a blend, those of its first."""
    return scorer.first if isinstance(scorer, BlendScorer) else scorer


def blends(question: Scorer, general: Scorer, shares: Sequence[float]) -> dict[str, Scorer]:
    """Label -> scorer that spends a share of the budget by the question, the rest by general saliency."""
    return {f"blend {share:g}": BlendScorer(question, general, share) for share in shares}


def twice_table(rows: Sequence[Mapping]) -> Markdown:
    """Both questions' scores of each method."""
    return Markdown(markdown_table([
        {
            "method": row["method"],
            "first question": row["first"], "95%": "{:.1f} to {:.1f}".format(*row["first_ci95"]),
            "second question": row["second"], "95% ": "{:.1f} to {:.1f}".format(*row["second_ci95"]),
        }
        for row in rows
    ]))  # fmt: skip
