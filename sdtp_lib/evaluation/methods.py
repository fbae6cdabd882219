"""The methods that tables compare: the full model, the pruner, every training-free score, and the oracle.

A row's name may say more than which score it is: `-low` at its end takes the `low` preset instead of `paper`, and
`-pool7` before that pools every score over 7 neighbours, as in `attention-pool7`, `-sentences` sentence by sentence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from transformers import PreTrainedModel

from ..models.loading import load_pruner
from ..models.shipped_pruners import DESIGNS
from ..options import METHODS, SENTENCES
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..scorers.attention import CumulativeAttentionScorer, LastWindowAttentionScorer
from ..scorers.pooling import Pool
from ..scorers.simple import HiddenNormScorer, RandomScorer, RecencyScorer
from ..scorers.strongest_head import StrongestHeadScorer
from .oracle import OracleScorer

BASELINES: dict[str, Callable[..., Scorer]] = {
    "random": RandomScorer,
    "recency": RecencyScorer,
    "norm": HiddenNormScorer,
    "attention": LastWindowAttentionScorer,
    "strongest": StrongestHeadScorer,
    "h2o": CumulativeAttentionScorer,
}
UNPOOLED = {"full": "scores no tokens", "oracle": "must be shown the answers"}  # why their scores cannot be pooled

_NAME = re.compile(rf"(?P<method>.+?)(?:-(?:pool(?P<width>\d+)|(?P<sentences>{SENTENCES})))?(?P<low>-low)?")
Pruners = Scorer | Mapping[str, Scorer] | None


class Row(NamedTuple):
    """What a row's name says: the method, the name of its schedule, and how scores are pooled."""

    method: str
    schedule: str
    pool: Pool | None


def read_row(name: str) -> Row:
    """What a row's name says: ("attention", "low", 7) of "attention-pool7-low", ("sdtp", "paper", None) of "sdtp"."""
    found = _NAME.fullmatch(name)
    pool = int(found["width"]) if found["width"] else found["sentences"]
    return Row(found["method"], "low" if found["low"] else "paper", pool)


def load_pruners(
    methods: Iterable[str], folder: str | os.PathLike | None, model: PreTrainedModel, schedule: PruningSchedule
) -> dict[str, Scorer]:
    """The pruners of methods by name: of `sdtp` that of `folder`, of a design that which is shipped for the model.

    Args:
        methods: names, as `read_row` reads them; those that need no pruner are passed over.
        folder, model, schedule: see `models.load_pruner`, and what it raises.
    """
    places = {"sdtp": folder, **{design: design for design in DESIGNS}}
    names = dict.fromkeys(read_row(name).method for name in methods)
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
