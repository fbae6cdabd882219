"""How a pruner is meant to be used, as its record says: scores pooled over so many neighbours, under which schedules.

`sdtp tune` writes it: `{"pool": 7, "schedules": {"1.6": {...}, ...}}`, each schedule under the FLOP ratio that it was
searched for, the default first. A pruner without it is used as it is, under a schedule that the caller names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from .pooled import check_width, pooled

USE = "use"


def use(schedules: Mapping[str, PruningSchedule], pool: int) -> dict[str, Any]:
    """The entry of a record, plain JSON values."""
    check_width("pool", pool)
    return {"pool": pool, "schedules": {name: schedule.to_dict() for name, schedule in schedules.items()}}


def own_schedules(record: Mapping[str, Any]) -> dict[str, PruningSchedule]:
    """The schedules that a record names, the default first; without any, empty.

    Raises:
        ValueError: for one that is none.
    """
    try:
        named = record.get(USE, {}).get("schedules", {})
        return {name: PruningSchedule(**schedule) for name, schedule in named.items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"the pruner's record names no schedules that can be used: {error}") from None


def as_used(pruner: Scorer) -> Scorer:
    """A `TokenPruner`, pooled as its record says.

    Raises:
        ValueError: for a width that is none.
    """
    return pooled(pruner, pruner.record.get(USE, {}).get("pool", 1))
