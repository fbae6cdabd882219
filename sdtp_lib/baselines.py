"""Every token score that is not the paper's pruner, in the pruner's own signature, so that one engine runs them all.

A row of a left-padded batch gets the scores that it gets alone; what a pad scores is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .attention_scores import CumulativeAttentionScorer, LastWindowAttentionScorer
from .scorers import Scorer, ScoringContext


@dataclass(frozen=True)
class RandomScorer:
    """Uniform noise in [0, 1), fixed by seed, layer, number of tokens present and a token's rank among them.

    Noise is hashed instead of drawn: the same on every device and in every batch, yet prompts of different lengths
    lose different tokens.

    Args:
        seed: used unless the context carries a generator, which then gives the seed of each call.
    """

    seed: int = 0

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens)."""
        generator, seed = context.generator, self.seed
        if generator is not None:
            seed = torch.randint(2**31, (), generator=generator, device=generator.device).to(context.mask.device)
        rank = token_rank(context.mask)
        present = context.mask.sum(dim=1, keepdim=True)
        noise = torch.zeros_like(rank)
        for part in (seed, layer, present, rank):
            noise = _mix(noise + part)
        return (noise >> 16).bitwise_and(2**24 - 1).float() / 2**24


@dataclass(frozen=True)
class RecencyScorer:
    """The later a token, the higher: keeps the sinks and the end of the prompt, like a sliding window."""

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens)."""
        return token_rank(context.mask).float()


@dataclass(frozen=True)
class HiddenNormScorer:
    """L2 norm of a token's hidden state."""

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens)."""
        return hidden_states.float().norm(dim=-1)


BASELINES: dict[str, Callable[..., Scorer]] = {
    "random": RandomScorer,
    "recency": RecencyScorer,
    "norm": HiddenNormScorer,
    "attention": LastWindowAttentionScorer,
    "h2o": CumulativeAttentionScorer,
}
METHODS = ("full", "sdtp", *BASELINES, "oracle")


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
        from .oracle import OracleScorer  # it stands on stage 1, far above this module

        return OracleScorer()
    return RandomScorer(seed) if method == "random" else BASELINES[method]()


def token_rank(mask: Tensor) -> Tensor:
    """0, 1, ... along the real tokens of each row of `mask` (batch, tokens); -1 on the pads at its left."""
    return mask.long().cumsum(dim=1) - 1


def _mix(value: Tensor) -> Tensor:
    """One round of an integer hash (multiply and fold the high bits down), element by element; int64 wraps around."""
    value = value - 0x61C8864680B583EB  # the constants of SplitMix64, as signed numbers
    value = (value ^ (value >> 30)) * -0x40A7B892E31B1A47
    value = (value ^ (value >> 27)) * -0x6B2FB644ECCEEE15
    return value ^ (value >> 31)
