"""More to ask about the demo's documents: four answers to choose from, or a second question."""

from __future__ import annotations

import random

from .corpus import BUILDERS, record_of
from .dense import DENSE_BUILDERS

CHOICES = 4
CHOICE_DATASETS = ("singledoc_qa", "multidoc_qa", "few_shot", "code_completion")  # a report has one summary alone


def mini_choice(dataset: str, count: int, seed: int = 2025, tokens: tuple[int, int] = (480, 960)) -> list[dict]:
    """`count` four-way questions: records as `longbench_mini` makes them, with `choices` and `gold`, their right one.

    The wrong choices answer other questions on the same document, so that it must be read to tell them apart.

    Args:
        dataset: one of CHOICE_DATASETS.
        count: number of records; each has its own document.
        seed: the training script uses seeds from 10**6 on, so any smaller seed gives fresh documents.
        tokens: range of document lengths, in tokens; long enough for four different answers.

    Raises:
        ValueError: for an unknown dataset.
    """
    if dataset not in CHOICE_DATASETS:
        raise ValueError(f"unknown multiple-choice dataset {dataset!r}; known: {', '.join(CHOICE_DATASETS)}")
    records = []
    for index in range(count):
        rng = random.Random(f"choice-{dataset}-{seed}-{index}")
        doc = BUILDERS[dataset](rng, rng.randint(*tokens))
        question, answer = rng.choice(doc.pairs)
        others = {text for _, text in doc.pairs} | set(doc.classes or ())
        choices = rng.sample(sorted(others - {answer}), CHOICES - 1) + [answer]
        rng.shuffle(choices)
        records.append(record_of(doc, question, answer, f"choice-{dataset}-{seed}-{index}"))
        records[-1] |= {"choices": choices, "gold": choices.index(answer)}
    return records


TWICE_DATASETS = (*CHOICE_DATASETS, *DENSE_BUILDERS)


def two_questions(dataset: str, count: int, seed: int = 2025, tokens: tuple[int, int] = (272, 960)) -> list[dict]:
    """`count` records with two different questions on one document: `second` is {"input", "answers"}.

    Args:
        dataset: one of TWICE_DATASETS.
        count: number of records; each has its own document.
        seed: the training script uses seeds from 10**6 on, so any smaller seed gives fresh documents.
        tokens: range of document lengths, in tokens.

    Raises:
        ValueError: for another dataset.
    """
    if dataset not in TWICE_DATASETS:
        raise ValueError(f"no second question for {dataset!r}; known: {', '.join(TWICE_DATASETS)}")
    builder, records = {**BUILDERS, **DENSE_BUILDERS}[dataset], []
    for index in range(count):
        name = f"twice-{dataset}-{seed}-{index}"
        rng = random.Random(name)
        doc = builder(rng, rng.randint(*tokens))
        first, second = rng.sample(list(dict.fromkeys(doc.pairs)), 2)  # a chain may come twice
        records.append(record_of(doc, *first, name) | {"second": {"input": second[0], "answers": [second[1]]}})
    return records
