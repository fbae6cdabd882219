"""Prompts parted into those to train on, to search with and to measure on; no document is in two parts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ...data.samples import Sample

FEWEST = {"train": 8, "search": 3, "held_out": 5}  # prompts; below, a part says nothing


def split(
    samples: Sequence[Sample], documents: Mapping[str, str], wanted: Mapping[str, int], seed: int
) -> dict[str, list[Sample]]:
    """Part -> its samples, in a seeded order: as many as `wanted`, or in these proportions where there are too few.

    Args:
        documents: id of a sample -> what it is about; samples about one document stay together. A sample that is not
            named here is about its own prompt.
        wanted: part -> samples, at most.

    Raises:
        ValueError: if a part gets fewer than FEWEST.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(documents.get(sample.id) or sample.without_answer().digest, []).append(sample)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    parts: dict[str, list[Sample]] = {name: [] for name in wanted}
    for group in order:
        poorest = min(wanted, key=lambda name: len(parts[name]) / wanted[name])
        parts[poorest] += group
    parts = {name: found[: wanted[name]] for name, found in parts.items()}
    if any(len(found) < FEWEST[name] for name, found in parts.items()):
        got = ", ".join(f"{len(found)} {name}" for name, found in parts.items())
        needed = ", ".join(f"{count} {name}" for name, count in FEWEST.items())
        raise ValueError(
            f"{len(samples)} prompts about {len(groups)} documents are too few to tune on: they give {got}, "
            f"where {needed} is the least"
        )
    return parts
