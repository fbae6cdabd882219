"""Analytic FLOPs and bytes of a decoder, full or pruned: Table 2's FLOP columns, KV cache, what a decode step reads.

Counted are the matrix products, a multiply-add as 2: projections (grouped-query aware), attention, MLPs (gated or not;
of experts those that a token is routed to, and the router), the pruner's MLPs and the language-model head. Embedding
look-ups, biases, norms, softmax, attention sinks and rotary embeddings are left out. Batch 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import PretrainedConfig

from ..models.shapes import shape_config
from ..pruning.families import FAMILIES
from ..pruning.schedule import PruningSchedule


@dataclass(frozen=True)
class Layout:
    """Under which names a family's config keeps the sizes of its layers.

    Attributes:
        kv_heads: heads of keys and values; None: as many as of queries.
        width: of the MLP; None: 4 hidden.
        matrices: of the MLP, 3 with a gate and 2 without.
        experts: how many experts there are; None: dense.
        expert_width: of one expert's MLP.
    """

    kv_heads: str | None = "num_key_value_heads"
    width: str | None = "intermediate_size"
    matrices: int = 3
    experts: str | None = None
    expert_width: str = "intermediate_size"


GATED, EXPERTS = Layout(), Layout(experts="num_local_experts")
LAYOUTS = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3"), GATED),
    **dict.fromkeys(("mixtral", "gpt_oss"), EXPERTS),
    "qwen3_moe": Layout(experts="num_experts", expert_width="moe_intermediate_size"),
    "bloom": Layout(kv_heads=None, width=None, matrices=2),
}


def layer_flops(
    config: PretrainedConfig, lengths: Sequence[int], causal: bool = True, scored: Sequence[int] = ()
) -> list[dict[str, int]]:
    """FLOPs of one prompt's prefill in each layer: {"projections", "attention", "mlp", "pruner"}.

    Args:
        config: of a model of a family in `LAYOUTS`.
        lengths: tokens present at each layer, as `PruningSchedule.lengths` gives them.
        causal: count only the query-key pairs that a causal kernel computes, n (n + 1) / 2, or all n^2 of a dense one.
            A sliding window bounds the causal pairs by index: exact where every token is held, else an upper bound.
        scored: layers at whose input the pruner scores the tokens of the layer below.

    Raises:
        ValueError: for another model family, or `lengths` or `scored` that do not fit the model.
    """
    windows = _check(config, lengths)
    if any(below < above for below, above in pairwise(lengths)):
        raise ValueError(f"lengths must never grow with depth, got {list(lengths)}")
    if not set(scored) <= set(range(1, len(lengths))):
        raise ValueError(f"scored layers must lie in 1 to {len(lengths) - 1}, got {list(scored)}")
    return [
        {
            "projections": 2 * _projection_weights(config) * tokens,
            "attention": _per_pair(config) * (_pairs(tokens, window) if causal else tokens * tokens),
            "mlp": 2 * _mlp_weights(config, layer) * tokens,
            "pruner": _pruner_per_token(config) * lengths[layer - 1] if layer in scored else 0,
        }
        for layer, (tokens, window) in enumerate(zip(lengths, windows, strict=True))
    ]


def prefill_flops(
    config: PretrainedConfig, lengths: Sequence[int], causal: bool = True, scored: Sequence[int] = ()
) -> int:
    """FLOPs of one prompt's prefill: all of `layer_flops`, and the head for one token.

    Raises:
        ValueError: as `layer_flops`.
    """
    layers = layer_flops(config, lengths, causal, scored)
    return sum(sum(layer.values()) for layer in layers) + 2 * _head_weights(config)


def decode_flops(config: PretrainedConfig, kv_lengths: Sequence[int], new_tokens: int) -> int:
    """FLOPs of decoding `new_tokens` tokens after a prefill that left `kv_lengths` keys per layer.

    The first comes from the prefill's logits, so `new_tokens - 1` steps run; each attends its own key as well.

    Raises:
        ValueError: for another model family, `kv_lengths` that do not fit the model, or `new_tokens` below 1.
    """
    attended = _attended(config, kv_lengths, new_tokens)
    return 2 * _step_weights(config) * (new_tokens - 1) + _per_pair(config) * attended


def schedule_flops(
    config: PretrainedConfig, schedule: PruningSchedule, tokens: int, new_tokens: int = 1, causal: bool = True,
    scoring: Callable[[int], int] | None = None,
) -> int:  # fmt: skip
    """FLOPs of a prompt of `tokens` tokens and of `new_tokens` generated ones (1: the prefill alone).

    A stage that can cut nothing scores nothing.

    Args:
        scoring: number of tokens -> FLOPs of scoring them at one stage; by default those of the paper's MLP.

    Raises:
        ValueError: as `layer_flops` and `decode_flops`, or for a stage beyond the model.
    """
    lengths = schedule.lengths(tokens, config.num_hidden_layers)
    scored = [layer for layer in schedule.layers if lengths[layer] < lengths[layer - 1]]
    total = prefill_flops(config, lengths, causal, scored=scored) + decode_flops(config, lengths, new_tokens)
    offered = [lengths[layer - 1] for layer in scored] if scoring else []
    return total + sum(scoring(tokens) - _pruner_per_token(config) * tokens for tokens in offered)


def kv_bytes(config: PretrainedConfig, lengths: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of keys and values in a `DynamicCache` of the model after `lengths` tokens per layer.

    A sliding layer keeps the last window - 1 of them.

    Raises:
        ValueError: as `decode_flops`.
    """
    windows = _check(config, lengths)
    held = sum(min(n, window - 1) if window else n for n, window in zip(lengths, windows, strict=True))
    return _kv_width(config) * dtype.itemsize * held


