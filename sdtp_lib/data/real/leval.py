"""L-Eval (arXiv 2307.11088): several questions on each of some long documents, from a folder with its files."""

from __future__ import annotations

import os
import re
from itertools import chain, combinations, islice

from ..corpora import rows_of
from ..records import LEVAL_DOCUMENT, check
from ..tasks import DATASETS, LAST_NUMBER, LETTERS, NUMBER

LONGEST = 7500  # tokens of a prompt, if no other number is asked for; its middle is cut out of a longer one


def leval_records(dataset: str, source: str | os.PathLike | None, limit: int | None = None) -> list[dict]:
    """The first `limit` questions of one dataset, in LongBench's fields.

    Questions that list options have `choices`: the letters, of coursera, where several may be right, all sets of them.

    Args:
        source: folder with `<dataset>.jsonl` (`instructions`, `outputs`, `input`).

    Raises:
        ValueError: without a source, for a document that does not fit `records.LEVAL_DOCUMENT`, such as one with a
            question that has no answer, or an answer that is none of the options, or no number where one is asked for.
        FileNotFoundError: if the file is not there.
    """
    if source is None:
        raise ValueError(f"{dataset} is L-Eval's: give --data FOLDER with its {dataset}.jsonl in it")
    found = list(islice(_records(dataset, source), limit))
    if not found:
        raise ValueError(f"{dataset} in {source} holds no records")
    return found


def _records(dataset: str, source: str | os.PathLike):
    for number, (where, row) in enumerate(rows_of(source, dataset, "test", None)):
        check(row, LEVAL_DOCUMENT, where)
        if len(row["instructions"]) != len(row["outputs"]):
            raise ValueError(f"{where} has {len(row['instructions'])} instructions, but {len(row['outputs'])} outputs")
        for index, (question, answer) in enumerate(zip(row["instructions"], row["outputs"], strict=True)):
            record = {"context": row["input"], "input": question.strip(), "answers": [answer.strip()]}
            place = f"{where}, field outputs[{index}]: {answer!r} is"
            if DATASETS[dataset].metric == LETTERS:
                record["choices"] = _choices(question, several=dataset == "coursera")
                if record["answers"][0] not in record["choices"]:
                    raise ValueError(f"{place} none of the question's options")
            if DATASETS[dataset].metric == LAST_NUMBER and not re.fullmatch(NUMBER, record["answers"][0]):
                raise ValueError(f"{place} no plain number, such as 18 or 1,800.50")
            yield record | {"dataset": dataset, "_id": f"{dataset}-{number}-{index}", "all_classes": None}


def _choices(question: str, several: bool) -> list[str]:
    """The letters that options begin with, or all sets of them, such as "ABD"."""
    letters = sorted(set(re.findall(r"^([A-Z])[.):]", question, re.M)))
    sizes = range(1, len(letters) + 1) if several else (1,)
    return ["".join(chosen) for chosen in chain.from_iterable(combinations(letters, size) for size in sizes)]
