"""The methods that tables compare: the full model, the pruner, every training-free score, and the oracle.

A row's name may say more than which score it is: `-low` at its end takes the `low` preset instead of `paper`, and
`-pool7` before that pools every score over 7 neighbours, as in `attention-pool7`, `-sentences` sentence by sentence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..models.loading import load_pruner
from ..models.named_schedules import check_schedule_name, resolve_schedule
from ..models.shipped_pruners import DESIGNS, check_given
from ..options import ASKED, METHODS, SENTENCES
from ..pruning.context import TokenPruning
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..scorers.attention import CumulativeAttentionScorer, LastWindowAttentionScorer
from ..scorers.bm25 import BM25Scorer
from ..scorers.pooling import Pool, check_pool, pooled
from ..scorers.sentences import sentence_ends
from ..scorers.simple import HiddenNormScorer, RandomScorer, RecencyScorer
from ..scorers.strongest_head import StrongestHeadScorer
from ..scorers.token_pruner import positive
from .oracle import OracleScorer

BASELINES: dict[str, Callable[..., Scorer]] = {
    "random": RandomScorer,
    "recency": RecencyScorer,
    "norm": HiddenNormScorer,
    "attention": LastWindowAttentionScorer,
    "strongest": StrongestHeadScorer,
    "h2o": CumulativeAttentionScorer,
    "bm25": BM25Scorer.of,
}
UNPOOLED = {  # why their scores cannot be pooled
    "full": "scores no tokens", "oracle": "must be shown the answers", "bm25": "scores whole sentences",
}  # fmt: skip

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


def make_scorer(
    method: str,
    pruner: Pruners = None,
    seed: int = 0,
    window: int | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Scorer | None:
    """The scorer of a method: None for `full`, `pruner` for `sdtp`, a baseline, or an oracle yet to be shown answers.

    Args:
        pruner: of `sdtp`; or the scorers of several methods by name, which need not be names of METHODS.
        window: number of last tokens that ask, of one of ASKED; by default its own.
        tokenizer: tells `bm25` the words; other methods need none.

    Raises:
        ValueError: for an unknown method, `sdtp` without a pruner, `bm25` without a tokenizer, or a `window` below 1 or
            of a method that no tokens ask.
    """
    check_window(method, window)
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
    options = {} if window is None else {"window": window}
    if method == "random":
        options["seed"] = seed
    if method == "bm25":
        if tokenizer is None:
            raise ValueError("method 'bm25' needs the model's tokenizer, which tells the words")
        options["tokenizer"] = tokenizer
    return BASELINES[method](**options)


def check_window(method: str, window: int | None) -> None:
    """Raise ValueError unless a method takes the number of last tokens that ask."""
    if window is None:
        return
    if method not in ASKED:
        raise ValueError(f"method {method!r} asks with no window of last tokens; those that do: {', '.join(ASKED)}")
    positive("window", window)


def check_names(
    method: str, schedule: str | PruningSchedule | None, pruner: str | os.PathLike | None, pool: Pool | None = None,
    window: int | None = None,
) -> None:  # fmt: skip
    """Refuse what can be refused before a model is loaded.

    Raises:
        ValueError: for an unknown method or schedule, or a `pool` or `window` that is none or that the method cannot
            take.
        FileNotFoundError: if the pruner's folder does not exist.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    check_schedule_name(schedule)
    _check_pool(method, pool)
    check_window(method, window)
    check_given(pruner)


def _check_pool(method: str, pool: Pool | None) -> None:
    if pool is not None:
        check_pool("pool", pool)
    if pool not in (None, 1) and method in UNPOOLED:
        raise ValueError(f"method {method!r} {UNPOOLED[method]}; it takes no pool, got {pool}")


def make_pruning(
    model: PreTrainedModel,
    method: str,
    schedule: str | PruningSchedule,
    pruner: Pruners = None,
    seed: int = 0,
    positions: str = "original",
    pool: Pool | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    window: int | None = None,
) -> TokenPruning | None:
    """How `method` prunes the model's prompts; None for `full`.

    Args:
        pruner: see `make_scorer`.
        pool: how scores are pooled, see `scorers.pooling`; None leaves a pruner pooled as its folder says, and any
            other scorer alone.
        tokenizer: tells where sentences end, for a `pool` of sentences, and the words of `bm25`.
        window: see `make_scorer`.

    Raises:
        ValueError: for an unknown method or schedule, `sdtp` without a pruner, or a `pool` that is none.
    """
    scorer = make_scorer(method, pruner, seed, window, tokenizer)
    _check_pool(method, pool)
    if method == "full":
        return None
    if pool is not None:
        scorer = pooled(scorer, pool, sentence_ends(tokenizer) if pool == SENTENCES and tokenizer else ())
    return TokenPruning(resolve_schedule(schedule, model), scorer, positions=positions)
