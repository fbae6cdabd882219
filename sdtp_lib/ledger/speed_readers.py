"""Readers of latency files and of times on a benchmark's prompts: speed, memory, FLOPs and tokens."""

from __future__ import annotations

from collections.abc import Mapping

from .. import paper
from ..latency.files import series
from .findings import Finding, Reader, Status, count, over_lengths

PRUNED, LOW = "sdtp", "sdtp-low"
UNSTEADY = 1.5  # slowest run over the fastest one, from which the median alone says too little


def speedup(part: str) -> Reader:
    """Speedup of `part` from the shortest to the longest prompt, where it should be above 1 and higher.

    One run of each side has no spread to judge a difference by: then it is not decided.
    """

    def read(document: Mapping) -> Finding | None:
        values = series(document, "speedup", part)
        if not values:
            return None
        longest, shortest = max(values), min(values)
        grows = longest == shortest or values[longest] > values[shortest]
        text = over_lengths(values, "x", 2) + _unsteady(document, part, longest)
        status = _of_runs(document, values[longest] > 1 and grows)
        return Finding(text, status, _runs(document), key=f"speedup.{part}")

    return read


def _unsteady(document: Mapping, part: str, length: int) -> str:
    """What the fastest runs say, where the runs of a side lie far apart."""
    ends = [series(document, side, "spread", part).get(length) for side in ("baseline", "sdtp")]
    if not all(ends) or max(slow / fast for fast, slow in ends) < UNSTEADY:
        return ""
    (full, _), (pruned, _) = ends
    apart = max(slow / fast for fast, slow in ends)
    return f"; runs differ by up to {apart:.0f}x, the fastest of each side give {full / pruned:.2f}x"


def _of_runs(document: Mapping, holds: bool) -> Status:
    """Whether it holds by several runs; one of each side decides nothing."""
    return Status.of(None if document["metadata"].get("repeats") == 1 else holds)


def _runs(document: Mapping) -> str:
    repeats = document["metadata"].get("repeats")
    return f"{count(repeats, 'run')} of each side and length" if repeats else ""


def speed_on_prompts(part: str) -> Reader:
    """SDTP's speedup of `part`, and SDTP-low's if it was timed: geometric mean and range over a benchmark's prompts.

    Holds if each is faster on every prompt, fails if one is slower on all; a mean of few prompts is noisy.
    """

    def read(document: Mapping) -> Finding | None:
        data = document["data"]
        methods, lengths = data["methods"], [prompt["prompt_tokens"] for prompt in data["prompts"]]
        if PRUNED not in methods:
            return None
        ours = {name: methods[name][f"{part} x"] for name in (PRUNED, LOW) if name in methods}
        texts = [f"{name} {x['mean']:.2f}x ({x['range'][0]:.2f} to {x['range'][1]:.2f})" for name, x in ours.items()]
        status = Status.of_all(Status.decided(x["range"][0] > 1, x["range"][1] < 1) for x in ours.values())
        n = f"{count(len(lengths), 'prompt')} of {min(lengths):,} to {max(lengths):,} tokens"
        n += f", {count(data['new_tokens'], 'new token')}" if part == "total" else ""
        return Finding(", ".join(texts), status, n, key=f"methods.*.{part} x")

    return read


def tokens_pruned(document: Mapping) -> Finding | None:
    """Share of the prompt that does not reach the last layer; within 3 points of the paper's."""
    kept, pruned = series(document, "sdtp", "tokens_kept"), series(document, "sdtp", "tokens_pruned")
    share = {length: 100 * pruned[length] / (kept[length] + pruned[length]) for length in kept}
    if not share:
        return None
    near = all(abs(value - paper.CLAIMS["pruned %"]) < 3 for value in share.values())
    return Finding(over_lengths(share, "%", 1), Status.of(near), key="sdtp.tokens_pruned")


def flops_saved(key: str) -> Reader:
    """Share of FLOPs saved, which should grow with the prompt; `key` is flops or flops_end2end."""

    def read(document: Mapping) -> Finding | None:
        saved = {length: 100 * (1 - ratio) for length, ratio in series(document, key, "ratio").items()}
        if not saved:
            return None
        grows = 0 < saved[min(saved)] <= saved[max(saved)]
        return Finding(over_lengths(saved, "%", 1), Status.of(grows), key=f"{key}.ratio")

    return read


def memory_saved(document: Mapping) -> Finding | None:
    """Share of peak memory saved, of several runs; None where a sweep on a CPU did not read it."""
    full, pruned = series(document, "baseline", "memory_gb"), series(document, "sdtp", "memory_gb")
    saved = {length: 100 * (1 - pruned[length] / full[length]) for length in full if length in pruned}
    if not saved:
        return None
    about = document["metadata"]  # a CPU's peak is read in a fresh process, which ends with the prefill
    whole = about.get("mode") != "prefill" and "NVIDIA" in str(about.get("device"))
    text = f"{over_lengths(saved, '%', 1)} (peak {'end to end' if whole else 'of the prefill'})"
    return Finding(text, _of_runs(document, saved[max(saved)] > 0), _runs(document), key="baseline|sdtp.memory_gb")


def kv_saved(document: Mapping) -> Finding | None:
    """Share of all layers' keys and values saved, as the cache itself says."""
    saved = {length: 100 * share for length, share in series(document, "kv_reduction").items()}
    if not saved:
        return None
    return Finding(over_lengths(saved, "%", 1), Status.of(min(saved.values()) > 0), key="kv_reduction")
