"""How much of the evidence a single cut would keep, by each of many scores, from full passes kept on disk.

The evidence is the needle, or the sentence that the question's answer stands in. Nothing is generated: what a scorer
sees at the first cut is what the full model has there, so one pass judges every score at every layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from ...evaluation.bootstrap import interval
from ...markdown import Markdown
from ...pruning.schedule import PruningSchedule
from ...pruning.scoring import Scorer
from ...pruning.selection import select
from ...results import markdown_table
from ...scorers.simple import HiddenNormScorer, RandomScorer, RecencyScorer
from .full_passes import FullPass
from .readings import READINGS, Reading, attention_of

RATIOS = (0.5, 0.3, 0.15)
PLAIN = {"random": RandomScorer(), "recency": RecencyScorer(), "norm": HiddenNormScorer()}
WIDTHS = ("7", "13", "sentence")
POOLS = ("1", *(f"{how} {width}" for width, how in product(WIDTHS, ("mean", "max"))))
ORACLE = "oracle"
STRONGEST = Reading(32, "max", "max")  # what `scorers.strongest_head` reads
SHIPPED = (str(STRONGEST), "max sentence")  # as the pruner `tuned` takes it
LATER = "later layers, question, max of heads, mean of tokens"  # what later layers will look at, known to no cut
SHOWN = {  # in the figure: label -> (score, pool)
    "oracle": (ORACLE, "mean 7"),
    "attention of later layers": (LATER, "mean 7"),
    "strongest head, whole sentences": SHIPPED,
    "attention, last window": (str(Reading()), "mean 7"),
}


def kept_evidence(
    model: PreTrainedModel,
    passes: Iterable[tuple[str, FullPass]],
    layers: Sequence[int],
    scorers: Mapping[str, Scorer] = PLAIN,
    ratios: Sequence[float] = RATIOS,
    readings: Sequence[Reading] = READINGS,
    pools: Sequence[str] = POOLS,
) -> list[dict[str, Any]]:
    """The share of evidence tokens that one cut keeps, for every score, pooling, layer and ratio.

    Args:
        passes: (task, pass) of each record, all with `layers`.
        scorers: label -> scorer, beside the oracle and the `readings` of attention; a trained pruner must have an MLP
            for each of `layers`.
        pools: of POOLS.

    Returns:
        Rows with `task`, `score`, `pool` (of POOLS), `ratio`, `layers`, `n` records, and for each layer a list entry:
        `share` (mean over records), `ci95` of it, and `whole` (share of records that keep all evidence).
    """
    found: dict[tuple, list[Tensor]] = {}
    for task, each in tqdm(passes, desc="records", unit="record"):
        names, scores = zip(
            *(_scores(model, each, layer, scorers, readings, pools) for layer in layers), strict=True
        )
        for ratio in ratios:
            shares = torch.stack([share_kept(some, each.evidence, ratio) for some in scores], dim=1)  # (scores, layers)
            for (score, pool), share in zip(names[0], shares, strict=True):
                found.setdefault((task, score, pool, ratio), []).append(share)
    return [
        {**dict(zip(("task", "score", "pool", "ratio"), key, strict=True)), "layers": [*layers], "n": len(shares),
         **summary(torch.stack(shares))}
        for key, shares in found.items()
    ]  # fmt: skip


def pooled(scores: Tensor, how: str, sentence: Tensor) -> Tensor:
    """Scores (scores, tokens) as their neighbours make them, `how` of POOLS: alone, or mean or maximum of some, or of
    the sentence that a token begins in (`sentence`, (tokens,))."""
    if how == "1":
        return scores
    kind, width = how.split()
    if width == "sentence":
        index, reduce = sentence.expand_as(scores), {"mean": "mean", "max": "amax"}[kind]
        every = scores.new_zeros(len(scores), int(sentence.max()) + 1)
        return every.scatter_reduce(1, index, scores, reduce, include_self=False).gather(1, index)
    pool = {"mean": partial(F.avg_pool1d, count_include_pad=False), "max": F.max_pool1d}[kind]
    return pool(scores[:, None], int(width), stride=1, padding=int(width) // 2)[:, 0]


def best(rows: Sequence[Mapping], ratio: float, layers: Sequence[int], count: int = 10) -> list[tuple[str, str]]:
    """The `count` best (score, pool), the oracle apart, by the mean share kept over tasks and some layers."""
    shares: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["ratio"] == ratio and row["score"] != ORACLE:
            at = [row["share"][row["layers"].index(layer)] for layer in layers]
            shares.setdefault((row["score"], row["pool"]), []).append(sum(at) / len(at))
    return sorted(shares, key=lambda name: -sum(shares[name]) / len(shares[name]))[:count]


def evidence_table(rows: Sequence[Mapping], task: str, ratio: float, names: Sequence[tuple[str, str]]) -> Markdown:
    """Percent of the evidence kept at each layer, and in brackets the percent of records that keep all of it."""
    chosen = {(row["score"], row["pool"]): row for row in rows if row["task"] == task and row["ratio"] == ratio}
    return Markdown(markdown_table([
        {"score": score, "pooled over": pool} | {
            f"layer {layer}": kept for layer, kept in _kept(chosen[score, pool]).items()
        }
        for score, pool in names
    ]))  # fmt: skip


def layers_table(rows: Sequence[Mapping], task: str, ratio: float) -> Markdown:
    """The same of all scores and poolings in `rows`, a line for each layer."""
    own = [row for row in rows if (row["task"], row["ratio"]) == (task, ratio)]
    columns = {f"{row['score']}; {row['pool']}": _kept(row) for row in own}
    return Markdown(markdown_table([
        {"layer": layer} | {name: kept[layer] for name, kept in columns.items()} for layer in own[0]["layers"]
    ]))  # fmt: skip


def _kept(row: Mapping) -> dict[int, str]:
    """Layer -> what the tables say of it."""
    shares = zip(row["layers"], row["share"], row["whole"], strict=True)
    return {layer: f"{100 * share:.0f} ({100 * whole:.0f})" for layer, share, whole in shares}


def _scores(
    model: PreTrainedModel, each: FullPass, layer: int, scorers: Mapping[str, Scorer], readings: Sequence[Reading],
    pools: Sequence[str],
) -> tuple[list[tuple[str, str]], Tensor]:  # fmt: skip
    """The names (score, pool) and the scores (scores, tokens) of one record at one layer."""
    hidden, context = each.at(model, layer)
    paid, values, question = attention_of(hidden, context, each.question)
    single = {ORACLE: each.saliency[each.layers.index(layer)]}
    single |= {str(reading): reading.scores(paid, values, question) for reading in readings}
    single |= {name: scorer.score(layer, hidden, context)[0].float() for name, scorer in scorers.items()}
    scores = torch.stack([each.cpu() for each in single.values()])
    names = [(name, pool) for pool, name in product(pools, single)]
    return names, torch.cat([pooled(scores, pool, each.sentence) for pool in pools])


def share_kept(scores: Tensor, evidence: Tensor, ratio: float) -> Tensor:
    """(scores,): what one cut, as the engine makes it by each of (scores, tokens), keeps of (tokens,) evidence."""
    schedule, tokens = PruningSchedule((1,), ratio), scores.shape[1]
    kept = select(scores, schedule.keep(tokens), *schedule.forced(tokens))
    return evidence[kept].sum(1) / evidence.sum()


def summary(shares: Tensor) -> dict[str, list]:
    """Of (records, layers) shares, for each layer: the mean, its interval, and how often all is kept."""
    return {
        "share": [round(float(x), 4) for x in shares.mean(0)],
        "ci95": [interval([column.tolist()]) for column in shares.T],
        "whole": [round(float(x), 4) for x in (shares == 1).float().mean(0)],
    }  # fmt: skip
