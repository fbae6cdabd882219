"""A plan on paper: what a model on several devices would take, from FLOPs and bytes alone. Computed, never measured."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from ..latency.flops import decode_bytes, kv_bytes, schedule_flops
from ..pruning.schedule import UNPRUNED, PruningSchedule
from ..results import markdown_table
from ..scorers.token_pruner import TokenPruner

LLAMA_70B = dict(  # the shape of Llama 3 70B
    hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8,
    vocab_size=128256, max_position_embeddings=131072,
)  # fmt: skip
LEFT_OUT = (
    "communication between the devices (all-reduces of tensor parallelism, or the wait of a pipeline), activations and "
    "other working memory, kernel launches, softmax, norms and rotary embeddings, the choice of tokens, and whatever "
    "keeps a kernel from the share of the peak assumed here; shorter prompts after a cut may reach a lower share"
)


@dataclass(frozen=True)
class Device:
    """One of the devices, all alike.

    Attributes:
        name: as shown.
        flops: dense FLOPs per second of the dtype, by its data sheet.
        bandwidth: bytes per second from its memory, likewise.
        compute_share, bandwidth_share: how much of the two is assumed to be reached, in (0, 1].
    """

    name: str
    flops: float
    bandwidth: float
    compute_share: float
    bandwidth_share: float


DEVICE, DEVICES = Device("H100 SXM 80 GB", 989e12, 3.35e12, compute_share=0.5, bandwidth_share=0.7), 8
TOKENS, NEW_TOKENS = 131072, 128


def scale_plan(
    schedule: PruningSchedule, config: PretrainedConfig, tokens: int, new_tokens: int, devices: int, device: Device,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """What one prompt would take on `devices` devices that share all work and bytes evenly: full and pruned.

    The prefill is taken to be bound by FLOPs, a decode step by the bytes of weights and cache that it reads; see
    LEFT_OUT for what else there is. Both sides are on the same devices, so their ratio is no speedup by more devices.

    Args:
        schedule: of the pruned side.
        config: of a family in `latency.flops.LAYOUTS`.
        tokens: of the prompt.
        new_tokens: generated, the first by the prefill; 2 or more.

    Returns:
        {"full": row, "pruned": row}: `prefill_tflops`, `decode_gflops_per_token`, `prefill_seconds`,
        `prefill_tokens_per_second` (of the prompt as given), `decode_tokens_per_second`, `total_seconds`,
        `weights_gb`, `kv_gb` and `gb_per_device` (1e9 bytes).
    """
    flops, bandwidth = device.flops * device.compute_share, device.bandwidth * device.bandwidth_share
    model, found = model_weights(config), {}
    for name, each in {"full": UNPRUNED, "pruned": schedule}.items():
        weights = dtype.itemsize * (model + pruner_weights(config, each))
        lengths = each.lengths(tokens, config.num_hidden_layers)
        prefill = schedule_flops(config, each, tokens)
        decode = schedule_flops(config, each, tokens, new_tokens) - prefill
        seconds, read = prefill / (flops * devices), sum(decode_bytes(config, lengths, new_tokens, dtype))
        decoding = read / (bandwidth * devices)
        cache = kv_bytes(config, [length + new_tokens - 1 for length in lengths], dtype)
        found[name] = {
            "prefill_tflops": prefill / 1e12, "decode_gflops_per_token": decode / (new_tokens - 1) / 1e9,
            "prefill_seconds": seconds, "prefill_tokens_per_second": tokens / seconds,
            "decode_tokens_per_second": (new_tokens - 1) / decoding, "total_seconds": seconds + decoding,
            "weights_gb": weights / 1e9, "kv_gb": cache / 1e9, "gb_per_device": (weights + cache) / devices / 1e9,
        }  # fmt: skip
    return found


def model_weights(config: PretrainedConfig) -> int:
    """Numbers in a model, without making any of them."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


def pruner_weights(config: PretrainedConfig, schedule: PruningSchedule) -> int:
    """Numbers in the paper's pruner for the stages of `schedule`."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in TokenPruner(config.hidden_size, schedule.layers).parameters())


def plan_section() -> str:
    """The ledger's section: Llama 3 70B's shape, ten stages that lie as the paper's do on 32 layers."""
    config = LlamaConfig(**LLAMA_70B)
    schedule = PruningSchedule.spread(stages=10, num_layers=config.num_hidden_layers, first=10, keep_ratio=0.9)
    found = scale_plan(schedule, config, TOKENS, NEW_TOKENS, DEVICES, DEVICE)
    names = {
        "prefill_tflops": "prefill, TFLOPs",
        "prefill_seconds": "prefill, seconds",
        "prefill_tokens_per_second": "prefill, tokens per second",
        "decode_gflops_per_token": "decode, GFLOPs per token",
        "decode_tokens_per_second": "decode, tokens per second",
        "total_seconds": f"with {NEW_TOKENS} new tokens, seconds",
        "weights_gb": "weights, GB",
        "kv_gb": "KV cache, GB",
        "gb_per_device": "weights and cache per GPU, GB",
    }
    rows = []
    for key, name in names.items():
        full, pruned = (found[side][key] for side in ("full", "pruned"))
        shown = [_two_digits(value) for value in (full, pruned, pruned / full)]
        rows.append(dict(zip(("Computed", "full", "pruned", "pruned / full"), (name, *shown), strict=True)))
    return f"""## A plan on paper: 70B on {DEVICES} GPUs

**Computed from the FLOP and byte model, not measured**: nobody has run this here. Llama 3 70B's shape in bfloat16, one
prompt of {TOKENS:,} tokens and {NEW_TOKENS} new ones, on {DEVICES} x {DEVICE.name}; pruned: ten stages from layer 10,
every seventh, r = 0.9. Assumed are {DEVICE.compute_share:.0%} of {DEVICE.flops / 1e12:.0f} TFLOP/s and \
{DEVICE.bandwidth_share:.0%} of {DEVICE.bandwidth / 1e12:.2f} TB/s, and that work and
bytes divide evenly. Full and pruned are on the same {DEVICES} GPUs; nothing here is a speedup over fewer of them.

{markdown_table(rows)}

{textwrap.fill(f"Left out: {LEFT_OUT}.", 120)}
"""


def _two_digits(value: float) -> str:
    """A plan is good for two significant digits: `41,000`, `0.54`."""
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.{max(0, 1 - math.floor(math.log10(rounded)))}f}"
