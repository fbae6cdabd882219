"""A plan on paper: what a model on several devices would take, from FLOPs and bytes alone. Computed, never measured."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from ..latency.flop_estimates import UNPRUNED
from ..latency.flops import decode_bytes, kv_bytes, schedule_flops
from ..pruning.schedule import PruningSchedule
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
        memory: bytes.
        compute_share, bandwidth_share: how much of the two is assumed to be reached, in (0, 1].

    Raises:
        ValueError: for a number out of range.
    """

    name: str = "H100 SXM 80 GB"
    flops: float = 989e12
    bandwidth: float = 3.35e12
    memory: float = 80e9
    compute_share: float = 0.5
    bandwidth_share: float = 0.7

    def __post_init__(self):
        for name in ("flops", "bandwidth", "memory"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("compute_share", "bandwidth_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")


def scale_plan(
    schedule: PruningSchedule,
    config: PretrainedConfig | None = None,
    tokens: int = 131072,
    new_tokens: int = 128,
    devices: int = 8,
    device: Device | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[str, dict[str, float]]:
    """What one prompt would take on `devices` devices that share all work and bytes evenly: full and pruned.

    The prefill is taken to be bound by FLOPs, a decode step by the bytes of weights and cache that it reads; see
    LEFT_OUT for what else there is. Both sides are on the same devices, so their ratio is no speedup by more devices.

    Args:
        schedule: of the pruned side.
        config: of a family in `latency.flops.LAYOUTS`; Llama 3 70B's shape by default.
        tokens: of the prompt.
        new_tokens: generated, the first by the prefill; 2 or more.
        device: by default an H100.

    Returns:
        {"full": row, "pruned": row}: `prefill_tflops`, `decode_gflops_per_token`, `prefill_seconds`,
        `prefill_tokens_per_second` (of the prompt as given), `decode_tokens_per_second`, `total_seconds`,
        `weights_gb`, `kv_gb` and `gb_per_device` (1e9 bytes), and `fits`, whether that is less than a device has.

    Raises:
        ValueError: for fewer than one device or two new tokens, or as `latency.flops.schedule_flops`.
    """
    device, config = device or Device(), config or LlamaConfig(**LLAMA_70B)
    if devices < 1:
        raise ValueError(f"devices must be 1 or more, got {devices}")
    if new_tokens < 2:
        raise ValueError(f"new_tokens must be 2 or more for a decode step to run, got {new_tokens}")
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
        held = (weights + cache) / devices
        found[name] = {
            "prefill_tflops": prefill / 1e12, "decode_gflops_per_token": decode / (new_tokens - 1) / 1e9,
            "prefill_seconds": seconds, "prefill_tokens_per_second": tokens / seconds,
            "decode_tokens_per_second": (new_tokens - 1) / decoding, "total_seconds": seconds + decoding,
            "weights_gb": weights / 1e9, "kv_gb": cache / 1e9, "gb_per_device": held / 1e9,
            "fits": held < device.memory,
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


def plan_section(devices: int = 8, tokens: int = 131072, new_tokens: int = 128) -> str:
    """The ledger's section: Llama 3 70B's shape, ten stages that lie as the paper's do on 32 layers."""
    device, config = Device(), LlamaConfig(**LLAMA_70B)
    schedule = PruningSchedule.spread(stages=10, num_layers=config.num_hidden_layers, first=10, keep_ratio=0.9)
    found = scale_plan(schedule, config, tokens, new_tokens, devices, device)
    names = {
        "prefill_tflops": "prefill, TFLOPs",
        "prefill_seconds": "prefill, seconds",
        "prefill_tokens_per_second": "prefill, tokens per second",
        "decode_gflops_per_token": "decode, GFLOPs per token",
        "decode_tokens_per_second": "decode, tokens per second",
        "total_seconds": f"with {new_tokens} new tokens, seconds",
        "weights_gb": "weights, GB",
        "kv_gb": "KV cache, GB",
        "gb_per_device": "weights and cache per GPU, GB",
    }
    rows = []
    for key, name in names.items():
        full, pruned = (float(found[side][key]) for side in ("full", "pruned"))
        shown = [_two_digits(value) for value in (full, pruned, pruned / full)]
        rows.append(dict(zip(("Computed", "full", "pruned", "pruned / full"), (name, *shown), strict=True)))
    return f"""## A plan on paper: 70B on {devices} GPUs

**Computed from the FLOP and byte model, not measured**: nobody has run this here. Llama 3 70B's shape in bfloat16, one
prompt of {tokens:,} tokens and {new_tokens} new ones, on {devices} x {device.name}; pruned: ten stages from layer 10,
every seventh, r = 0.9. Assumed are {device.compute_share:.0%} of {device.flops / 1e12:.0f} TFLOP/s and \
{device.bandwidth_share:.0%} of {device.bandwidth / 1e12:.2f} TB/s, and that work and
bytes divide evenly. Full and pruned are on the same {devices} GPUs; nothing here is a speedup over fewer of them.

{markdown_table(rows)}

{textwrap.fill(f"Left out: {LEFT_OUT}.", 120)}
"""


def _two_digits(value: float) -> str:
    """A plan is good for two significant digits: `41,000`, `0.54`."""
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.{max(0, 1 - math.floor(math.log10(rounded)))}f}"
