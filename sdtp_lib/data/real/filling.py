"""Prompts of a wanted number of tokens, and spans of a text to choose from."""

from __future__ import annotations

import random
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST = 0.9  # of the wanted tokens that a prompt has at least
TRIES = 24  # pieces behind the first one too long that are tried for the rest
OTHERS = 3  # wrong spans to choose from beside the right one


@dataclass(frozen=True)
class Length:
    """How long a prompt shall be, and how long one is.

    Args:
        tokens: wanted at most; at least LEAST of them.
        of: record -> tokens of its whole prompt, as the model is asked it.
    """

    tokens: int
    of: Callable[[dict], int]


class Unfit(ValueError):
    """What is asked fits no prompt of the wanted length, while something else might."""


def chosen(
    pieces: Sequence[str], make: Callable[[Sequence[str]], dict], length: Length, tries: int = TRIES
) -> list[int]:
    """Which of `pieces`, from the first one on, the longest prompt has that is not longer than wanted.

    Where the next piece is too long, shorter ones among the `tries` behind it take the rest of the room.

    Args:
        make: pieces -> record.

    Raises:
        Unfit: if the prompt is too long without any of them.
    """

    def fits(taken: Sequence[int]) -> bool:
        return length.of(make([pieces[number] for number in taken])) <= length.tokens

    if not fits([]):
        raise Unfit(f"{length.tokens} tokens leave no room for text: the question alone takes {length.of(make([]))}")
    most = 16  # twice as many pieces until they are too many: to count the tokens of all text takes long
    while most < len(pieces) and fits(range(most)):
        most *= 2
    count = bisect_left(range(1, min(most, len(pieces)) + 1), True, key=lambda n: not fits(range(n)))
    taken = [*range(count)]
    for number in range(count + 1, min(count + 1 + tries, len(pieces))):
        if fits([*taken, number]):
            taken.append(number)
    return taken


def fill(
    pieces: Sequence[str], make: Callable[[Sequence[str]], dict], length: Length, tries: int = TRIES
) -> dict:
    """The record of the pieces that are `chosen`.

    Raises:
        Unfit: if there is no room for any.
        ValueError: if the pieces are too short for the wanted length.
    """
    record = make([pieces[number] for number in chosen(pieces, make, length, tries)])
    if (found := length.of(record)) < LEAST * length.tokens:
        raise ValueError(f"the text is too short for {length.tokens} tokens: all of it makes a prompt of {found}")
    return record


def stands_in(text: str, span: str) -> bool:
    """Whether a span stands in a text as whole words, in capitals or not."""
    return re.search(rf"(?<!\w){re.escape(span)}(?!\w)", text, re.I) is not None


def place(text: str, *inside: str) -> list[int]:
    """[first, last + 1]: the characters of `text` that the last of some texts takes, each of which stands in the one
    before it, where that has it first.

    Raises:
        ValueError: if one does not stand there.
    """
    start = 0
    for outer, inner in pairwise([text, *inside]):
        start += outer.index(inner)
    return [start, start + len(inside[-1])]


def is_number(span: str) -> bool:
    """Whether a span has a digit in it."""
    return re.search(r"\d", span) is not None


def alike(one: str, other: str) -> bool:
    """Whether two spans might be taken for one answer: they share a number, or a word of four letters or more."""
    ours, theirs = ({word for word in re.findall(r"\w+", span.casefold()) if len(word) > 3 or is_number(word)}
                    for span in (one, other))  # fmt: skip
    return not ours.isdisjoint(theirs) or stands_in(one, other) or stands_in(other, one)


def other_spans(rng: random.Random, answer: str, text: str, known: Collection[str]) -> list[str]:
    """OTHERS further spans that stand in `text`, wrong where `answer` is right, and the likest there are.

    Spans with a digit for an answer with one, those of `known` before words of the text itself, and of these those of
    as many words as the answer.

    Raises:
        ValueError: if the text has not so many.
    """
    size = len(answer.split())
    words = re.findall(r"\w[\w'’.,:-]*\w|\w", text)
    runs = {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}
    spans = [(run, 1) for run in runs if len(run) > 3 or is_number(run)] + [(span, 0) for span in set(known)]
    likest = sorted(
        (is_number(span) != is_number(answer), rank, abs(len(span.split()) - size), rng.random(), span)
        for span, rank in sorted(spans)
    )
    chosen: list[str] = []
    for *_, span in likest:
        if len(chosen) == OTHERS:
            break
        if span in text and not any(alike(span, other) for other in (answer, *chosen)):
            chosen.append(span)
    if len(chosen) < OTHERS:
        raise ValueError(f"the text has no {OTHERS} spans beside {answer!r}")
    return chosen
