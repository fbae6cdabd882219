"""Plain prose: a run of text as it stands, and the text that follows it, which has to be foreseen."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .filling import Length, fill
from .passages import Passage

NEXT = 64  # tokens of the text that follows


def prose_nll(rng: random.Random, passages: Sequence[Passage], length: Length, number: int) -> dict:
    """Text from a drawn passage on; the answer is the next NEXT words, of which the first NEXT tokens count."""
    start = rng.randrange(len(passages))
    text = "\n\n".join(passage.text.strip() for passage in [*passages[start:], *passages[:start]])
    first, *words = (f"{word} " for word in text.split(" "))

    def make(taken: Sequence[str]) -> dict:
        following = "".join(words[len(taken) : len(taken) + NEXT])
        return {"context": "".join([first, *taken])[:-1], "input": "", "answers": [following[:-1]]}

    return fill(words, make, length, tries=0)
