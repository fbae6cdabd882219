"""The prefill speedup that the full model's own times allow: what a machine makes of fewer tokens, beside fewer FLOPs.

A product of a few rows reads, and on some CPUs repacks, the same weights as one of many, and a layer's operations are
launched whatever their size. So a short prompt runs at a lower rate than a long one, pruned or not, and a schedule that
leaves few tokens cannot reach the ratio of FLOPs. This estimate takes each layer for a layer of the full model with as
many tokens, from the times that the same sweep measured at shorter prompts; what is missing to it is pruning's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..markdown import Markdown
from ..results import markdown_table
from .files import completed, lookup, series


def expected_seconds(full: Mapping[int, float], lengths: Sequence[int]) -> float:
    """Seconds of a prefill by the full model's times, each layer taking its share of a prompt of as many tokens.

    Between two measured prompts the logarithm of the seconds is interpolated over that of the length; a layer below the
    shortest takes as long as there.

    Args:
        full: prompt length -> seconds of the full model's prefill.
        lengths: tokens at each layer.

    Raises:
        ValueError: if a layer has more tokens than the longest prompt, or nothing was measured.
    """
    if not full or max(lengths) > max(full):
        raise ValueError(f"no prompt of {max(lengths)} tokens was measured, the longest has {max(full, default=0)}")
    known = sorted(full)
    logarithms = np.interp(np.log(lengths), np.log(known), np.log([full[length] for length in known]))
    return float(np.exp(logarithms).mean())


def length_table(documents: Mapping[str, Mapping]) -> Markdown:
    """Speedups of a sweep beside both estimates, a row for each schedule and length.

    Where most layers have fewer tokens than the shortest prompt measured, the second is left open.

    Args:
        documents: label -> latency document, each with its baseline at several lengths.
    """
    rows = []
    for name, document in documents.items():
        full = series(document, "baseline", "prefill_latency_seconds")
        for tokens, kept in series(document, "sdtp", "kv_lens_after_prefill").items():
            record = completed(document["results"][str(tokens)])
            gain = lookup(record, "speedup", "prefill")
            known = sum(length >= min(full) for length in kept) >= len(kept) / 2
            allowed = full[tokens] / expected_seconds(full, kept) if known else None
            rows.append({
                "tokens": tokens, "schedule": name, "speedup": gain,
                "estimate, FLOPs": lookup(record, "limit", "prefill_causal"), "estimate, full model's times": allowed,
                "of FLOPs, %": 100 * lookup(record, "share_of_limit", "prefill"),
                "of times, %": 100 * gain / allowed if allowed else None,
            })  # fmt: skip
    whole = {"of FLOPs, %": 0, "of times, %": 0}
    return Markdown(markdown_table(sorted(rows, key=lambda row: row["tokens"]), whole))