def decode_bytes(
    config: PretrainedConfig, kv_lengths: Sequence[int], new_tokens: int, dtype: torch.dtype
) -> tuple[int, int]:
    """Bytes that the `new_tokens - 1` decode steps read, all steps together: (weights, keys and values).

    A step reads every matrix once, of experts those that its token is routed to, and every key and value attended, its
    own included. Biases, norms, the token's row of the embedding and activations are left out.

    Raises:
        ValueError: as `decode_flops`.
    """
    attended = _attended(config, kv_lengths, new_tokens)
    weights = _step_weights(config) * (new_tokens - 1)
    return weights * dtype.itemsize, _kv_width(config) * attended * dtype.itemsize


def paper_flops(tokens: int, new_tokens: int = 0, lengths: Sequence[int] | None = None) -> float:
    """FLOPs of Mistral-7B as the paper's Table 2 counts them, fitted to its full column (paper: no formula).

    Keys and values as if every query head had its own, 3 hidden FLOPs a pair and layer (a dense kernel: 4, a causal
    one: 2), the embedding counted like the head and both for every token of the prompt, `new_tokens` steps that attend
    the prompt alone. 18% (4K) to 40% (128K) above our causal count: compare ratios, not these.

    Args:
        tokens: of the prompt.
        lengths: tokens present at each layer; all by default. See `latency.flop_estimates.paper_lengths`.
    """
    config = shape_config()
    layers, hidden = config.num_hidden_layers, config.hidden_size
    lengths = [tokens] * layers if lengths is None else lengths
    layer, ends = 4 * hidden**2 + 3 * hidden * config.intermediate_size, 2 * hidden * config.vocab_size
    linear = layer * (sum(lengths) + layers * new_tokens) + ends * (tokens + new_tokens)
    pairs = sum(n * (n + new_tokens) for n in lengths)
    return float(2 * linear + 3 * hidden * pairs)


def _check(config: PretrainedConfig, lengths: Sequence[int]) -> list[int | None]:
    """Refuse what cannot be counted; returns the sliding window of each layer, None for all."""
    if config.model_type not in LAYOUTS:
        raise ValueError(f"cannot count model family {config.model_type!r}; known: {', '.join(LAYOUTS)}")
    layers = config.num_hidden_layers
    if len(lengths) != layers:
        raise ValueError(f"{len(lengths)} lengths for a model of {layers} layers")
    if min(lengths) < 1:
        raise ValueError(f"lengths must be 1 or more, got {list(lengths)}")
    window = getattr(config, "sliding_window", None) if FAMILIES[config.model_type].slides else None
    types = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * layers
    return [window if kind == "sliding_attention" else None for kind in types]


def _attended(config: PretrainedConfig, kv_lengths: Sequence[int], new_tokens: int) -> int:
    """Keys attended, summed over the decode steps and the layers."""
    windows, steps = _check(config, kv_lengths), new_tokens - 1
    if steps < 0:
        raise ValueError(f"new_tokens must be 1 or more, got {new_tokens}")
    return sum(_pairs(n + steps, window) - _pairs(n, window) for n, window in zip(kv_lengths, windows, strict=True))


def _pairs(tokens: int, window: int | None) -> int:
    """Query-key pairs of causal attention over `tokens` tokens."""
    full = min(tokens, window or tokens)
    return full * (full + 1) // 2 + (tokens - full) * full


def _head_dim(config: PretrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _kv_width(config: PretrainedConfig) -> int:
    """Numbers in a token's keys and values of one layer."""
    name = LAYOUTS[config.model_type].kv_heads
    return 2 * (getattr(config, name) if name else config.num_attention_heads) * _head_dim(config)


def _projection_weights(config: PretrainedConfig) -> int:
    """Weights of one layer's query, key, value and output projections."""
    return config.hidden_size * (2 * config.num_attention_heads * _head_dim(config) + _kv_width(config))


def _mlp_weights(config: PretrainedConfig, layer: int) -> int:
    """Weights that one token meets in a layer's MLP, or in its router and the experts it is routed to."""
    layout, hidden = LAYOUTS[config.model_type], config.hidden_size
    experts = getattr(config, layout.experts) if layout.experts else 0
    dense = layer in (getattr(config, "mlp_only_layers", None) or ())
    if experts and not dense and (layer + 1) % getattr(config, "decoder_sparse_step", 1) == 0:
        width = getattr(config, layout.expert_width) * config.num_experts_per_tok
        return hidden * (layout.matrices * width + experts)
    return hidden * layout.matrices * (getattr(config, layout.width) if layout.width else 4 * hidden)


def _per_pair(config: PretrainedConfig) -> int:
    """FLOPs of score and weighted value of one query and key, all heads of one layer."""
    return 4 * config.num_attention_heads * _head_dim(config)


def _head_weights(config: PretrainedConfig) -> int:
    return config.hidden_size * config.vocab_size


def _step_weights(config: PretrainedConfig) -> int:
    """Weights that one token meets on its way through the whole model."""
    mlps = sum(_mlp_weights(config, layer) for layer in range(config.num_hidden_layers))
    return _projection_weights(config) * config.num_hidden_layers + mlps + _head_weights(config)


def _pruner_per_token(config: PretrainedConfig) -> int:
    """One stage's MLP (Eq. 1): hidden -> hidden / 4 -> 1."""
    return 2 * max(1, config.hidden_size // 4) * (config.hidden_size + 1)
