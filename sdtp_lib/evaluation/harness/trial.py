"""This project's tasks, made once before a model is loaded, so that what is wrong with them or their data shows."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .tasks import LongBenchTask, RecordTask
from .values import SAMPLING, whole


def try_tasks(options: Namespace) -> None:
    """Make those of the tasks asked for that are this project's, and see whether the options have a meaning for them.

    Options that no task of this run heeds are refused only if all tasks are this project's: what others heed is not
    known here.

    Args:
        options: the harness's, with this project's folder of tasks in their `include_path`; `samples` is put in the
            order in which the harness asks them.

    Raises:
        ValueError: naming task or option and what is wrong with it.
        FileNotFoundError: if the data are not there.
    """
    from lm_eval.tasks import TaskManager

    metadata = {**(options.model_args or {}), **(options.metadata or {})}
    manager = TaskManager(include_path=options.include_path, include_defaults=False, metadata=metadata)
    index = manager.task_index
    leaves = {leaf for name in manager.match_tasks(options.tasks) for leaf in _leaves(index, name)}
    found = manager.load(sorted(leaves - {None}))["tasks"]
    ours = {name: task for name, task in found.items() if isinstance(task, RecordTask)}
    alone = all(name in index for name in options.tasks) and ours.keys() == leaves  # a pattern may match others
    options.samples = _samples(options.samples, ours, alone)
    for name, task in ours.items():
        if (options.num_fewshot or 0) >= (count := len(task.eval_docs)):
            raise ValueError(f"--num_fewshot must be below {count}, the number of records of the task {name}, from "
                             f"which the examples are taken; got {options.num_fewshot}")  # fmt: skip
    if not alone:
        return
    generating = [name for name, task in ours.items() if isinstance(task, LongBenchTask)]
    given = options.gen_kwargs or {}
    if given and not generating:
        raise ValueError(f"--gen_kwargs: none of the tasks {', '.join(ours)} generates; leave it out")
    if (ignored := [name for name in SAMPLING if name in given]) and given.get("do_sample") is not True:
        raise ValueError(f"--gen_kwargs {ignored[0]} has no meaning in greedy decoding; add do_sample=true")
    if (options.metadata or {}).get("data") is not None and not generating:
        raise ValueError(f"--metadata data: the tasks {', '.join(ours)} make their own records; leave it out")


def _leaves(index: Mapping[str, Any], name: str) -> Iterator[str | None]:
    """The tasks of a class of their own under a task, group or tag; None for each of another kind."""
    entry = index.get(name) if isinstance(name, str) else None
    kind = entry.kind.name if entry else None
    if kind == "PY_TASK":
        yield name
    elif kind in ("GROUP", "TAG"):
        for member in entry.tags if kind == "TAG" else entry.cfg.get("task") or ():
            yield from _leaves(index, member)
    else:
        yield None


def _samples(given: Any, ours: Mapping[str, RecordTask], alone: bool) -> dict[str, list[int]] | None:
    """What `--samples` asks for: task -> numbers of its records, ascending."""
    if given is None:
        return None
    if isinstance(given, str):
        try:
            given = json.loads(Path(given).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"--samples must be JSON or a file of it: {error}") from None
    if not isinstance(given, dict) or not given:
        raise ValueError(f"--samples must be an object of tasks and numbers of records, got {given!r}")
    for name, numbers in given.items():
        if alone and name not in ours:
            raise ValueError(f"--samples: no task {name!r} is run; known: {', '.join(ours)}")
        if not isinstance(numbers, list) or not numbers or not all(map(whole, numbers)):
            raise ValueError(f"--samples: {name} must have a list of numbers of records, from 0, got {numbers!r}")
        if name in ours and max(numbers) >= (count := len(ours[name].eval_docs)):
            raise ValueError(f"--samples: {name} has records 0 to {count - 1}, got {max(numbers)}")
    if missing := [name for name in ours if name not in given]:
        raise ValueError(f"--samples says nothing of the task {missing[0]}, which would be run in full; add it")
    return {name: sorted({*numbers}) for name, numbers in given.items()}
