"""Figure 5: how many stages a schedule has."""

from __future__ import annotations

from collections.abc import Sequence

from ..pruning.schedule import PruningSchedule
from .schedule_quality import Point


def stage_counts(
    counts: Sequence[int], num_layers: int, first: int = 4, ratio: float = 0.9, methods: Sequence[str] = ("sdtp",)
) -> list[Point]:
    """The first 1, 2, ... of the paper's stages, one every third layer from `first` on where there is room (Fig. 5).

    A model too shallow for the largest count at every third layer has them closer together, still evenly apart.

    Raises:
        ValueError: if the largest count does not fit the layers from `first` on.
    """
    step = min(3, (num_layers - first) // max(counts))
    if step < 1:
        raise ValueError(f"{max(counts)} stages do not fit layers {first} to {num_layers - 1}")
    return [
        {
            "method": method, "stages": count,
            "schedule": PruningSchedule(tuple(first + step * stage for stage in range(count)), ratio),
        }
        for method in methods
        for count in counts
    ]  # fmt: skip
