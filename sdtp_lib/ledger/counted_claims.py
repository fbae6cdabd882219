"""Answers that are counted on Mistral-7B's exact shape, not measured: they follow from the schedule."""

from __future__ import annotations

from statistics import mean

from transformers import MistralConfig

from .. import paper
from ..latency import flops
from ..models.shapes import shape_config
from ..pruning.schedule import PruningSchedule
from .findings import Finding, Status, over_lengths


def _mistral() -> tuple[MistralConfig, PruningSchedule, PruningSchedule]:
    config = shape_config()
    return config, *(PruningSchedule.preset(name, config.num_hidden_layers) for name in ("paper", "none"))


def _lengths() -> dict[int, list[int]]:
    """Length of Table 2 -> tokens present at each layer."""
    config, schedule, _ = _mistral()
    return {tokens: schedule.lengths(tokens, config.num_hidden_layers) for tokens in paper.TABLE2}


def tokens_pruned() -> Finding:
    """Share of the prompt that does not reach the last layer."""
    share = {tokens: 100 * (1 - present[-1] / tokens) for tokens, present in _lengths().items()}
    near = all(abs(value - paper.CLAIMS["pruned %"]) < 1 for value in share.values())
    return Finding(f"{over_lengths(share, '%', 1)}: 1 - 0.9^10", Status.of(near), key="tokens_pruned")


def kv_saved() -> Finding:
    """Share of all layers' keys and values that are not made."""
    saved = {tokens: 100 * (1 - mean(present) / tokens) for tokens, present in _lengths().items()}
    return Finding(over_lengths(saved, "%", 1), Status.of(min(saved.values()) > 0), key="kv_saved")


def flops_saved(new_tokens: int = 1) -> Finding:
    """Share of FLOPs that ten stages with r = 0.9 save at the lengths of Table 2."""
    config, schedule, none = _mistral()
    counts = {n: [flops.schedule_flops(config, each, n, new_tokens) for each in (schedule, none)] for n in paper.TABLE2}
    saved = {length: 100 * (1 - pruned / full) for length, (pruned, full) in counts.items()}
    return Finding(over_lengths(saved, "%", 1), Status.of(min(saved.values()) > 0), key="flops_saved")


def module_share() -> Finding:
    """FLOPs of all pruner modules as a share of the pruned prefill's."""
    config, schedule, _ = _mistral()
    shares = {}
    for length, present in _lengths().items():
        whole, without = (flops.prefill_flops(config, present, scored=layers) for layers in (schedule.layers, ()))
        shares[length] = 100 * (whole - without) / whole
    little = max(shares.values()) < paper.CLAIMS["module % of FLOPs"]
    return Finding(over_lengths(shares, "%", 2), Status.of(little), key="module_share")


def compression() -> Finding:
    """1/tau of SDTP and SDTP-low on 32 layers."""
    config, *_ = _mistral()
    layers, tokens = config.num_hidden_layers, 8192
    schedules = {"SDTP": PruningSchedule.preset("paper", layers), "SDTP-low": PruningSchedule.preset("low", layers)}
    rates = {name: tokens / mean(schedule.lengths(tokens, layers)) for name, schedule in schedules.items()}
    text = ", ".join(f"{name} {rate:.2f}" for name, rate in rates.items())
    return Finding(text, Status.of(rates["SDTP"] > rates["SDTP-low"] > 1), key="compression")
