"""How much of dense attention's work the backend really does in a causal prefill: found out by timing it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ...latency.flops import schedule_flops
from ...markdown import Markdown
from ...pruning.families import ModelAdapter
from ...pruning.schedule import UNPRUNED, PruningSchedule
from ...results import markdown_table


@torch.no_grad()
def attention_work(
    model: PreTrainedModel, schedule: PruningSchedule, lengths: Sequence[int], repeats: int = 3, seed: int = 0
) -> dict[int, dict[str, float]]:
    """Seconds of one layer's sdpa attention over random states, causal and dense in turns, and estimates from them.

    A kernel that skips every pair above the diagonal takes half of the dense time, one that computes all and hides half
    takes all of it; kernels that skip whole blocks lie between, nearer to a half the longer the prompt.

    Args:
        model: gives heads, dtype and device.
        schedule: whose prefill is estimated.
        lengths: of the prompts, in tokens; batch 1.
        repeats: timed calls of each kind, after one that is not.

    Returns:
        length -> causal, dense: median seconds; executed: causal / dense; and prefill_causal, prefill_dense,
        prefill_executed: full / pruned FLOPs with half, all, and `executed` of the pairs counted.

    Raises:
        ValueError: if the model runs another attention function than sdpa, or its family is not supported.
    """
    adapter = ModelAdapter.of(model)
    if adapter.implementation != "sdpa":
        raise ValueError(f"attention_work times sdpa attention, this model runs {adapter.implementation!r}")
    found = {}
    for tokens in lengths:
        states, seconds = _states(model, adapter, tokens, seed), {True: [], False: []}
        for turn in range(repeats + 1):
            for causal in (True, False):
                start = _now(model.device)
                sdpa_attention_forward(adapter.layers[0].self_attn, *states, None, is_causal=causal)
                if turn:
                    seconds[causal].append(_now(model.device) - start)
        causal, dense = (median(seconds[kind]) for kind in (True, False))
        found[tokens] = {"causal": causal, "dense": dense, "executed": causal / dense}
        for name, share in (("causal", 0.5), ("dense", 1.0), ("executed", causal / dense)):
            found[tokens][f"prefill_{name}"] = _limit(model.config, schedule, tokens, share)
    return found


def work_table(found: dict[int, dict[str, float]]) -> Markdown:
    """What `attention_work` gave, as a table."""
    return Markdown(markdown_table([
        {
            "tokens": tokens, "causal, ms": 1000 * row["causal"], "dense, ms": 1000 * row["dense"],
            "pairs computed, %": 100 * row["executed"], "estimate, causal": row["prefill_causal"],
            "estimate, as executed": row["prefill_executed"], "estimate, dense": row["prefill_dense"],
        }
        for tokens, row in found.items()
    ], {"pairs computed, %": 0}))  # fmt: skip


def _limit(config, schedule: PruningSchedule, tokens: int, share: float) -> float:
    """Full / pruned FLOPs of a prefill with `share` (0.5 causal to 1 dense) of all query-key pairs counted."""
    full, pruned = (
        [schedule_flops(config, each, tokens, causal=causal) for causal in (True, False)]
        for each in (UNPRUNED, schedule)
    )
    return _between(*full, share) / _between(*pruned, share)


def _between(causal: int, dense: int, share: float) -> float:
    return causal + (2 * share - 1) * (dense - causal)


def _states(model: PreTrainedModel, adapter: ModelAdapter, tokens: int, seed: int) -> list[torch.Tensor]:
    """Random queries (1, heads, tokens, head_dim), keys and values (1, KV heads, tokens, head_dim)."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
    return [
        torch.randn(1, each, tokens, width, generator=generator).to(device=model.device, dtype=model.dtype)
        for each in heads
    ]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
