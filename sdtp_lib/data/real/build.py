"""The tasks on real text by name, and records of them in LongBench's fields."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from .filling import Length, Unfit
from .needles import needle, needle_multi, needle_reworded
from .passages import Passage
from .prose import prose_nll
from .questions import documents_qa, drawn_questions

SEED = 2025  # of the records: every method and every seed of a pruner is asked the same ones
COUNT = 100  # records of a task when no limit is given
BUILDERS = {task.__name__: task for task in (needle, needle_multi, needle_reworded, documents_qa, prose_nll)}


def real_records(
    task: str,
    passages: Sequence[Passage],
    tokens: int,
    length_of: Callable[[dict], int],
    limit: int | None = None,
    seed: int = SEED,
) -> list[dict]:
    """`limit` records of one task, each with a prompt of at most `tokens` tokens and at least nine tenths of them.

    The first records do not depend on the limit. Besides LongBench's fields they have `choices` (spans that all stand
    in the context, the right one first) where the task has any, `evidence` (the first character of the context and the
    one behind the last that the answer can be read from) where some are, and `group`, the kind of value, where there
    are some.

    Args:
        task: a key of BUILDERS.
        passages: of `read_passages`.
        length_of: record -> tokens of its whole prompt, as the model is asked it.
        limit: None makes COUNT; a question is asked once, and not if it is `Unfit`, so of `documents_qa` there may be
            fewer.
        seed: of everything that is drawn.

    Raises:
        ValueError: for an unknown task, passages without questions where they are asked, or too short for `tokens`, or
            if `tokens` leave no room for any record.
    """
    if task not in BUILDERS:
        raise ValueError(f"unknown task {task!r}; known: {', '.join(BUILDERS)}")
    limit = limit or COUNT
    numbers: Sequence = range(limit)
    if task == "documents_qa":
        check_questions(passages)
        numbers = drawn_questions(passages, f"{task}-{seed}")
    length = Length(tokens, lambda record: length_of({"dataset": task, "_id": "", **record}))
    records, unfit = [], None
    for number in numbers:
        if len(records) == limit:
            break
        name = f"{task}-{tokens}-{seed}-{len(records)}"
        try:
            record = BUILDERS[task](random.Random(name), passages, length, number)
        except ValueError as error:
            if task == "documents_qa" and isinstance(error, Unfit):  # the next question may do
                unfit = unfit or error
                continue
            raise ValueError(f"{task} record {len(records)}: {error}") from None
        records.append(record | {"dataset": task, "_id": name, "all_classes": None})
    if unfit and not records:
        raise ValueError(f"{task} record 0: {unfit}")
    return records


def check_questions(passages: Sequence[Passage]) -> None:
    """Raise ValueError if there is nothing to ask."""
    if not any(passage.questions for passage in passages):
        raise ValueError("documents_qa needs paragraphs with questions, which Python's documentation has not; give "
                         "--data squad, or --data FOLDER with a squad_test.jsonl in it")  # fmt: skip
