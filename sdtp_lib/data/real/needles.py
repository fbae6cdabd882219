"""One sentence with a value, or four, at drawn depths of real prose; the prompt ends with the beginning of one of them.

As RULER's niah_single and niah_multikey (arXiv 2404.06654), in cloze form, which needs no model that follows orders. In
`needle_reworded` the end of the prompt says the same in other words, as in NoLiMa (arXiv 2502.05167): a score that
looks for the question's words does not find the sentence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from .filling import Length, fill, other_spans, place, stands_in
from .passages import Passage, pieces

KINDS = ("number", "word")
MULTI = 4  # needles of `needle_multi`
PLACES = (
    "bakery", "lighthouse", "museum", "harbour", "chapel", "brewery", "orchard", "theatre", "stable", "quarry", "mill",
    "castle", "ferry", "greenhouse", "observatory", "bookshop", "hospital", "vineyard", "barracks", "cinema",
    "aquarium", "tannery", "monastery", "windmill",
)  # fmt: skip
WORDS = (
    "apple", "basket", "bridge", "button", "candle", "carpet", "cherry", "circus", "copper", "cotton", "diamond",
    "dragon", "eagle", "engine", "feather", "forest", "garden", "ginger", "guitar", "hammer", "honey", "island",
    "jacket", "kitchen", "ladder", "lemon", "lion", "marble", "meadow", "mirror", "monkey", "mountain", "needle",
    "ocean", "orange", "pepper", "piano", "pillow", "planet", "pocket", "rabbit", "ribbon", "rocket", "salmon",
    "saddle", "shadow", "silver", "spider", "summer", "sugar", "thunder", "ticket", "tiger", "tomato", "trumpet",
    "turtle", "umbrella", "velvet", "violin", "wagon", "walnut", "winter", "wizard", "zebra",
)  # fmt: skip


# Hidden and asked for: what is not the same says the same in other words.
CUE, ASKED = "The secret {kind} of the {thing} is", "The hidden {kind} for our {thing} was"
OTHER_KINDS = {"number": "digits", "word": "password"}
OTHER_THINGS = (
    ("physician", "doctor"), ("automobile", "car"), ("infant", "baby"), ("attorney", "lawyer"), ("film", "movie"),
    ("couch", "sofa"), ("stone", "rock"), ("pupil", "student"), ("inn", "hotel"), ("author", "writer"),
    ("thief", "robber"), ("monarch", "king"), ("shop", "store"), ("prison", "jail"), ("hen", "chicken"),
    ("sailor", "seaman"), ("cemetery", "graveyard"), ("cab", "taxi"), ("pistol", "gun"), ("lake", "pond"),
)  # fmt: skip


def needle(rng: random.Random, passages: Sequence[Passage], length: Length, number: int) -> dict:
    """One sentence with a value; the records of even `number` have numbers, the others common words."""
    return _hide(rng, passages, length, KINDS[number % 2], 1)


def needle_multi(rng: random.Random, passages: Sequence[Passage], length: Length, number: int) -> dict:
    """Four such sentences with different keys and values of one kind, of which one is asked for."""
    return _hide(rng, passages, length, KINDS[number % 2], MULTI)


def needle_reworded(rng: random.Random, passages: Sequence[Passage], length: Length, number: int) -> dict:
    """One sentence with a value, as `needle`, asked for in other words."""
    return _hide(rng, passages, length, KINDS[number % 2], 1, reworded=True)


def _hide(
    rng: random.Random, passages: Sequence[Passage], length: Length, kind: str, count: int, reworded: bool = False
) -> dict:
    start = rng.randrange(len(passages))
    text = pieces([*passages[start:], *passages[:start]])
    keys = rng.sample(OTHER_THINGS, count) if reworded else [(key, key) for key in rng.sample(PLACES, count)]
    depths = [rng.random() for _ in range(count)]
    values = _values(rng, kind, count, " ".join(text))
    cues = [CUE.format(kind=kind, thing=key) for key, _ in keys]
    asked = ASKED.format(kind=OTHER_KINDS[kind], thing=keys[0][1]) if reworded else cues[0]

    def make(taken: Sequence[str]) -> dict:
        hidden = list(taken)
        # From the end on, so that no needle moves another one's place.
        for depth, cue, value in sorted(zip(depths, cues, values, strict=True), reverse=True):
            hidden.insert(round(depth * len(taken)), f"{cue} {value}. ")
        return {
            "context": "".join(hidden).rstrip(), "input": asked, "answers": [values[0]], "depth": round(depths[0], 4),
            "group": f"{kind}s",
        }  # fmt: skip

    record = fill(text, make, length)
    wrong = values[1:] if count > 1 else other_spans(rng, values[0], record["context"], ())
    return record | {"choices": [values[0], *wrong], "evidence": place(record["context"], f"{cues[0]} {values[0]}.")}


def _values(rng: random.Random, kind: str, count: int, text: str) -> list[str]:
    """Different ones that stand nowhere in the text.

    Raises:
        ValueError: if the text has nearly all of them.
    """
    numbers = (str(rng.randint(10_000, 99_999)) for _ in range(1000))
    values: list[str] = []
    for value in numbers if kind == "number" else rng.sample(WORDS, len(WORDS)):
        if value not in values and not stands_in(text, value):
            values.append(value)
        if len(values) == count:
            break
    if len(values) < count:
        raise ValueError(f"the text holds nearly all of the {kind}s that could be hidden in it")
    return values
