"""How much faster fewer FLOPs and bytes would make a model, and Table 2's FLOPs: printed, recomputed and ours."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from transformers import PretrainedConfig

from .. import paper
from ..models.shapes import shape_config
from ..pruning.schedule import UNPRUNED, PruningSchedule
from .flops import decode_bytes, paper_flops, schedule_flops

CUTS = ("before", "after")
FORCED = ("besides", "within")
NEW_TOKENS = {"prefill": 0, "end2end": 128}  # of Table 2's columns, by the name they begin with


def prefill_limit(config: PretrainedConfig, schedule: PruningSchedule, tokens: int, causal: bool = True) -> float:
    """Full over pruned FLOPs of a prefill of `tokens` tokens: its speedup if time went with FLOPs alone.

    A backend that computes attention densely (`causal` False) can gain more than a causal one.

    Raises:
        ValueError: as `schedule_flops`.
    """
    full, pruned = (schedule_flops(config, each, tokens, causal=causal) for each in (UNPRUNED, schedule))
    return full / pruned


def end2end_limit(
    config: PretrainedConfig, schedule: PruningSchedule, tokens: int, new_tokens: int, prefill_seconds: float,
    decode_seconds: float, dtype: torch.dtype,
) -> float:  # fmt: skip
    """Estimate of the end-to-end speedup by prefill and cache (Amdahl), from measured times of the full model.

    (P + D) / (P / prefill_limit + D * pruned / full), where pruned and full are the bytes that the decode steps move:
    weights + keys and values (`decode_bytes`). Assumes causal attention, that the prefill is bound by FLOPs, and a
    decode step, batch 1, by memory traffic. Where launches or other work that does not shrink take part of D, less can
    be reached; where a step moves the cache more than once, as `DynamicCache`, which copies it to append a token, more.

    Args:
        new_tokens: generated tokens; the prefill gives the first, so D holds `new_tokens - 1` steps.
        prefill_seconds, decode_seconds: P and D.
        dtype: of weights and cache.

    Raises:
        ValueError: as `schedule_flops`, for fewer than 2 new tokens, or times that are not positive.
    """
    if new_tokens < 2:
        raise ValueError(f"new_tokens must be 2 or more for a decode step to run, got {new_tokens}")
    if not (0 < prefill_seconds < math.inf and 0 < decode_seconds < math.inf):
        raise ValueError(f"seconds must be positive, got {prefill_seconds} and {decode_seconds}")
    lengths = (each.lengths(tokens, config.num_hidden_layers) for each in (UNPRUNED, schedule))
    moved = [decode_bytes(config, kept, new_tokens, dtype) for kept in lengths]
    full, pruned = (weights + cache for weights, cache in moved)
    pruned_prefill = prefill_seconds / prefill_limit(config, schedule, tokens)
    return (prefill_seconds + decode_seconds) / (pruned_prefill + decode_seconds * pruned / full)


def paper_lengths(tokens: int, cut: str = "before", forced: str = "besides") -> list[int]:
    """Tokens at each layer of Mistral-7B by one reading of the paper's ten stages with r = 0.9.

    The defaults recompute Table 2's SDTP columns within 0.5%; "after" and "within" are the rule of `PruningSchedule`.

    Args:
        cut: "before" or "after" the paper's layer 4, 7, ..., counted from 1.
        forced: whether stage s leaves r^s of all tokens, the first and last ones that always stay "within" them, or
            r^s of the other tokens, those that always stay "besides" them.

    Raises:
        ValueError: for another reading.
    """
    if cut not in CUTS or forced not in FORCED:
        raise ValueError(f"cut must be one of {CUTS} and forced one of {FORCED}, got {cut!r} and {forced!r}")
    layers = shape_config().num_hidden_layers
    schedule = PruningSchedule.preset("paper", layers)
    if cut == "before":
        schedule = replace(schedule, layers=tuple(layer - 1 for layer in schedule.layers))
    if forced == "within":
        return schedule.lengths(tokens, layers)
    always = sum(schedule.forced(tokens))
    stages = (sum(stage <= layer for stage in schedule.layers) for layer in range(layers))
    return [always + math.floor(schedule.keep_ratio**stage * (tokens - always)) for stage in stages]


def table2_flops(part: str = "prefill", cut: str = "before", forced: str = "besides") -> list[dict[str, float]]:
    """Rows, one per length of Table 2, of TFLOPs full and SDTP, and their ratio SDTP / full.

    Of the paper as printed; of its formula (`paper_flops`) on `paper_lengths`; and ours on Mistral-7B's real shape with
    the `paper` schedule, attention causal and dense.

    Args:
        part: "prefill", or "end2end" with 128 new tokens.
        cut, forced: the reading, see `paper_lengths`.

    Raises:
        ValueError: for another part or reading.
    """
    if part not in NEW_TOKENS:
        raise ValueError(f"unknown part {part!r}; known: {', '.join(NEW_TOKENS)}")
    config, new = shape_config(), NEW_TOKENS[part]
    schedule, rows = PruningSchedule.preset("paper", config.num_hidden_layers), []
    for tokens, printed in paper.TABLE2.items():
        sides = {"paper": [printed[f"{part} TFLOPs {side}"] for side in ("full", "SDTP")]}
        kept = paper_lengths(tokens, cut, forced)
        sides["formula"] = [paper_flops(tokens, new, lengths) / 1e12 for lengths in (None, kept)]
        for name in ("causal", "dense"):
            counts = [schedule_flops(config, each, tokens, new or 1, name == "causal") for each in (UNPRUNED, schedule)]
            sides[f"ours, {name}"] = [count / 1e12 for count in counts]
        row = {"tokens": tokens}
        for name, (full, pruned) in sides.items():
            row |= {f"{name}: full": full, f"{name}: SDTP": pruned, f"{name}: ratio": pruned / full}
        rows.append(row)
    return rows


def flop_ratio(schedule: PruningSchedule, layers: int, config: PretrainedConfig, tokens: int = 8192) -> float:
    """`prefill_limit` on the shape of `config` of a schedule made for `layers` layers, its cuts stretched to it."""
    return prefill_limit(config, schedule.stretched(layers, config.num_hidden_layers), tokens)
