"""The methods that tables compare: the full model, the pruner, every training-free score, and the oracle."""

from __future__ import annotations

from collections.abc import Callable

from ..pruning.scoring import Scorer
from ..scorers.attention import CumulativeAttentionScorer, LastWindowAttentionScorer
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
METHODS = ("full", "sdtp", *BASELINES, "oracle")
UNPOOLED = {"full": "scores no tokens", "oracle": "must be shown the answers"}  # why their scores cannot be pooled


def make_scorer(method: str, pruner: Scorer | None = None, seed: int = 0) -> Scorer | None:
    """The scorer of a method: None for `full`, `pruner` for `sdtp`, a baseline, or an oracle yet to be shown answers.

    Raises:
        ValueError: for an unknown method, or `sdtp` without a pruner.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method == "sdtp" and pruner is None:
        raise ValueError("method 'sdtp' needs a trained pruner")
    if method in ("full", "sdtp"):
        return pruner if method == "sdtp" else None
    if method == "oracle":
        return OracleScorer()
    return RandomScorer(seed) if method == "random" else BASELINES[method]()
