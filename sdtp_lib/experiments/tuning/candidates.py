"""What is searched: every score, pooled or not, under every schedule that reaches a FLOP ratio on this model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from transformers import PreTrainedModel

from ...data.samples import Sample
from ...pruning.context import TokenPruning
from ...pruning.schedule import PruningSchedule
from ...pruning.scoring import Scorer
from ...scorers.pooling import Pool, pooled, pooling
from ..schedule_search import LOCAL, within_budget
from .effort import POOLS, Effort
from .loss_file import LossFile

Ways = Mapping[tuple[str, Pool], Scorer]  # (score, pooling) -> the scorer
BEND = 1.0  # every cut by the same ratio, as in the paper


@dataclass(frozen=True)
class Candidate:
    """One way to prune.

    Attributes:
        score: name of the scorer.
        pool: how its scores are pooled, see `scorers.pooling`.
        place: what the schedule is called: where it begins, how many cuts.
        ratio: FLOPs full / pruned that the schedule was made for.
        losses: nats per token of each answer of the search part; of a candidate that fell out, of the first ones.
    """

    score: str
    pool: Pool
    place: str
    ratio: float
    schedule: PruningSchedule
    losses: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """All that matters about it, for `LossFile`."""
        return f"{self.ratio:g}x, {self.place}: {self.score}{pooling(self.pool)}"

    @property
    def loss(self) -> float:
        """Mean of the losses."""
        return sum(self.losses) / len(self.losses)

    def pruning(self, ways: Ways) -> TokenPruning:
        """How it prunes a model."""
        return TokenPruning(self.schedule, ways[self.score, self.pool])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as recorded with the pruner."""
        found = {"score": self.score, "pool": self.pool, "schedule": self.place, "prompts": len(self.losses)}
        return {**found, "nll": round(self.loss, 4)}


def schedules_for(
    model: PreTrainedModel, ratio: float, tokens: int, effort: Effort
) -> dict[str, PruningSchedule]:  # fmt: skip
    """Name -> the schedule that keeps most tokens at this FLOP ratio, counted on the model's own shape.

    Args:
        tokens: of the prompts.

    Raises:
        ValueError: if none reaches the ratio.
    """
    layers, found = model.config.num_hidden_layers, {}
    firsts = sorted({max(1, round(depth * layers)) for depth in effort.depths})
    for first, stages in product(firsts, effort.stages):
        if stages <= layers - first:
            schedule = within_budget(ratio, first, stages, BEND, layers, model.config, tokens, LOCAL)
            if schedule is not None:
                found[named(stages, first)] = schedule
    if not found:
        raise ValueError(
            f"no schedule searched reaches a FLOP ratio of {ratio:g} on this model at prompts of {tokens} tokens, some "
            "of which always stay; ask for less"
        )
    return found


def named(stages: int, first: int) -> str:
    """What a schedule is called among the candidates."""
    return f"{stages} from layer {first}"


def ways_of(scorers: Mapping[str, Scorer], ends: Sequence[int]) -> Ways:
    """Every score pooled in each way of POOLS.

    Args:
        ends: ids of the tokens that end a sentence.
    """
    return {(name, pool): pooled(scorer, pool, ends) for (name, scorer), pool in product(scorers.items(), POOLS)}


def layers_of(schedules: Mapping[float, Mapping[str, PruningSchedule]]) -> set[int]:
    """Every layer that some schedule cuts at."""
    return {layer for named in schedules.values() for schedule in named.values() for layer in schedule.layers}


def search(
    model: PreTrainedModel, samples: Sequence[Sample], ways: Ways, ratio: float,
    schedules: Mapping[str, PruningSchedule], effort: Effort, losses: LossFile,
) -> list[Candidate]:  # fmt: skip
    """Every candidate at one FLOP ratio, the best first; those with the losses of all `samples` before the others.

    All are tried on the first samples. The best schedule of each score and pooling goes on, so that scores are compared
    at their best, and of the others the best, up to `effort.finalists`.
    """
    every = [
        Candidate(score, pool, place, ratio, schedule)
        for (score, pool), (place, schedule) in product(ways, schedules.items())
    ]
    looked = with_losses(model, every, samples[: effort.first_look], ways, losses, f"first look, {ratio:g}x")
    best = list({(each.score, each.pool): each for each in reversed(looked)}.values())
    others = [each for each in looked if each not in best]
    going = best + others[: max(0, effort.finalists - len(best))]
    finalists = with_losses(model, going, samples, ways, losses, f"finalists, {ratio:g}x")
    return finalists + [each for each in looked if each not in going]


def best_score(found: Mapping[float, Sequence[Candidate]]) -> dict[float, Candidate]:
    """The score and pooling with the lowest loss, mean over the FLOP ratios, each at its best schedule: ratio -> it.

    Args:
        found: ratio -> what `search` gave.
    """
    best = {ratio: best_of_each(rows) for ratio, rows in found.items()}
    chosen = min(next(iter(best.values())), key=lambda way: sum(each[way].loss for each in best.values()))
    return {ratio: each[chosen] for ratio, each in best.items()}


def best_of_each(rows: Sequence[Candidate]) -> dict[tuple[str, Pool], Candidate]:
    """(score, pool) -> its best candidate, of those that `search` tried on all samples."""
    most = max(len(each.losses) for each in rows)
    full = sorted((each for each in rows if len(each.losses) == most), key=lambda each: -each.loss)
    return {(each.score, each.pool): each for each in full}


def with_losses(
    model: PreTrainedModel, candidates: Sequence[Candidate], samples: Sequence[Sample], ways: Ways, losses: LossFile,
    what: str,
) -> list[Candidate]:  # fmt: skip
    """The candidates with the losses of these samples, the best first."""
    prunings = {each.name: each.pruning(ways) for each in candidates}
    found = losses.take(model, prunings, samples, what)
    measured = [replace(each, losses=tuple(found[each.name])) for each in candidates]
    return sorted(measured, key=lambda each: each.loss)
