"""Every token score that is not the paper's pruner, in the pruner's own signature, so that one engine runs them all.

A row of a left-padded batch gets the scores that it gets alone; what a pad scores is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class LastWindowAttentionScorer:
    """Attention that the last tokens of the prompt pay to each token at this layer, as in FastV, LazyLLM and SnapKV.

    Mean over heads and over the window's queries. A sliding window of the layer is not applied: a token out of the
    window's reach here may still be read further up.

    Args:
        window: number of last tokens that ask; None takes the schedule's local tokens.
    """

    window: int | None = 16

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens).

        Raises:
            ValueError: for a layer whose query and key projections are not known.
        """
        mask, tokens = context.mask, hidden_states.shape[1]
        asking = slice(max(0, tokens - max(1, self.window or context.local_tokens)), tokens)
        attention = getattr(context.module, "self_attn", getattr(context.module, "self_attention", None))
        query, key = _queries_and_keys(attention, hidden_states, context)
        groups = query.shape[1] // key.shape[1]
        query = query[:, :, asking].unflatten(1, (key.shape[1], groups))  # query heads beside the key head they share
        weights = (query @ key.transpose(-1, -2)[:, :, None]).flatten(1, 2).float() * _scale(attention)
        if context.alibi is not None:
            weights = weights + context.alibi.unflatten(0, (mask.shape[0], -1))
        if (cap := getattr(attention, "attn_logit_softcapping", None)) is not None:  # Gemma 2
            weights = (weights / cap).tanh() * cap
        column = torch.arange(tokens, device=mask.device)
        visible = (column <= column[asking, None]) & mask[:, None, :]  # (batch, window, tokens)
        weights = weights.masked_fill(~visible[:, None], torch.finfo(weights.dtype).min)
        if (sinks := getattr(attention, "sinks", None)) is not None:  # gpt-oss: one more logit per head to attend to
            sink = sinks.float().to(weights.device)[None, :, None, None].expand(*weights.shape[:3], 1)
            weights = torch.cat([weights, sink], dim=-1)
        real = mask[:, asking]
        paid = weights.softmax(dim=-1)[..., :tokens].mean(dim=1).masked_fill(~real[:, :, None], 0.0)
        return paid.sum(dim=1) / real.sum(dim=1, keepdim=True)


BASELINES: dict[str, Callable[..., Scorer]] = {
    "random": RandomScorer,
    "recency": RecencyScorer,
    "norm": HiddenNormScorer,
    "attention": LastWindowAttentionScorer,
}
METHODS = ("full", "sdtp", *BASELINES)


def make_scorer(method: str, pruner: Scorer | None = None, seed: int = 0) -> Scorer | None:
    """The scorer of a method: None for `full`, `pruner` for `sdtp`, a baseline otherwise.

    Raises:
        ValueError: for an unknown method, or `sdtp` without a pruner.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method == "sdtp" and pruner is None:
        raise ValueError("method 'sdtp' needs a trained pruner")
    if method in ("full", "sdtp"):
        return pruner if method == "sdtp" else None
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


def _scale(attention: nn.Module) -> float:
    """What a layer multiplies its attention logits by."""
    return attention.scaling if hasattr(attention, "scaling") else attention.inv_norm_factor


def _queries_and_keys(attention: nn.Module, hidden_states: Tensor, context: ScoringContext) -> tuple[Tensor, Tensor]:
    """Queries (batch, heads, tokens, head_dim) and keys (batch, key heads, tokens, head_dim) of one layer, rotated."""
    if not any(hasattr(attention, name) for name in ("query_key_value", "qkv_proj", "q_proj")):
        raise ValueError(
            f"attention scores need query and key projections, which {type(context.module).__name__} lacks"
        )
    normed = context.module.input_layernorm(hidden_states)
    if hasattr(attention, "query_key_value"):  # BLOOM: one projection, the parts side by side within each head
        fused = attention.query_key_value(normed)
        query, key, _ = fused.unflatten(-1, (attention.num_heads, 3, attention.head_dim)).unbind(-2)
        return query.transpose(1, 2), key.transpose(1, 2)
    if hasattr(attention, "qkv_proj"):  # Phi-3: one projection, first all queries, then all keys, then all values
        fused = attention.qkv_proj(normed).unflatten(-1, (-1, attention.head_dim))
        heads = attention.config.num_attention_heads
        query, key = fused[:, :, :heads], fused[:, :, heads : heads + attention.config.num_key_value_heads]
    else:
        heads = (-1, attention.head_dim)
        query, key = (proj(normed).unflatten(-1, heads) for proj in (attention.q_proj, attention.k_proj))
    if hasattr(attention, "q_norm"):  # Qwen3 and Gemma 3 normalise each head
        query, key = attention.q_norm(query), attention.k_norm(key)
    rotate = import_module(type(attention).__module__).apply_rotary_pos_emb  # families pair the dimensions differently
    return rotate(query.transpose(1, 2), key.transpose(1, 2), *context.position_embeddings)
