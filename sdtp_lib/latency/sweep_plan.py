"""What a latency sweep measures, and how the full and the pruned model take turns in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from ..options import DECODES, MODES
from ..pruning.schedule import PRESET_NAMES, is_name
from ..scorers.token_pruner import check_seed
from .chunked_mlp import check_tokens, chunked_mlp
from .grouped_decode import grouped_decode
from .timing import Run, timed_run

WARMUP_TOKENS = 4  # enough decode steps to touch every kernel of a step


@dataclass(frozen=True)
class Plan:
    """What a sweep measures, checked before a model is loaded.

    Args:
        mode: `prefill`, or `end2end` which decodes as well.
        configs: presets of `PruningSchedule`, or schedules that the pruner was tuned for.
        lengths: prompt lengths in tokens; the prompts are seeded random ids, batch 1.
        repeats: timed runs of each side, after one short warm-up.
        new_tokens: generated on both sides, no more and no less; `prefill` stops at the first.
        seed: of prompts and random weights.
        resume: go on with the lengths that agreeing files lack, instead of starting afresh.
        profile_name: whose results they are, recorded with them; None: nobody's.
        chunk: tokens for `chunked_mlp`, on both sides; None leaves the MLPs whole.
        decode: attention of the decode steps, on both sides: `sdpa`, or `grouped` (see `grouped_decode`).

    Raises:
        ValueError: for a value out of range or an unknown name; the message names it.
    """

    mode: str
    configs: Sequence[str]
    lengths: Sequence[int]
    repeats: int = 3
    new_tokens: int = 128
    seed: int = 0
    resume: bool = False
    profile_name: str | None = None
    chunk: int | None = None
    decode: str = "sdpa"

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}; known: {', '.join(MODES)}")
        for config in self.configs:
            if not is_name(config):
                raise ValueError(f"unknown config {config!r}; known: {', '.join(PRESET_NAMES)}")
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"lengths must be 1 token or more, got {list(self.lengths)}")
        check_seed(self.seed)
        if self.repeats < 1:
            raise ValueError(f"repeats must be 1 or more, got {self.repeats}")
        if self.new_tokens < 2:
            raise ValueError(f"new_tokens must be 2 or more, or there is no decode to time, got {self.new_tokens}")
        if self.chunk is not None:
            check_tokens(self.chunk)
        if self.decode not in DECODES:
            raise ValueError(f"unknown decode {self.decode!r}; known: {', '.join(DECODES)}")


Context = Callable[[nn.Module], AbstractContextManager]


def take_turns(
    sides: Mapping[str, Callable[[int], Run]], repeats: int, new_tokens: int, bar: tqdm
) -> dict[str, list[Run]]:
    """Timed runs of each side after a short warm-up; they take turns, in reverse every other time, so that none is
    always first.

    Args:
        sides: name -> what makes one run with so many new tokens.
        bar: moves once per run.
    """
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name in list(sides) if turn % 2 else reversed(sides):
            run = sides[name](new_tokens if turn else min(new_tokens, WARMUP_TOKENS))
            if turn:
                runs[name].append(run)
            bar.update()
    return runs


def run_under(context: Context | None, model: PreTrainedModel, ids: Tensor, new_tokens: int) -> Run:
    """`timed_run` inside a context of the model, such as a `TokenPruning`; None leaves the model as it is."""
    with context(model) if context else nullcontext():
        return timed_run(model, ids, new_tokens)


def alternate(
    model: PreTrainedModel, sides: Mapping[str, Context | None], length: int, plan: Plan, bar: tqdm
) -> dict[str, list[Run]]:
    """What `take_turns` gives on one random prompt.

    Args:
        sides: name -> what makes a context of the model, see `run_under`.
        length: of one random prompt.
        bar: moves once per run.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    ids: Tensor = torch.randint(model.config.vocab_size, (1, length), generator=generator).to(model.device)
    new_tokens = 1 if plan.mode == "prefill" else plan.new_tokens
    timed = {name: partial(run_under, context, model, ids) for name, context in sides.items()}
    with ExitStack() as alike:
        if plan.chunk is not None:
            alike.enter_context(chunked_mlp(model, plan.chunk))
        if plan.decode == "grouped":
            alike.enter_context(grouped_decode(model))
        return take_turns(timed, plan.repeats, new_tokens, bar)
