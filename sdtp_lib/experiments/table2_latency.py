"""Table 2: the latency files of a sweep as one table, and the longest prompt timed beside the paper's shortest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import paper as paper_numbers
from ..markdown import Markdown, paper_ours
from ..tables.table2 import latency_table


def latency_report(folder: Path, mode: str, lengths: Sequence[int], output: Path) -> Markdown:
    """Table 2 of the four latency files in `folder`, written to `output` and shown."""
    files = [folder / f"latency_results_{name}.json" for name in ("baseline", "keep09", "keep08", "keep07")]
    latency_table(*files, mode=mode, lengths=lengths, output=output)
    return Markdown(output.read_text())


def speedup_against_paper(document: dict, mode: str) -> Markdown:
    """The longest prompt timed here beside the paper's shortest: speedups, FLOPs saved, and the KV cache's."""
    length, ours = max(
        ((int(n), row) for n, row in document["results"].items() if "error" not in row), key=lambda x: x[0]
    )
    shortest = min(paper_numbers.TABLE2)
    theirs = paper_numbers.TABLE2[shortest]
    saved = 1 - theirs["prefill TFLOPs SDTP"] / theirs["prefill TFLOPs full"]
    rows = [
        ("prompt tokens", shortest, length, 0),
        ("prefill speedup", theirs["prefill x"], ours["speedup"]["prefill"]),
        ("prefill FLOPs saved", saved, 1 - ours["flops"]["ratio"]),
    ]
    if mode == "end2end":
        rows.append(("end-to-end speedup", theirs["end2end x"], ours["speedup"]["total"]))
        rows.append(("KV cache saved, all layers", None, ours["kv_reduction"]))
    return paper_ours(rows)
