"""From scored samples to the numbers of a table: means, bootstrap intervals, tokens kept, and the paper's Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..data.tasks import DATASETS, FORESEEN, LETTERS
from ..paper import CATEGORIES

RESAMPLES = 2000
Z95 = 1.959964  # standard errors to either side of a 95% interval


def interval(groups: Sequence[Sequence[float]], seed: int = 0) -> list[float]:
    """95% bootstrap interval of the plain mean of the groups' means, each group resampled by itself.

    Args:
        groups: one list of scores per dataset.
        seed: of the resampling.

    Raises:
        ValueError: without groups, or for an empty one.
    """
    if not groups or not all(len(group) for group in groups):
        raise ValueError("an interval needs at least one score in every group")
    rng = np.random.default_rng(seed)
    means = [np.mean(rng.choice(np.asarray(group, float), (RESAMPLES, len(group))), axis=1) for group in groups]
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]


def at_most_of(n: int) -> float:
    """How often something may happen that did in none of `n` trials: the upper end of Wilson's 95% interval."""
    return Z95**2 / (n + Z95**2)


def means_over_runs(runs: Sequence[Sequence[dict]]) -> dict[str, list[float]]:
    """Dataset -> score of each record, 0 to 100, mean over runs on the same records.

    Args:
        runs: samples of each run, with `dataset` and `score` (0 to 1), records in the same order.
    """
    groups: dict[str, list[float]] = {}
    for samples in zip(*runs, strict=True):
        groups.setdefault(samples[0]["dataset"], []).append(100 * sum(s["score"] for s in samples) / len(samples))
    return groups


def mean_over_runs(runs: Sequence[Sequence[dict]]) -> tuple[float, list[float]]:
    """Mean over datasets and its 95% interval of `means_over_runs`."""
    groups = list(means_over_runs(runs).values())
    return sum(sum(group) / len(group) for group in groups) / len(groups), interval(groups)


