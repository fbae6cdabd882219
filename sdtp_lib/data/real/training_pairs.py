"""Prompts with answers to train pruners on: questions among documents, all from articles that evaluate nothing."""

from __future__ import annotations

import os
import random

from ..tasks import DATASETS
from .filling import Length
from .passages import read_passages
from .questions import documents_qa, drawn_questions

CHARACTERS = (1300, 4400)  # of a prompt, as no tokenizer is known yet: about 300 to 1,000 tokens of English


def question_pairs(
    source: str | os.PathLike, count: int, seed: int, characters: tuple[int, int] = CHARACTERS, backwards: bool = False
) -> list[dict]:
    """`count` prompts in the wording of task `documents_qa`, the question last, of evenly drawn lengths.

    Each question is asked once. Those whose paragraph alone is longer than the drawn length are passed over.

    Args:
        source: as in `read_passages`, of which the training articles are taken.
        seed: of the questions' order, the lengths and the other documents.
        backwards: take the last ones of that order, which are others than the first unless nearly all are taken.

    Returns:
        Training pairs, see `data.pairs`.

    Raises:
        ValueError, FileNotFoundError: as `read_passages`; or if fewer than `count` questions fit.
    """
    passages = read_passages(source, training=True)
    asked = drawn_questions(passages, f"pairs-{seed}")
    pairs: list[dict] = []
    for number in reversed(range(len(asked))) if backwards else range(len(asked)):
        rng = random.Random(f"pairs-{seed}-{number}")
        length = Length(rng.randint(*characters), lambda record: len(_prompt(record)))
        try:
            record = documents_qa(rng, passages, length, asked[number])
        except ValueError:
            continue
        answer = " " + record["answers"][0]
        pair = {"id": f"squad-{seed}-{number}", "prompt": _prompt(record), "answer": answer, "dataset": "squad"}
        pairs.append({**pair, "document": passages[asked[number][0]].title})
        if len(pairs) == count:
            return pairs
    raise ValueError(f"asked for {count} prompts, but only {len(pairs)} of {len(asked)} training questions fit")


def _prompt(record: dict) -> str:
    return DATASETS["documents_qa"].prompt.format(context=record["context"], input=record["input"])
