"""Prompts of a wanted number of tokens, and spans of a text to choose from."""

from __future__ import annotations

import random
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

LEAST = 0.9  # of the wanted tokens that a prompt has at least
TRIES = 24  # pieces behind the first one too long that are tried for the rest


@dataclass(frozen=True)
class Length:
    """How long a prompt shall be, and how long one is.

    Args:
        tokens: wanted at most; at least LEAST of them.
        of: record -> tokens of its whole prompt, as the model is asked it.
    """

    tokens: int
    of: Callable[[dict], int]


def fill(
    pieces: Sequence[str],
    make: Callable[[Sequence[str]], dict],
    length: Length,
    enough: bool = True,
    tries: int = TRIES,
) -> dict:
    """The record with the most of `pieces`, from the first one on, whose prompt has at most the wanted tokens.

    Where the next piece is too long, shorter ones among the `tries` behind it take the rest of the room.

    Args:
        make: pieces -> record.
        enough: whether a prompt that is too short is an error.

    Raises:
        ValueError: if there is no room for any, or the pieces are too short for the wanted length.
    """

    def fits(taken: Sequence[str]) -> bool:
        return length.of(make(taken)) <= length.tokens

    if not fits([]):
        raise ValueError(f"{length.tokens} tokens leave no room for text: the question alone takes "
                         f"{length.of(make([]))}")  # fmt: skip
    most = 16  # twice as many pieces until they are too many: to count the tokens of all text takes long
    while most < len(pieces) and fits(pieces[:most]):
        most *= 2
    count = bisect_left(range(1, min(most, len(pieces)) + 1), True, key=lambda n: not fits(pieces[:n]))
    taken = list(pieces[:count])
    for piece in pieces[count + 1 : count + 1 + tries]:
        if fits([*taken, piece]):
            taken.append(piece)
    record = make(taken)
    if enough and (found := length.of(record)) < LEAST * length.tokens:
        raise ValueError(f"the text is too short for {length.tokens} tokens: all of it makes a prompt of {found}")
    return record


def stands_in(text: str, span: str) -> bool:
    """Whether a span stands in a text as whole words, in capitals or not."""
    return re.search(rf"(?<!\w){re.escape(span)}(?!\w)", text, re.I) is not None


def is_number(span: str) -> bool:
    """Whether a span has a digit in it."""
    return re.search(r"\d", span) is not None


def other_spans(rng: random.Random, answer: str, text: str, known: Collection[str], count: int = 3) -> list[str]:
    """`count` further spans that stand in `text`, wrong where `answer` is right, the likest kind there is.

    Spans of `known` come first, those with digits where the answer has some; then words, or numbers, of the text
    itself, as many in a row as the answer has.

    Raises:
        ValueError: if the text has not so many.
    """
    size = len(answer.split())
    words = re.findall(r"\w[\w'’.,:-]*\w|\w", text)
    runs = sorted({" ".join(words[i : i + size]) for i in range(len(words) - size + 1)})
    runs = [run for run in runs if len(run) > 3 or is_number(run)]
    chosen: list[str] = []
    for spans in (sorted(set(known)), runs):
        spans = rng.sample(spans, len(spans))
        for alike in (True, False):
            for span in spans:
                if len(chosen) == count:
                    return chosen
                if (is_number(span) == is_number(answer)) is alike and span in text and not any(
                    stands_in(one, other) or stands_in(other, one)
                    for one, other in ((span, had) for had in (answer, *chosen))
                ):
                    chosen.append(span)
    if len(chosen) < count:
        raise ValueError(f"the text has no {count} spans beside {answer!r}")
    return chosen
