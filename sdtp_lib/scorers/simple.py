"""Scores that know next to nothing, in the pruner's own signature: random, the later the better, the largest state.

A row of a left-padded batch gets the scores that it gets alone; what a pad scores is never looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..pruning.scoring import ScoringContext


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


def token_rank(mask: Tensor) -> Tensor:
    """0, 1, ... along the real tokens of each row of `mask` (batch, tokens); -1 on the pads at its left."""
    return mask.long().cumsum(dim=1) - 1


def _mix(value: Tensor) -> Tensor:
    """One round of an integer hash (multiply and fold the high bits down), element by element; int64 wraps around."""
    value = value - 0x61C8864680B583EB  # the constants of SplitMix64, as signed numbers
    value = (value ^ (value >> 30)) * -0x40A7B892E31B1A47
    value = (value ^ (value >> 27)) * -0x6B2FB644ECCEEE15
    return value ^ (value >> 31)
