"""Table 2 as Markdown: seconds, speedups, memory and FLOPs of four latency files, and beside the paper's rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pandas as pd

from .. import paper, results
from ..latency.break_even import break_even, scaling_exponent
from ..latency.files import check_alike, completed, lookup, read_latency, series
from ..latency.flop_estimates import table2_flops
from ..options import MODES
from ..text_files import check_apart

BASELINE = "baseline"
CONFIGS = {BASELINE: ("none",), "keep09": ("keep09", "paper"), "keep08": ("keep08",), "keep07": ("keep07",)}
DIGITS = {  # of the columns that hold seconds or FLOPs; two of the others, whose noise hides more
    "Prefill (s)": 3, "Decode (s)": 3, "Total (s)": 3, "KV reduction %": 1, "Prefill TFLOPs": 3, "End2End TFLOPs": 3,
}  # fmt: skip
COLUMNS = {  # column -> keys in the record of one length; {side} is baseline or sdtp
    "Prefill (s)": ("{side}", "prefill_latency_seconds"),
    "Decode (s)": ("{side}", "decode_latency_seconds"),
    "Total (s)": ("{side}", "total_latency_seconds"),
    "Prefill x": ("speedup", "prefill"),
    "End2End x": ("speedup", "total"),
    "KV reduction %": ("kv_reduction",),
    "Peak GB": ("{side}", "memory_gb"),
    "Prefill TFLOPs": ("flops", "{side}"),
    "End2End TFLOPs": ("flops_end2end", "{side}"),
    "FLOP ratio": ("flops", "ratio"),
    "Prefill / estimate": ("share_of_limit", "prefill"),
    "End2End / estimate": ("share_of_limit", "end2end"),
}
SCALE = {"KV reduction %": 100.0, "Prefill TFLOPs": 1e-12, "End2End TFLOPs": 1e-12}
DECODE_COLUMNS = ("Decode (s)", "Total (s)", "End2End x", "End2End TFLOPs", "End2End / estimate")
PARTS = {"prefill": {"prefill": "prefill"}, "end2end": {"prefill": "prefill", "total": "end to end"}}  # by mode


def latency_table(
    baseline: str | os.PathLike,
    sdtp09: str | os.PathLike,
    sdtp08: str | os.PathLike,
    sdtp07: str | os.PathLike,
    mode: str = "end2end",
    lengths: Sequence[int] | None = None,
    output: str | os.PathLike | None = None,
) -> pd.DataFrame:
    """Table 2 for the full model and three schedules, one row per length and method.

    The baseline's rows come from its own file. Every other row's speedups compare with the baseline that its own file
    timed in turns with it, so they need not be the quotient of two rows of the table.

    Args:
        baseline, sdtp09, sdtp08, sdtp07: latency files of the full model and of keep ratios 0.9, 0.8 and 0.7.
        mode: `prefill` leaves the decode's columns out.
        lengths: prompt lengths in tokens; by default all of the baseline's file.
        output: Markdown file to write; below its table stand estimates, break-even lengths and exponents, the latter
            two from every length that the files hold.

    Returns:
        Length, Method and COLUMNS, numbers unrounded; NaN where a length failed or nothing was measured.

    Raises:
        FileNotFoundError: naming a missing file.
        ValueError: naming the file that is damaged, of another schedule, mode, model, dtype or device, or short of a
            length.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    if output is not None:
        results.check_output(output)
    files = dict(zip(CONFIGS, map(os.fspath, (baseline, sdtp09, sdtp08, sdtp07)), strict=True))
    check_apart(output, *files.values())
    documents = {method: read_latency(path, CONFIGS[method], mode) for method, path in files.items()}
    check_alike({files[method]: document for method, document in documents.items()}, mode)
    lengths = list(lengths or map(int, documents[BASELINE]["results"]))
    for method, document in documents.items():
        missing = [length for length in lengths if str(length) not in document["results"]]
        if missing:
            raise ValueError(f"{files[method]} has no length {missing[0]}")
    rows, failures = [], []
    for length in lengths:
        for method, document in documents.items():
            record = document["results"][str(length)]
            rows.append({"Length": length, "Method": method, **_row(record, method, mode)})
            if "error" in record:
                failures.append(f"- {length} tokens, {method}: failed, {record['error']}")
    table = pd.DataFrame(rows)
    if output is not None:
        notes = [*_what(documents[BASELINE]["metadata"], mode), *_limits(documents, mode, lengths)]
        notes += [*_pays(documents, mode), *failures]
        results.write_text(output, "\n".join([results.markdown_table(table, DIGITS), "", *notes, ""]))
    return table


