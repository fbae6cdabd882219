"""Questions among documents: the paragraph that answers among paragraphs of other articles, the question last.

As RULER's SQuAD task (arXiv 2404.06654).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .filling import Length, Unfit, chosen, fill, other_spans, place, stands_in
from .passages import Passage, pieces


def drawn_questions(passages: Sequence[Passage], seed: str) -> list[tuple[int, int]]:
    """Every question once, as (passage, which of its questions), in a drawn order."""
    asked = [(p, q) for p, passage in enumerate(passages) for q in range(len(passage.questions))]
    random.Random(seed).shuffle(asked)
    return asked


def documents_qa(rng: random.Random, passages: Sequence[Passage], length: Length, asked: tuple[int, int]) -> dict:
    """One question among as many documents as there is room for, in a drawn order; the last one taken may be cut.

    Args:
        asked: which passage, and which of its questions.

    Raises:
        Unfit: if its paragraph is too long, or what is left of the room too short for a sentence.
        ValueError: if all documents are too short, or have too few spans like the answer.
    """
    gold, (question, answers) = passages[asked[0]], passages[asked[0]].questions[asked[1]]
    others = [passage for passage in passages if passage.title != gold.title]
    others = rng.sample(others, len(others))
    places = [rng.random() for _ in range(len(others) + 1)]

    def make(texts: Sequence[str]) -> dict:
        documents = [text for _, text in sorted(zip(places, [gold.text, *texts], strict=False))]
        context = "\n\n".join(f"Document {number}: {text}" for number, text in enumerate(documents, 1))
        return {"context": context, "input": question, "answers": list(answers)}

    texts = [passage.text for passage in others]
    numbers = chosen(texts, make, length)
    taken = [texts[number] for number in numbers]
    cut = next((text for number, text in enumerate(texts) if number not in numbers), "")
    sentences = pieces([Passage("", cut)])
    try:
        record = fill(sentences, lambda part: make([*taken, "".join(part).strip()] if part else taken), length)
    except ValueError as error:
        if not cut:
            raise  # all documents are in it
        raise Unfit(str(error)) from None  # no sentence of the document to be cut is short enough
    context = record["context"]
    known = [answer for passage in passages for other, (answer, *_) in passage.questions
             if other != question and passage.text in context]  # fmt: skip
    return record | {
        "choices": [answers[0], *other_spans(rng, answers[0], context, known)],
        "evidence": place(context, gold.text, answering(gold, question, answers[0])),
    }


def answering(passage: Passage, question: str, answer: str) -> str:
    """The sentence that answers: of those in which the answer stands the one that has most words of the question."""
    asked = {*re.findall(r"\w+", question.casefold())}

    def fits(sentence: str) -> tuple[bool, int]:
        return stands_in(sentence, answer), len(asked & {*re.findall(r"\w+", sentence.casefold())})

    return max(pieces([passage]), key=fits).strip()
