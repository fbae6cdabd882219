"""One length of a latency sweep: the record that goes into the result file, and its table on the screen (Table 2)."""

from __future__ import annotations

from itertools import groupby
from statistics import median

import pandas as pd
from transformers import PretrainedConfig

from ..pruning.schedule import UNPRUNED, PruningSchedule
from .flop_estimates import end2end_limit, prefill_limit
from .flops import schedule_flops
from .timing import Run

PARTS = ("prefill", "decode", "total")
NOTES = {
    "latency": "medians over the repeats, in seconds; spread is [fastest, slowest]; baseline and pruned runs alternate",
    "memory_gb": "peak in 1e9 bytes, model and pruner included on both sides: on a GPU what was allocated in the run, "
    "on a CPU what a fresh process held during the prefill (memory.resident_peaks), null where that was not asked for",
    "kv_cache_bytes": "read from the cache after the prefill; kv_reduction is the share of keys saved over all layers",
    "flops": "analytic, causal attention, a multiply-add as 2, logits of one token; ratio is sdtp / baseline",
    "limit": "an estimate of the speedup, which can be exceeded: of the prefill full / pruned FLOPs, attention causal "
    "or dense; end to end from the full model's measured seconds, its prefill by causal FLOPs, decode steps by the "
    "bytes of weights and cache read once; share_of_limit is measured / limit, the prefill's causal",
}


def latency_record(config: PretrainedConfig, schedule: PruningSchedule, full: list[Run], pruned: list[Run]) -> dict:
    """What the repeats of both sides at one length say; for a schedule that cuts nothing, of the baseline alone.

    Args:
        config: of the model timed.
        schedule: of the pruned side.
        full, pruned: its runs at one prompt length.

    Raises:
        ValueError: if the FLOPs of the model's family are not known.
    """
    new_tokens = full[0].new_tokens.shape[1]
    counts = {"flops": 1, "flops_end2end": new_tokens if new_tokens > 1 else None}
    baseline = _side(full)
    if not schedule.layers:
        return {"baseline": baseline} | {
            key: {"baseline": schedule_flops(config, schedule, full[0].prompt_tokens, new)} if new else None
            for key, new in counts.items()
        }
    sdtp = _side(pruned)
    times = {part: (baseline[f"{part}_latency_seconds"], sdtp[f"{part}_latency_seconds"]) for part in PARTS}
    speedup = {part: before / after if before is not None else None for part, (before, after) in times.items()}
    limit = _limit(config, schedule, full[0], baseline)
    return {
        "baseline": baseline,
        "sdtp": sdtp,
        "speedup": speedup,
        "limit": limit,
        "share_of_limit": {
            "prefill": speedup["prefill"] / limit["prefill_causal"],
            "end2end": speedup["total"] / limit["end2end"] if limit["end2end"] else None,
        },
        "kv_reduction": 1 - sum(sdtp["kv_lens_after_prefill"]) / sum(baseline["kv_lens_after_prefill"]),
        **{key: _flops(config, schedule, full[0].prompt_tokens, new) if new else None for key, new in counts.items()},
    }


def _flops(config: PretrainedConfig, schedule: PruningSchedule, tokens: int, new_tokens: int) -> dict:
    full, pruned = (schedule_flops(config, each, tokens, new_tokens) for each in (UNPRUNED, schedule))
    return {"baseline": full, "sdtp": pruned, "ratio": pruned / full}


def _limit(config: PretrainedConfig, schedule: PruningSchedule, run: Run, baseline: dict) -> dict[str, float | None]:
    """Estimates of the speedup; end to end None without a decode.

    Args:
        run: one of the full model.
        baseline: its medians.
    """
    tokens, seconds = run.prompt_tokens, [baseline[f"{part}_latency_seconds"] for part in ("prefill", "decode")]
    return {
        "prefill_causal": prefill_limit(config, schedule, tokens),
        "prefill_dense": prefill_limit(config, schedule, tokens, causal=False),
        "end2end": end2end_limit(config, schedule, tokens, run.new_tokens.shape[1], *seconds, run.kv_dtype)
        if run.decode is not None
        else None,
    }


def _side(runs: list[Run]) -> dict:
    """Medians and spread of one side's runs."""
    times = {part: [getattr(run, part) for run in runs if getattr(run, part) is not None] for part in PARTS}
    lengths = runs[0].kv_lengths
    peaks = [run.peak_bytes for run in runs if run.peak_bytes is not None]
    return {
        **{f"{part}_latency_seconds": median(times[part]) if times[part] else None for part in PARTS},
        "spread": {part: [min(times[part]), max(times[part])] if times[part] else None for part in PARTS},
        "memory_gb": max(peaks) / 1e9 if peaks else None,
        "kv_cache_bytes": runs[0].kv_bytes,
        "kv_lens_after_prefill": lengths,
        "tokens_kept": lengths[-1],
        "tokens_pruned": runs[0].prompt_tokens - lengths[-1],
        "new_tokens": runs[0].new_tokens.shape[1],
    }


def latency_table(length: int, records: dict[str, dict]) -> str:
    """One length as text: seconds and speedup of each side, then the keys per layer. `records` is config -> record."""
    failed = next((row["error"] for row in records.values() if "error" in row), None)
    if failed:
        return f"\n{length} tokens: failed, {failed}"
    sides = {"full": (next(iter(records.values()))["baseline"], {})}
    sides.update({name: (row["sdtp"], row["speedup"]) for name, row in records.items() if "sdtp" in row})
    frame = pd.DataFrame(
        {
            name: {f"{part} s": side[f"{part}_latency_seconds"] for part in PARTS}
            | {f"{part} x": speedup.get(part) for part in PARTS}
            for name, (side, speedup) in sides.items()
        },
        dtype=float,
    ).T.dropna(axis="columns", how="all")
    lines = [f"\n{length} tokens", frame.to_string(float_format="{:.3f}".format, na_rep="")]
    for name, (side, _) in sides.items():
        groups = [f"{n} x{len(list(group))}" for n, group in groupby(side["kv_lens_after_prefill"])]
        lines.append(f"KV lengths, {name}: {', '.join(groups)}")
    return "\n".join(lines)
