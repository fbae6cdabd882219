"""Figure 5: how many stages a schedule has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..markdown import Markdown
from ..pruning.schedule import PruningSchedule
from .schedule_quality import Point

FIRST, RATIO = 4, 0.9  # of the paper's stages


def stage_counts(counts: Sequence[int], num_layers: int) -> list[Point]:
    """The pruner under the first 1, 2, ... of the paper's stages, one every third layer where there is room (Fig. 5).

    A model too shallow for the largest count at every third layer has them closer together, still evenly apart.

    Raises:
        ValueError: if the largest count does not fit the layers from FIRST on.
    """
    step = min(3, (num_layers - 1 - FIRST) // max(1, max(counts) - 1))  # the last one needs no layer behind it
    if step < 1:
        raise ValueError(f"{max(counts)} stages do not fit layers {FIRST} to {num_layers - 1}")
    return [
        {
            "method": "sdtp", "stages": count,
            "schedule": PruningSchedule(tuple(FIRST + step * stage for stage in range(count)), RATIO),
        }
        for count in counts
    ]  # fmt: skip


def said_of_stages(found: Mapping) -> Markdown:
    """Figure 5 in a sentence for every method: its line is flat where the method loses nothing.

    Args:
        found: `full`, the full model's score, and `points` of `stage_counts`, measured.
    """
    said = []
    for method in dict.fromkeys(point["method"] for point in found["points"]):
        points = sorted((p for p in found["points"] if p["method"] == method), key=lambda point: point["stages"])
        scores = ", ".join(f"{point['score']:.1f} with {point['stages']}" for point in points)
        said.append(f"By the number of stages {method} scores {scores}; the full model {found['full']:.1f}.")
    return Markdown("\n\n".join(said))
