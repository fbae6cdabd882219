"""From result files to Markdown tables: Table 2 (latency), Table 1 (LongBench), and paper against ours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from . import paper_numbers as paper
from . import results
from .evaluation.summary import table1
from .latency_files import check_alike, lookup, read_latency
from .ledger import write_ledger

__all__ = ["latency_table", "longbench_table", "paper_ours", "write_ledger"]

MODES = ("prefill", "end2end")
BASELINE = "baseline"
CONFIGS = {BASELINE: ("none",), "keep09": ("keep09", "paper"), "keep08": ("keep08",), "keep07": ("keep07",)}
DIGITS = 3
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
}
SCALE = {"KV reduction %": 100.0, "Prefill TFLOPs": 1e-12, "End2End TFLOPs": 1e-12}
DECODE_COLUMNS = ("Decode (s)", "Total (s)", "End2End x", "End2End TFLOPs")


class Markdown(str):
    """Text that a notebook shows as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


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
        output: Markdown file to write.

    Returns:
        Length, Method and COLUMNS, numbers unrounded; NaN where a length failed or nothing was measured.

    Raises:
        FileNotFoundError: naming a missing file.
        ValueError: naming the file that is damaged, of another schedule, mode, model, dtype or device, or short of a
            length.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    _check_output(output)
    files = dict(zip(CONFIGS, map(os.fspath, (baseline, sdtp09, sdtp08, sdtp07)), strict=True))
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
            rows.append({"Length": length, "Method": method, **_latency_row(record, method, mode)})
            if "error" in record:
                failures.append(f"- {length} tokens, {method}: failed, {record['error']}")
    table = pd.DataFrame(rows)
    if output is not None:
        results.write_text(output, _latency_page(table, documents[BASELINE]["metadata"], mode, failures))
    return table


def longbench_table(
    source: str | os.PathLike | Mapping | pd.DataFrame, output: str | os.PathLike | None = None
) -> pd.DataFrame:
    """Table 1's quality columns, one row per method, as text: a score with its 95% interval, and the compression 1/tau.

    Args:
        source: result file `{"metadata": ..., "data": {method: summary}}`, the summaries, or what `table1` gives.
        output: Markdown file to write.

    Raises:
        FileNotFoundError: naming a missing file.
        ValueError: for a file without such data.
    """
    _check_output(output)
    if isinstance(source, (str, os.PathLike)):
        document = results.read_json(source)
        if not isinstance(lookup(document, "data"), dict):
            raise ValueError(f"{source} is no LongBench result: it needs 'data'")
        source = document["data"]
    table = source if isinstance(source, pd.DataFrame) else table1(source)
    scores = (*paper.CATEGORIES, "AVG")
    rows = [
        {"method": row["method"]}
        | {name: _score(row.get(name), row.get(f"{name} ci95")) for name in scores}
        | {"1/tau": _number(row.get("1/tau"), 2)}
        for row in table.to_dict("records")
    ]
    if output is not None:
        note = "Scores are 0 to 100 with 95% bootstrap intervals; 1/tau: prompt tokens over their mean per layer.\n"
        results.write_text(output, f"{results.markdown_table(rows)}\n\n{note}")
    return pd.DataFrame(rows)


def paper_ours(rows: Iterable[tuple], digits: int = 2) -> Markdown:
    """The table that ends a notebook's section: what the paper says, what was found here, and the difference.

    Args:
        rows: (quantity, paper's number, ours) or (quantity, paper's, ours, digits); None or NaN where there is none, a
            text where it is no number.
    """
    table = []
    for quantity, theirs, ours, *places in rows:
        places = places[0] if places else digits
        both = not any(_missing(value) or isinstance(value, str) for value in (theirs, ours))
        difference = _number(ours - theirs, places, sign=True) if both else "-"
        table.append(
            dict(
                zip(
                    ("", "paper", "ours", "difference"),
                    (quantity, _number(theirs, places), _number(ours, places), difference),
                    strict=True,
                )
            )
        )
    return Markdown(results.markdown_table(table))


def _check_output(output: str | os.PathLike | None) -> None:
    if output is not None and os.path.isdir(output):
        raise ValueError(f"output {output} is a folder; give a file name")


def _latency_row(record: Mapping, method: str, mode: str) -> dict[str, float]:
    side, row = BASELINE if method == BASELINE else "sdtp", {}
    for column, keys in COLUMNS.items():
        if mode == "prefill" and column in DECODE_COLUMNS:
            continue
        if column == "FLOP ratio" and mode == "end2end":
            keys = ("flops_end2end", "ratio")
        compares = "{side}" not in keys and method == BASELINE  # the full model is not compared with itself
        value = None if compares else lookup(record, *(key.format(side=side) for key in keys))
        row[column] = float("nan") if value is None else value * SCALE.get(column, 1.0)
    return row


def _latency_page(table: pd.DataFrame, metadata: Mapping, mode: str, failures: list[str]) -> str:
    decode = f", {metadata.get('new_tokens')} new tokens" if mode == "end2end" else ""
    notes = [
        f"- {metadata.get('model')}, {metadata.get('dtype')}, {metadata.get('device')}, batch 1{decode}; "
        f"median of {metadata.get('repeats')} repeats; torch {metadata.get('torch')}, "
        f"transformers {metadata.get('transformers')}; profile {metadata.get('profile')}.",
        "- A speedup compares with the full model timed in turns with that schedule, not with the baseline's row.",
        "- FLOPs are counted, not measured; the ratio is pruned / full"
        + (", end to end." if mode == "end2end" else ", prefill."),
        *failures,
    ]
    return "\n".join([results.markdown_table(table, DIGITS), "", *notes, ""])


def _score(score: float | None, interval: Sequence[float] | None) -> str:
    if _missing(score):
        return "-"
    text = _number(score, 1)
    return text if _missing(interval) else f"{text} [{_number(interval[0], 1)}, {_number(interval[1], 1)}]"


def _missing(value) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _number(value: float | str | None, digits: int, sign: bool = False) -> str:
    if _missing(value):
        return "-"
    if isinstance(value, str):
        return value
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{digits}f}"
