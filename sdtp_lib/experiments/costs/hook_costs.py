"""What pruning itself costs within a prefill: the time spent in its hooks, read inside them.

The difference of two whole prefills would drown in the machine's noise; the hooks' own clock readings do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from statistics import median
from typing import Any

import torch
from tqdm import trange
from transformers import PreTrainedModel

from ...latency.timing import Clock, timed_run
from ...markdown import Markdown
from ...pruning.context import TokenPruning
from ...pruning.hooks import Session
from ...pruning.schedule import PruningSchedule
from ...pruning.scoring import Scorer
from ...results import markdown_table

HOOKS = ("begin", "enter_layer", "end")  # all that pruning does happens in these
PARTS = ("scores", "choose", "cut", "tell")  # nested: `cut` holds the first two, `enter_layer` holds `cut` and `tell`

SHOWN = ("scoring", "selecting", "gathering", "telling")


class Stopwatch:
    """Pairs of clock readings around calls, by name."""

    def __init__(self, clock: Clock):
        self.clock, self.pairs = clock, {}

    def around(self, name: str, call: Callable) -> Callable:
        """`call`, with a reading before and after it."""

        @wraps(call)
        def timed(*args, **kwargs) -> Any:
            start = self.clock.read()
            result = call(*args, **kwargs)
            self.pairs.setdefault(name, []).append((start, self.clock.read()))
            return result

        return timed

    def seconds(self, name: str) -> float:
        """Seconds spent in the calls of that name so far."""
        return sum(self.clock.seconds(*pair) for pair in self.pairs.get(name, []))


def hook_overhead(
    model: PreTrainedModel, scorer: Scorer | None, schedule: PruningSchedule, tokens: int, repeats: int = 5,
    seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Seconds of one prefill of random ids, batch 1, and of the hooks within it; medians over the repeats.

    Args:
        scorer, schedule: see `TokenPruning`.
        tokens: length of the prompt.
        repeats: timed runs, after one that is not.

    Returns:
        In seconds: prefill, hooks (all of them), and of these scoring, selecting, gathering (of hidden states, with the
        rest of a cut) and telling (layers their positions and masks); share: hooks / prefill.
    """
    pruning = TokenPruning(schedule, scorer)
    ids = torch.randint(model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(seed))
    rows = []
    for turn in trange(repeats + 1, desc=f"hooks at {tokens} tokens", unit="run"):
        watch = Stopwatch(Clock(model.device))
        pruning.session_of = partial(_timed_session, watch)
        with pruning(model):
            run = timed_run(model, ids.to(model.device), 1)
        if turn:
            scoring, selecting = watch.seconds("scores"), watch.seconds("choose")
            hooks = sum(watch.seconds(name) for name in HOOKS)
            rows.append({
                "prefill": run.prefill, "hooks": hooks, "scoring": scoring,
                "selecting": selecting, "gathering": watch.seconds("cut") - scoring - selecting,
                "telling": watch.seconds("tell"),
                "share": hooks / run.prefill,
            })  # fmt: skip
    return {name: median(row[name] for row in rows) for name in rows[0]}


def _timed_session(watch: Stopwatch, *args) -> Session:
    """A session whose methods run on the stopwatch."""
    session = Session(*args)
    for name in (*HOOKS, *PARTS):
        setattr(session, name, watch.around(name, getattr(session, name)))
    return session


def hook_costs(
    model: PreTrainedModel, scorer: Scorer, schedule: PruningSchedule, lengths: Sequence[int], repeats: int,
    seed: int = 0,
) -> dict[str, dict[int, dict[str, float]]]:  # fmt: skip
    """`hook_overhead` at each of `lengths`, where the same stages cut nothing and where they cut as `schedule` says."""
    sides = {
        "nothing to cut": replace(schedule, keep_ratio=1.0),
        f"keep {', '.join(map(str, dict.fromkeys(schedule.ratios)))}": schedule,
    }
    return {
        name: {tokens: hook_overhead(model, scorer, side, tokens, repeats, seed=seed) for tokens in lengths}
        for name, side in sides.items()
    }


def hook_table(found: dict[str, dict[int, dict[str, float]]]) -> Markdown:
    """What `hook_costs` gave, in milliseconds, and the share in percent."""
    rows = [
        {"": name, "tokens": tokens}
        | {f"{part}, ms": 1000 * row[part] for part in ("prefill", "hooks", *SHOWN)}
        | {"hooks / prefill, %": 100 * row["share"]}
        for name, lengths in found.items()
        for tokens, row in lengths.items()
    ]
    return Markdown(markdown_table(rows, {title: 1 for title in rows[0] if title.endswith("ms")}))
