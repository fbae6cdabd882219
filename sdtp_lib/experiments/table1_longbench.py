"""Table 1: LongBench under every method, and the points lost beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paper as paper_numbers
from ..evaluation.compare import compare
from ..evaluation.methods import Pruners
from ..evaluation.task_records import records_of
from ..markdown import Markdown, paper_ours
from ..paper import CATEGORIES


def longbench(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: str, source: str | None, limit: int | None,
    pruner: Pruners, methods: Sequence[str], tokens: int | None = None, **options,
) -> dict[str, dict]:  # fmt: skip
    """Table 1's data: method -> summary, on the same records.

    Args:
        tasks, source, limit, tokens: see `evaluation.task_records.records_of`.
        pruner, methods, options: of `evaluation.compare.compare`.
    """
    records = records_of(model, tokenizer, tasks, limit, source, tokens)
    return compare(model, tokenizer, records, pruner, methods, **options)


def losses_against_paper(found: dict[str, dict]) -> Markdown:
    """Points lost against the full model, by those of the paper's categories that were run, and on average: the paper's
    and ours, of the methods that the paper has."""
    rows = []
    for method in (name for name in found if name != "full" and name in paper_numbers.TABLE1_NAMES):
        theirs = paper_numbers.TABLE1.get(paper_numbers.TABLE1_NAMES[method])
        for column in (*(name for name in CATEGORIES if name in found["full"]["categories"]), "AVG"):
            both = (found[name] for name in ("full", method))
            full, ours = (row["average"] if column == "AVG" else row["categories"][column]["score"] for row in both)
            paper = theirs[column] - paper_numbers.TABLE1["original"][column] if theirs else None
            rows.append((f"{method}, {column}", paper, ours - full))
    return paper_ours(rows)