def table2_rows(document: Mapping) -> list[dict]:
    """Table 2 beside a latency document: a row per length, of the prefill and, where it was timed, end to end.

    Lengths are those that both have; if there is none, the two that are nearest. FLOP ratios are pruned / full: the
    paper's as printed and by its formula (`table2_flops`), ours for its shape and for the model measured.
    """
    ours = series(document, "speedup", "prefill")
    pairs = [(length, length) for length in ours if length in paper.TABLE2]
    if ours and not pairs:
        pairs = [min(((m, n) for m in paper.TABLE2 for n in ours), key=lambda pair: max(pair) / min(pair))]
    rows = []
    for part, key, limit, flops in (
        ("prefill", "prefill", "prefill_causal", "flops"),
        ("end2end", "total", "end2end", "flops_end2end"),
    ):
        counted = {row["tokens"]: row for row in table2_flops(part)}
        for theirs, length in pairs:
            record, ratios = completed(document["results"][str(length)]), counted[theirs]
            row = {
                "Tokens, paper": theirs,
                "Tokens, ours": length,
                "Part": "prefill" if part == "prefill" else "end to end",
                "Speedup, paper": paper.TABLE2[theirs][f"{part} x"],
                "Speedup, ours": lookup(record, "speedup", key),
                "Estimate, ours": lookup(record, "limit", limit),
                "FLOP ratio, paper": ratios["paper: ratio"],
                "its formula": ratios["formula: ratio"],
                "counted for its shape": ratios["ours, causal: ratio"],
                "FLOP ratio, ours": lookup(record, flops, "ratio"),
            }
            if row["Speedup, ours"] is not None:
                rows.append(row)
    return sorted(rows, key=lambda row: row["Tokens, ours"])


def _row(record: Mapping, method: str, mode: str) -> dict[str, float]:
    side, row = BASELINE if method == BASELINE else "sdtp", {}
    record = completed(record)
    for column, keys in COLUMNS.items():
        if mode == "prefill" and column in DECODE_COLUMNS:
            continue
        if column == "FLOP ratio" and mode == "end2end":
            keys = ("flops_end2end", "ratio")
        compares = "{side}" not in keys and method == BASELINE  # the full model is not compared with itself
        value = None if compares else lookup(record, *(key.format(side=side) for key in keys))
        row[column] = float("nan") if value is None else value * SCALE.get(column, 1.0)
    return row


def _what(metadata: Mapping, mode: str) -> list[str]:
    """Notes on what was measured on, and what the columns mean."""
    decode, end = (f", {metadata.get('new_tokens')} new tokens", "end to end") if mode == "end2end" else ("", "prefill")
    notes = [
        f"- {metadata.get('model')}, {metadata.get('dtype')}, {metadata.get('device')}, batch 1{decode}; "
        f"median of {metadata.get('repeats')} repeats; torch {metadata.get('torch')}, "
        f"transformers {metadata.get('transformers')}; profile {metadata.get('profile')}.",
        "- A speedup compares with the full model timed in turns with that schedule, not with the baseline's row.",
        f"- FLOPs are counted, not measured; the ratio is pruned / full, {end}.",
        "- Peak GB, model included: on a GPU what was allocated; on a CPU what a fresh process held in the prefill.",
        "- / estimate: measured over what is estimated. Prefill: full / pruned FLOPs, attention causal; more can be "
        "gained where the backend computes it densely, or where it costs more time than its FLOPs.",
    ]
    if mode == "end2end":
        notes[-1] += (
            " End to end (Amdahl): from the full model's measured seconds, its prefill by those FLOPs, decode steps"
        )
        notes[-1] += " by the bytes of weights and cache read once; a step that copies its cache can gain more."
    return notes


def _limits(documents: Mapping[str, dict], mode: str, lengths: Sequence[int]) -> list[str]:
    """A note per schedule with its estimates at every length of the table."""
    notes, end2end = [], mode == "end2end"
    for method, document in documents.items():
        causal, dense, whole = (
            series(document, "limit", key) for key in ("prefill_causal", "prefill_dense", "end2end")
        )
        parts = []
        for length in (length for length in lengths if length in causal):
            text = f"{length}: {causal[length]:.2f}x"
            text += f" (dense {dense[length]:.2f}x)" if length in dense else ""
            parts.append(text + (f", end to end {whole[length]:.2f}x" if end2end and length in whole else ""))
        if parts:
            notes.append(
                f"- Estimates for {method}, causal prefill{' and end to end' if end2end else ''}: {'; '.join(parts)}."
            )
    return notes


def _pays(documents: Mapping[str, dict], mode: str) -> list[str]:
    """A note per schedule on its break-even lengths, and one on how seconds grow with the prompt."""
    notes, growth = [], []
    for method, document in documents.items():
        side = BASELINE if method == BASELINE else "sdtp"
        if method != BASELINE:
            where = [f"{words} {break_even(document, part).text}" for part, words in PARTS[mode].items()]
            notes.append(f"- {method} pays from: {'; '.join(where)}.")
        slopes = {words: scaling_exponent(document, side, part) for part, words in PARTS[mode].items()}
        known = [f"{words} {slope:.2f}" for words, slope in slopes.items() if slope is not None]
        if known:
            growth.append(f"{method} {', '.join(known)}")
    if growth:
        notes.append(f"- Seconds grow with the length to the power of (1: linear, 2: quadratic): {'; '.join(growth)}.")
    return notes
