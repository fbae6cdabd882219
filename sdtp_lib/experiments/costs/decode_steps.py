"""Where the time of a decode step goes, on the full and the pruned cache: weights, attention, appending, the rest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from statistics import median

import torch
from torch import Tensor
from torch.autograd.profiler import profile
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel

from ...latency.grouped_decode import grouped_decode
from ...latency.timing import Clock
from ...markdown import Markdown
from ...options import DECODES
from ...pruning.context import TokenPruning
from ...pruning.schedule import PruningSchedule
from ...pruning.scoring import Scorer
from ...pruning.versions import with_cache
from ...results import markdown_table

OPERATIONS = {  # part -> how the names of its operations begin
    "weights": ("aten::mm", "aten::addmm", "aten::bmm", "aten::addmv", "aten::mv"),
    "attention": ("aten::_scaled_dot_product", "aten::_flash_attention", "aten::_efficient_attention"),
    "appending": ("aten::cat",),  # DynamicCache copies what it holds; rotary embeddings add a little
}


@torch.no_grad()
def decode_steps(
    model: PreTrainedModel, scorer: Scorer, schedule: PruningSchedule, lengths: Sequence[int], steps: int = 16,
    seed: int = 0,
) -> list[dict]:  # fmt: skip
    """Median seconds of a decode step after prompts of `lengths` random tokens, and the shares of its parts.

    Args:
        scorer, schedule: of the pruned side.
        steps: timed without a profiler, and as many again under one, which gives the shares.

    Returns:
        One dict per length, attention (`options.DECODES`) and side (full, pruned): tokens, decode, side, seconds,
        and the shares (0 to 1) of weights, attention, appending, rest.

    Raises:
        ValueError: if the model does not run sdpa attention, or its family is not supported.
    """
    sides = {"full": None, "pruned": TokenPruning(schedule, scorer)}
    places = [(tokens, decode, side) for tokens in lengths for decode in DECODES for side in sides]
    rows = []
    for tokens, decode, side in tqdm(places, desc="decode steps", unit="side"):
        ids = torch.randint(model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(seed))
        grouped = grouped_decode(model) if decode == "grouped" else nullcontext()
        with grouped, sides[side](model) if sides[side] else nullcontext():
            cache = DynamicCache(config=model.config)
            token = _step(model, ids.to(model.device), cache)
            for _ in range(2):  # warm-up
                token = _step(model, token, cache)
            clock, seconds = Clock(model.device), []
            for _ in range(steps):
                start = clock.read()
                token = _step(model, token, cache)
                seconds.append(clock.seconds(start, clock.read()))
            shares = _shares(model, token, cache, steps)
        rows.append({"tokens": tokens, "decode": decode, "side": side, "seconds": median(seconds), **shares})
    return rows


def steps_table(found: Sequence[dict]) -> Markdown:
    """What `decode_steps` gave, in milliseconds a step and percent of it."""
    return Markdown(markdown_table([
        {key: row[key] for key in ("tokens", "decode", "side")}
        | {"step, ms": 1000 * row["seconds"]}
        | {f"{part}, %": 100 * row[part] for part in (*OPERATIONS, "rest")}
        for row in found
    ], digits=0))  # fmt: skip


def _step(model: PreTrainedModel, ids: Tensor, cache: DynamicCache) -> Tensor:
    """The next token (1, 1) after `ids` (1, tokens)."""
    out = model(input_ids=ids, use_cache=True, **with_cache(model, cache), logits_to_keep=1)
    return out.logits[:, -1].argmax(dim=-1, keepdim=True)


def _shares(model: PreTrainedModel, token: Tensor, cache: DynamicCache, steps: int) -> dict[str, float]:
    """Share of each part in the time of all operations, on the device that runs them."""
    gpu = model.device.type == "cuda"
    with profile(use_device="cuda" if gpu else None, use_kineto=gpu) as profiler:
        for _ in range(steps):
            token = _step(model, token, cache)
    times = {
        event.key: event.self_device_time_total if gpu else event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    whole = sum(times.values())
    shares = {
        part: sum(time for name, time in times.items() if name.startswith(begins)) / whole
        for part, begins in OPERATIONS.items()
    }
    return {**shares, "rest": 1 - sum(shares.values())}