def standard_error(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard error of the plain mean of the groups' means, or None if a group has one score alone.

    Args:
        groups: one list of scores per dataset.
    """
    if min(map(len, groups)) < 2:
        return None
    variances = [np.var(np.asarray(group, float), ddof=1) / len(group) for group in groups]
    return round(float(np.sqrt(sum(variances)) / len(groups)), 4)


def summarise(samples: Sequence[dict], seed: int = 0) -> dict:
    """Scores (0 to 100) per dataset and category, their plain mean over datasets, and the compression.

    Args:
        samples: what `score_records` gave.
        seed: of the bootstrap.

    Returns:
        `average`, `ci95`, `stderr`, `tasks` {dataset: score, n, ci95, stderr, category, metric, prompt_tokens,
        truncated, where answers are weighed also `scores`, what `further_scores` gives, and `chance`, of choices},
        `categories` {category: score, n, ci95, stderr}, `prompt_tokens` (mean), `tokens_per_layer` (mean of each layer)
        and `compression`, the paper's 1/tau: prompt tokens over the mean over layers of the tokens present.

    Raises:
        ValueError: without samples.
    """
    if not samples:
        raise ValueError("no samples to summarise")
    grouped: dict[str, list[dict]] = {}
    for sample in samples:
        grouped.setdefault(sample["dataset"], []).append(sample)
    scores = {name: [100 * sample["score"] for sample in group] for name, group in grouped.items()}
    tasks = {
        name: _cell([scores[name]], seed) | {
            "category": DATASETS[name].category, "metric": DATASETS[name].metric,
            "prompt_tokens": _mean([sample["prompt_tokens"] for sample in group]),
            "truncated": sum(sample["truncated"] for sample in group),
        } | _further(name, group, seed)
        for name, group in grouped.items()
    }  # fmt: skip
    categories = dict.fromkeys((*CATEGORIES, *(DATASETS[name].category for name in grouped)))
    members = {c: [scores[name] for name in grouped if DATASETS[name].category == c] for c in categories}
    average = _cell(list(scores.values()), seed)
    prompt_tokens = np.mean([sample["prompt_tokens"] for sample in samples])
    layers = np.mean([sample["tokens_per_layer"] for sample in samples], axis=0)
    return {
        "average": average["score"], "ci95": average["ci95"], "stderr": average["stderr"], "tasks": tasks,
        "categories": {name: _cell(groups, seed) for name, groups in members.items() if groups},
        "prompt_tokens": round(float(prompt_tokens), 4),
        "tokens_per_layer": [round(float(tokens), 4) for tokens in layers],
        "compression": round(float(prompt_tokens / layers.mean()), 4),
    }  # fmt: skip


def further_scores(samples: Sequence[dict], seed: int = 0) -> dict[str, dict]:
    """What the samples of one dataset say besides their score: name -> mean, n, ci95; empty if they say nothing more.

    Returns:
        `nll` (nats per token of the right answer; lower is better), of prose `perplexity`, its exponential,
        `right_of_N` (0 to 100, how often the right one of N choices is the likeliest, with `chance` beside it), `found`
        (0 to 100, how often an answer stands in the prediction), and the score, 0 to 100, of each `group` of records
        under its name.
    """
    found: dict[str, dict] = {}
    if samples and all("nll" in sample for sample in samples):
        found["nll"] = _mean_cell([sample["nll"] for sample in samples], seed)
        if DATASETS[samples[0]["dataset"]].metric == FORESEEN:
            exponential = {name: np.exp(found["nll"][name]).round(4).tolist() for name in ("mean", "ci95")}
            found["perplexity"] = found["nll"] | exponential
    if chosen := [sample for sample in samples if "choice" in sample]:
        chance = np.mean([sample["chance"] for sample in chosen])
        cell = _mean_cell([100 * sample["choice"] for sample in chosen], seed)
        found[f"right_of_{1 / chance:.3g}"] = cell | {"chance": round(100 * float(chance), 4)}
    if samples and all("found" in sample for sample in samples):
        found["found"] = _mean_cell([100 * sample["found"] for sample in samples], seed)
    for group in sorted({sample["group"] for sample in samples if "group" in sample}):
        found[group] = _mean_cell([100 * sample["score"] for sample in samples if sample.get("group") == group], seed)
    return found


def mean_nll(summary: Mapping) -> dict[str, float]:
    """`nll` of a summary: nats per token of the right answer, mean over the datasets; empty if they do not weigh it."""
    found = [task["scores"]["nll"]["mean"] for task in summary["tasks"].values() if "nll" in task.get("scores", {})]
    return {"nll": _mean(found)} if found else {}


def table1(results: Mapping[str, dict]) -> pd.DataFrame:
    """The paper's Table 1 columns, one row per method: five categories, AVG, 1/tau, then the 95% intervals.

    Categories of other tasks stand behind the five.

    Args:
        results: method -> what `summarise` gave; a category that was not run is NaN.
    """
    rows = []
    names = dict.fromkeys((*CATEGORIES, *(name for result in results.values() for name in result["categories"])))
    for method, result in results.items():
        cells = {name: result["categories"].get(name, {}) for name in names}
        cells["AVG"] = {"score": result["average"], "ci95": result["ci95"]}
        row = {"method": method} | {name: cell.get("score", float("nan")) for name, cell in cells.items()}
        row["1/tau"] = result["compression"]
        rows.append(row | {f"{name} ci95": cell.get("ci95") for name, cell in cells.items()})
    return pd.DataFrame(rows)


def score_columns(table: pd.DataFrame) -> list[str]:
    """The columns of `table1` that hold scores: categories, then AVG."""
    return [name for name in table if name not in ("method", "1/tau") and not name.endswith(" ci95")]


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def _further(name: str, samples: Sequence[dict], seed: int) -> dict:
    """`chance` of a score that is a choice among letters, and `scores`, where there are more than one."""
    further = {"scores": found} if (found := further_scores(samples, seed)) else {}
    if DATASETS[name].metric != LETTERS:
        return further
    return {"chance": _mean([100 * sample["chance"] for sample in samples])} | further


def _mean_cell(values: Sequence[float], seed: int) -> dict:
    return {"mean": _mean(values), "n": len(values), "ci95": interval([values], seed)}


def _cell(groups: list[list[float]], seed: int) -> dict:
    score = np.mean([np.mean(group) for group in groups])
    return {
        "score": round(float(score), 4), "n": sum(map(len, groups)), "ci95": interval(groups, seed),
        "stderr": standard_error(groups),
    }  # fmt: skip
