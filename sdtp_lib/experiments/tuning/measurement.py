"""What was tuned, on prompts that decided nothing: beside the full model, the preset, other scores and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from ...data.samples import Sample
from ...evaluation.bootstrap import interval
from ...evaluation.paired_differences import difference_cell
from ...latency.flop_estimates import flop_ratio
from ...latency.sweep_plan import run_under, take_turns
from ...pruning.context import TokenPruning
from ...pruning.schedule import PruningSchedule
from ...pruning.scoring import Scorer
from ...scorers.pooling import pooling
from ...scorers.simple import RandomScorer
from .candidates import Candidate, Ways, best_of_each
from .loss_file import LossFile

TUNED, PAPER, RANDOM = "tuned", "paper's module and schedule", "random"
WORDS = "BM25, which reads no model"
Sides = dict[tuple[str, str], TokenPruning]  # (FLOP ratio asked for, method) -> how it prunes; of the paper's, ("", it)


def sides_of(
    model: PreTrainedModel, chosen: Mapping[float, Candidate], found: Mapping[float, Sequence[Candidate]], ways: Ways,
    words: Scorer,
) -> Sides:  # fmt: skip
    """What is measured at each ratio: the tuned candidate, every other score and attention both pooled and not, at the
    schedule that the search found best for it, and words alone and random scores at the tuned one; the paper's preset.

    Args:
        chosen: ratio -> the candidate that the folder will hold.
        found: ratio -> what `search` gave.
        ways: those that were searched, of `paper` and `attention` among them.
        words: what is taken at WORDS.
    """
    sides: Sides = {}
    for ratio, tuned in chosen.items():
        at = f"{ratio:g}"
        sides[at, TUNED] = tuned.pruning(ways)
        best = best_of_each(found[ratio])
        better = {score: pool for (score, pool), _ in sorted(best.items(), key=lambda way: -way[1].loss)}
        for (score, pool), each in sorted(best.items(), key=str):
            shown = pool == better[score] or score == "attention"
            if shown and (score, pool) != (tuned.score, tuned.pool):
                sides[at, f"{score}{pooling(pool)}"] = each.pruning(ways)
        sides[at, WORDS] = TokenPruning(tuned.schedule, words)
        sides[at, RANDOM] = TokenPruning(tuned.schedule, RandomScorer(0))
    preset = PruningSchedule.preset("paper", model.config.num_hidden_layers)
    return {**sides, ("", PAPER): TokenPruning(preset, ways["paper", 1])}


def measure(
    model: PreTrainedModel, samples: Sequence[Sample], sides: Sides, tokens: int, repeats: int, losses: LossFile
) -> list[dict[str, Any]]:  # fmt: skip
    """Each side on the held-out samples, the full model first.

    Args:
        tokens: that FLOPs are counted at; the sample of the nearest length is timed.
        repeats: timed prefills of each side, in turns, after a warm-up.

    Returns:
        Rows with `asked` (the FLOP ratio), `method`, `flops` (full / pruned, counted), `prefill` (full / pruned,
        medians of seconds), `nll` (nats per token of the answers, mean over prompts) with `ci95`; but for the full
        model `above_full`, the paired difference, and but for it and the tuned `above_tuned`: `difference`, `ci95`,
        `verdict`; of the paper's, the difference to the first tuned one, which has other FLOPs.
    """
    prunings = {"full": None, **{f"{asked}x {method}": pruning for (asked, method), pruning in sides.items()}}
    found, layers = losses.take(model, prunings, samples, "held out"), model.config.num_hidden_layers
    seconds = prefill_seconds(model, min(samples, key=lambda s: abs(s.prompt_tokens - tokens)), prunings, repeats)
    rows = [{"asked": "", "method": "full", "flops": 1.0, "prefill": 1.0, **_mean(found["full"])}]
    first = next(iter(sides))[0]
    for (asked, method), pruning in sides.items():
        own = found[name := f"{asked}x {method}"]
        row = {"asked": asked, "method": method, "flops": flop_ratio(pruning.schedule, layers, model.config, tokens)}
        row |= {"prefill": seconds["full"] / seconds[name], **_mean(own), "above_full": _above(own, found["full"])}
        if method != TUNED:
            row["above_tuned"] = _above(own, found[f"{asked or first}x {TUNED}"])
        rows.append(row)
    return [{name: round(x, 3) if isinstance(x, float) else x for name, x in row.items()} for row in rows]


def prefill_seconds(
    model: PreTrainedModel, sample: Sample, prunings: Mapping[str, TokenPruning | None], repeats: int
) -> dict[str, float]:  # fmt: skip
    """Name -> seconds of a sample's prefill: medians of runs in turns."""
    ids = torch.as_tensor(sample.without_answer().input_ids, device=model.device)[None]
    timed = {name: partial(run_under, pruning, model, ids) for name, pruning in prunings.items()}
    with tqdm(total=len(timed) * (repeats + 1), desc="prefill", unit="run") as bar:
        runs = take_turns(timed, repeats, 1, bar)
    return {name: median(run.prefill for run in each) for name, each in runs.items()}


def _mean(losses: Sequence[float]) -> dict[str, Any]:
    return {"nll": round(sum(losses) / len(losses), 4), "ci95": interval([losses]), "n": len(losses)}


def _above(losses: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    cell = difference_cell([[own - other for own, other in zip(losses, others, strict=True)]])
    return {name: cell[name] for name in ("difference", "ci95", "verdict")}
