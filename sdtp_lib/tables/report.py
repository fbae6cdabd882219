"""From result files to Markdown tables: Table 1 (LongBench), scores of studies, and Table 2 beside the paper."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pandas as pd

from .. import results
from ..evaluation.bootstrap import score_columns, table1
from ..latency.files import lookup
from ..markdown import Markdown, interval_text, is_missing, number_text
from ..text_files import check_apart
from .table2 import table2_rows


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
    if output is not None:
        results.check_output(output)
        check_apart(output, source if isinstance(source, (str, os.PathLike)) else None)
    if isinstance(source, (str, os.PathLike)):
        document = results.read_json(source)
        if not isinstance(lookup(document, "data"), dict):
            raise ValueError(f"{source} is no LongBench result: it needs 'data'")
        source = document["data"]
    table = source if isinstance(source, pd.DataFrame) else table1(source)
    scores = score_columns(table)
    rows = [
        {"method": row["method"]}
        | {name: _score(row.get(name), row.get(f"{name} ci95")) for name in scores}
        | {"1/tau": number_text(row.get("1/tau"), 2)}
        for row in table.to_dict("records")
    ]
    if output is not None:
        note = "Scores are 0 to 100 with 95% bootstrap intervals; 1/tau: prompt tokens over their mean per layer.\n"
        results.write_text(output, f"{results.markdown_table(rows)}\n\n{note}")
    return pd.DataFrame(rows)


def scores_table(found: Mapping[str, dict]) -> Markdown:
    """What every method scores, and in parentheses by how much it differs from the full model, with 95% intervals.

    A row a method. Where answers are weighed, a row a method and dataset, which says also how often the right answer is
    the likeliest of its choices (chance in the title), and its nats per token.

    Args:
        found: method -> summary, with the paired differences under `against_full`, as `evaluation.compare.compare`
            gives it.
    """
    rows, weighed = [], any("scores" in task for summary in found.values() for task in summary["tasks"].values())
    for method, summary in found.items():
        against = summary.get("against_full", {})
        if not weighed:
            n = sum(task["n"] for task in summary["tasks"].values())
            score = _beside(summary, "average", against.get("average"), 1)
            rows.append({"method": method, "n": n, "score": score, "": lookup(against, "average", "verdict")})
            continue
        for name, task in summary["tasks"].items():
            apart = against.get("tasks", {}).get(name, {})
            row = {"task": name, "method": method, "n": task["n"], "score": _beside(task, "score", apart, 1)}
            for title, cell in task.get("scores", {}).items():
                if title == "nll":
                    row["nll"] = _beside(cell, "mean", apart.get("nll"), 2)
                elif "chance" in cell:
                    row[f"right (chance {cell['chance']:.0f})"] = _beside(cell, "mean", apart.get("right"), 1)
            rows.append(row)
    frame = pd.DataFrame(rows)
    return Markdown(results.markdown_table(frame.sort_values("task", kind="stable") if weighed else frame))


def table2_beside_paper(document: Mapping) -> Markdown:
    """Table 2 beside a latency document, see `tables.table2.table2_rows`: speedups, estimates, FLOPs pruned / full."""
    return Markdown(results.markdown_table(table2_rows(document), digits=2))


def _beside(cell: Mapping, key: str, against: Mapping | None, digits: int) -> str:
    """A value with its interval, and after it the difference with its own."""
    text = _score(cell[key], cell["ci95"], digits)
    return f"{text} ({_score(against['difference'], against['ci95'], digits, sign=True)})" if against else text


def _score(score: float | None, interval: Sequence[float] | None, digits: int = 1, sign: bool = False) -> str:
    if is_missing(score):
        return "-"
    text = number_text(score, digits, sign)
    if is_missing(interval) or interval_text(interval, digits) is None:
        return text
    return f"{text} [{', '.join(number_text(end, digits, sign) for end in interval)}]"
