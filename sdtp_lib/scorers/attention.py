"""Scores from attention: what the last queries, or all of them, pay to each token at a layer, recomputed there.

A sliding window of the layer is not applied: a token out of the window's reach here may still be read further up. A row
of a left-padded batch gets the scores that it gets alone; what a pad scores is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import torch
from torch import Tensor, nn

from ..pruning.scoring import ScoringContext
from .token_pruner import positive

CHUNK = 128  # queries at a time: weights of heads x 128 x tokens, whatever the length of the prompt


@dataclass(frozen=True)
class LastWindowAttentionScorer:
    """Attention that the last tokens of the prompt pay to each token at this layer.

    Mean over heads and over the window's queries. FastV and LazyLLM let the last token ask; SnapKV lets a window ask,
    and each head keep keys of its own, which a token that leaves for all heads cannot do.

    Args:
        window: number of last tokens that ask; None takes the schedule's local tokens.

    Raises:
        ValueError: for a window below 1.
    """

    window: int | None = 16

    def __post_init__(self):
        if self.window is not None:
            positive("window", self.window)

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens).

        Raises:
            ValueError: for a layer whose query and key projections are not known.
        """
        tokens = hidden_states.shape[1]
        asking = slice(max(0, tokens - max(1, context.local_tokens if self.window is None else self.window)), tokens)
        paid = attention(hidden_states, context)(asking).mean(dim=1)
        return paid.sum(dim=1) / context.mask[:, asking].sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class CumulativeAttentionScorer:
    """Attention that all tokens present pay to each token at this layer, summed: the heavy hitters of H2O.

    H2O (arXiv 2306.14048) sums in the same way, without regard to how many queries see a token, but per head, it lets
    each head evict keys of its own from the cache, goes on summing and evicting while it decodes, and spends half of
    its budget on recent tokens. Here a token is dropped for all heads and all layers above, so the mean over heads
    counts; the prompt alone asks, of which tokens cut at an earlier stage are no longer part; and the recent tokens
    that stay are the schedule's local ones.

    Queries ask in chunks, so memory grows with the prompt's length and not with its square; work does with the square.

    Args:
        chunk: queries at a time.

    Raises:
        ValueError: for a chunk below 1.
    """

    chunk: int = CHUNK

    def __post_init__(self):
        positive("chunk", self.chunk)

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens).

        Raises:
            ValueError: for a layer whose query and key projections are not known.
        """
        tokens, paid = hidden_states.shape[1], attention(hidden_states, context)
        starts = range(0, tokens, self.chunk)
        return sum(paid(slice(start, min(start + self.chunk, tokens))).mean(dim=1).sum(dim=1) for start in starts)


def attention(hidden_states: Tensor, context: ScoringContext) -> Callable[[slice], Tensor]:
    """A function of a slice of queries that gives what they pay, (batch, heads, queries, tokens), see `_paid`.

    Raises:
        ValueError: for a layer whose query and key projections are not known, or lie in several processes.
    """
    module = getattr(context.module, "self_attn", getattr(context.module, "self_attention", None))
    return partial(_paid, module, *_queries_and_keys(module, hidden_states, context), context)


def _paid(attention: nn.Module, query: Tensor, key: Tensor, context: ScoringContext, asking: slice) -> Tensor:
    """Attention weights of the queries `asking`; 0 where a pad asks.

    Args:
        query: (batch, heads, tokens, head_dim).
        key: (batch, key heads, tokens, head_dim).

    Returns:
        (batch, heads, queries, tokens) float32.
    """
    mask, tokens = context.mask, key.shape[2]
    groups = query.shape[1] // key.shape[1]
    query = query[:, :, asking].unflatten(1, (key.shape[1], groups))  # query heads beside the key head they share
    # In float32, as fused attention sums: the product of large queries and keys does not fit float16.
    weights = (query.float() @ key.float().transpose(-1, -2)[:, :, None]).flatten(1, 2) * _scale(attention)
    if context.alibi is not None:
        weights = weights + context.alibi.unflatten(0, (mask.shape[0], -1))
    if (cap := getattr(attention, "attn_logit_softcapping", None)) is not None:  # Gemma 2
        weights = (weights / cap).tanh() * cap
    column = torch.arange(tokens, device=mask.device)
    visible = (column <= column[asking, None]) & mask[:, None, :]  # (batch, queries, tokens)
    weights = weights.masked_fill(~visible[:, None], torch.finfo(weights.dtype).min)
    if (sinks := getattr(attention, "sinks", None)) is not None:  # gpt-oss: one more logit per head to attend to
        sink = sinks.float().to(weights.device)[None, :, None, None].expand(*weights.shape[:3], 1)
        weights = torch.cat([weights, sink], dim=-1)
    return weights.softmax(dim=-1)[..., :tokens].masked_fill(~mask[:, None, asking, None], 0.0)


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
        heads, key_heads = attention.config.num_attention_heads, attention.config.num_key_value_heads
        query, key = fused[:, :, :heads], fused[:, :, heads : heads + key_heads]
        whole = fused.shape[2] == heads + 2 * key_heads
    else:
        heads = (-1, attention.head_dim)
        query, key = (proj(normed).unflatten(-1, heads) for proj in (attention.q_proj, attention.k_proj))
        whole = query.shape[2] == attention.config.num_attention_heads
    if not whole:  # each process would keep what its own heads look at
        raise ValueError(
            "attention scores need all heads in one process; they are not supported under tensor parallelism"
        )
    if hasattr(attention, "q_norm"):  # Qwen3 and Gemma 3 normalise each head
        query, key = attention.q_norm(query), attention.k_norm(key)
    rotate = import_module(type(attention).__module__).apply_rotary_pos_emb  # families pair the dimensions differently
    return rotate(query.transpose(1, 2), key.transpose(1, 2), *context.position_embeddings)
