"""How a pruner is meant to be used, as its record says: how its scores are pooled, under which schedules.

`sdtp tune` writes it: `{"pool": 7, "schedules": {"1.6": {...}, ...}}`, each schedule under its name, such as the FLOP
ratio that it was searched for, the default first; sentence by sentence there are `ends` as well, the ids of the tokens
that end one. A pruner without it is used as it is, under a schedule that the caller names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from .pooling import SENTENCES, Pool, check_pool, pooled

USE = "use"


def use(schedules: Mapping[str, PruningSchedule], pool: Pool, ends: Sequence[int] = ()) -> dict[str, Any]:
    """The entry of a record, plain JSON values.

    Args:
        ends: see `pooling.pooled`.
    """
    check_pool("pool", pool)
    ending = {"ends": list(ends)} if pool == SENTENCES else {}
    return {"pool": pool, **ending, "schedules": {name: schedule.to_dict() for name, schedule in schedules.items()}}


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
        ValueError: for a pooling that is none.
    """
    how = pruner.record.get(USE, {})
    return pooled(pruner, how.get("pool", 1), how.get("ends", ()))
