"""Answers to claims of the paper that are counted on Mistral-7B's exact shape, not measured."""

from __future__ import annotations

from statistics import mean

from transformers import MistralConfig

from .. import paper
from ..latency import flops
from ..models.loading import SHAPES
from ..pruning.schedule import PruningSchedule
from .claim_readers import over_lengths


def _mistral() -> tuple[MistralConfig, PruningSchedule, PruningSchedule]:
    config = MistralConfig(**SHAPES["mistral-7b"])
    return config, *(PruningSchedule.preset(name, config.num_hidden_layers) for name in ("paper", "none"))


def flops_saved(new_tokens: int = 1) -> str:
    """Share of FLOPs that ten stages with r = 0.9 save on Mistral-7B's shape at the lengths of Table 2."""
    config, schedule, none = _mistral()
    counts = {n: [flops.schedule_flops(config, each, n, new_tokens) for each in (schedule, none)] for n in paper.TABLE2}
    return over_lengths({length: 100 * (1 - pruned / full) for length, (pruned, full) in counts.items()}, "%", 1)


def module_share() -> str:
    """FLOPs of all pruner modules as a share of the pruned prefill's, on Mistral-7B's shape."""
    config, schedule, _ = _mistral()
    shares = {}
    for length in paper.TABLE2:
        present = schedule.lengths(length, config.num_hidden_layers)
        whole, without = (flops.prefill_flops(config, present, scored=layers) for layers in (schedule.layers, ()))
        shares[length] = 100 * (whole - without) / whole
    return over_lengths(shares, "%", 2)


def compression() -> str:
    """1/tau of SDTP and SDTP-low on 32 layers."""
    config, *_ = _mistral()
    layers = config.num_hidden_layers
    presets = {"SDTP": "paper", "SDTP-low": "low"}
    kept = {
        name: mean(PruningSchedule.preset(preset, layers).lengths(8192, layers)) for name, preset in presets.items()
    }
    return ", ".join(f"{name} {8192 / tokens:.2f}" for name, tokens in kept.items())
