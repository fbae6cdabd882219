"""The methods that tables compare: the full model, the pruner, every training-free score, and the oracle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from transformers import PreTrainedModel

from ..models.loading import load_pruner
from ..models.shipped_pruners import DESIGNS
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..scorers.attention import CumulativeAttentionScorer, LastWindowAttentionScorer
from ..scorers.simple import HiddenNormScorer, RandomScorer, RecencyScorer
from .oracle import OracleScorer

BASELINES: dict[str, Callable[..., Scorer]] = {
    "random": RandomScorer,
    "recency": RecencyScorer,
    "norm": HiddenNormScorer,
    "attention": LastWindowAttentionScorer,
    "h2o": CumulativeAttentionScorer,
}
METHODS = ("full", "sdtp", *BASELINES, "oracle")
UNPOOLED = {"full": "scores no tokens", "oracle": "must be shown the answers"}  # why their scores cannot be pooled


Pruners = Scorer | Mapping[str, Scorer] | None


def load_pruners(
    methods: Iterable[str], folder: str | os.PathLike | None, model: PreTrainedModel, schedule: PruningSchedule
) -> dict[str, Scorer]:
    """The pruners of methods by name: of `sdtp` that of `folder`, of a design that which is shipped for the model.

    Args:
        methods: names, as `evaluation.compare` reads them; those that need no pruner are passed over.
        folder, model, schedule: see `models.load_pruner`, and what it raises.
    """
    places = {"sdtp": folder, **{design: design for design in DESIGNS}}
    names = dict.fromkeys(name.partition("-")[0] for name in methods)
    return {name: load_pruner(places[name], model, schedule) for name in names if name in places}


def make_scorer(method: str, pruner: Pruners = None, seed: int = 0) -> Scorer | None:
    """The scorer of a method: None for `full`, `pruner` for `sdtp`, a baseline, or an oracle yet to be shown answers.

    Args:
        pruner: of `sdtp`; or the scorers of several methods by name, which need not be names of METHODS.

    Raises:
        ValueError: for an unknown method, or `sdtp` without a pruner.
    """
    if isinstance(pruner, Mapping):
        if method in pruner:
            return pruner[method]
        pruner = None
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method == "sdtp" and pruner is None:
        raise ValueError("method 'sdtp' needs a trained pruner")
    if method in ("full", "sdtp"):
        return pruner if method == "sdtp" else None
    if method == "oracle":
        return OracleScorer()
    return RandomScorer(seed) if method == "random" else BASELINES[method]()
