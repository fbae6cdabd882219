"""What `sdtp demo` runs: one prompt, full and pruned, what that cost each, and the explorer's page of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from statistics import median

import torch
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from .. import results
from ..data.chat import prompt_ids
from ..data.corpora import longbench_records
from ..evaluation.methods import check_names, make_scorer
from ..evaluation.prompts import build_prompt
from ..latency.sweep_plan import run_under, take_turns
from ..models.dtypes import dtype_name
from ..models.loading import load_pruner, load_with_tokenizer
from ..models.named_schedules import default_schedule, resolve_schedule
from ..models.shipped_pruners import shipped_pruners
from ..pruning.context import TokenPruning
from ..scorers.token_pruner import positive
from ..text_files import check_apart
from .command import read_prompt, write_page
from .content import exploration
from .page import VISIBLE

TASK = "multidoc_qa"  # of LongBench-mini; its first record is the prompt
UNTRAINED = "attention"  # scores the tokens of a model that no pruner comes with
UNTRAINED_NOTE = """No pruner comes with this model: last-window attention scores its tokens, which needs no training.
`sdtp tune` makes a pruner; then say --pruner FOLDER."""
TAIL = 100  # characters of the prompt's end that are shown, at most


def demo(
    output: str | os.PathLike = "runs/demo.html",
    model: str | os.PathLike = "demo",
    pruner: str | os.PathLike | None = None,
    schedule: str | None = None,
    prompt_file: str | os.PathLike | None = None,
    *,
    saliency: bool = True,
    new_tokens: int = 48,
    repeats: int = 5,
    chat_template: bool | None = None,
    dtype: str = "auto",
    device: str | None = None,
    revision: str | None = None,
    any_model: bool = False,
) -> dict:
    """Prune one prompt, time its prefill, and write the explorer's page of it: what `sdtp demo` runs.

    Args:
        output: HTML file, written last.
        model: see `models.load_model`; `dtype`, `device` and `revision` go there.
        pruner, any_model: folder of the trained pruner, see `models.load_pruner`. Without one the tokens of a model
            that no pruner comes with are scored by `UNTRAINED`, last-window attention.
        schedule: its name, see `models.named_schedules.resolve_schedule`; None: the pruner's own, else the paper's.
        prompt_file: as `explore` takes it; None takes the first record of `TASK`.
        saliency: False leaves it out of the page, and so the backward pass.
        new_tokens: at most so many in each generated answer.
        repeats: timed prefills of each side, after a warm-up.
        chat_template: as `explore` takes it.

    Returns:
        What `exploration` gives of the pruner and of as many tokens dropped at random, and `dtype`, `device`, `repeats`
        and `prefill`: [full, pruned], medians in seconds; `record`: None for a prompt of one's own, or `name` and
        `answer` of the record.

    Raises:
        ValueError, FileNotFoundError: as `explore`; nothing is written then.
    """
    check_names("sdtp", schedule, pruner)
    results.check_output(output)
    check_apart(output, prompt_file)
    positive("new_tokens", new_tokens)
    positive("repeats", repeats)
    text, record = demo_prompt() if prompt_file is None else (read_prompt(prompt_file), None)
    network, tokenizer = load_with_tokenizer(model, dtype, device, revision)
    schedule = default_schedule(network, pruner) if schedule is None else schedule
    stages = resolve_schedule(schedule, network, pruner)
    if pruner is None and not shipped_pruners(network):
        name, scorer = UNTRAINED, make_scorer(UNTRAINED)
    else:
        name, scorer = "sdtp", load_pruner(pruner, network, stages, any_model=any_model)
    scorers = {name: scorer, "random": make_scorer("random")}
    found = exploration(
        network, tokenizer, text, scorers, stages,
        saliency=saliency, new_tokens=new_tokens, chat_template=chat_template,
    )  # fmt: skip
    ids = torch.tensor([prompt_ids(tokenizer, text, found["chat_template"] is not None)], device=network.device)
    found |= {"prefill": prefill_times(network, ids, TokenPruning(stages, scorer), repeats), "repeats": repeats}
    found |= {"record": record, "dtype": dtype_name(network), "device": str(network.device)}
    write_page(output, found, schedule)
    return found


def demo_prompt() -> tuple[str, dict]:
    """The prompt of the demo, and the `name` and `answer` of the record that it is made of."""
    (record,) = longbench_records(TASK, limit=1)
    return build_prompt(record), {"name": record["_id"], "answer": record["answers"][0]}


def prefill_times(model: PreTrainedModel, ids: Tensor, pruning: TokenPruning, repeats: int) -> list[float]:
    """Seconds of the prefill of `ids` (1, tokens) by the full and by the pruned model: medians of runs in turns."""
    sides = {"full": partial(run_under, None, model, ids), "pruned": partial(run_under, pruning, model, ids)}
    with tqdm(total=2 * (repeats + 1), desc="prefill", unit="run") as bar:
        runs = take_turns(sides, repeats, 1, bar)
    return [median(run.prefill for run in side) for side in runs.values()]


def report(found: Mapping) -> str:
    """What `demo` found, for a terminal."""
    full, (run, other), record = found["full"], found["runs"], found["record"]
    tokens, left, (slow, fast) = len(found["tokens"]), run["present"][-1], found["prefill"]
    before, after = sum(full["kv_bytes"]), sum(run["kv_bytes"])
    answers = [("right answer", record["answer"])] if record else []
    answers += [("full model", full["answer"]), ("pruned", run["answer"]), ("cut at random", other["answer"])]
    costs = [
        ("", "full", "pruned", ""),
        ("prefill", f"{1000 * slow:.1f} ms", f"{1000 * fast:.1f} ms", f"{slow / fast:.2f}x as fast"),
        ("KV cache after it", f"{before / 1e6:.2f} MB", f"{after / 1e6:.2f} MB", f"{1 - after / before:.0%} saved"),
        ("tokens at the last layer", tokens, left, f"{1 - left / tokens:.0%} dropped"),
    ]
    layers = [stage["layer"] for stage in run["stages"]]
    stages = [("cut at layer", *layers), ("tokens kept", *(run["present"][layer] for layer in layers))]
    end = shown("".join(found["tokens"]))[-TAIL:]
    parts = [
        f"Model {found['model']}, {found['num_layers']} layers, {found['dtype']} on {found['device']}; schedule "
        f"{found['schedule_name']}, tokens scored by {run['name']}.",
        f"Prompt {record['name'] if record else 'of yours'}, {tokens} tokens, ends with\n"
        f"  ... {end.partition(' ')[2] or end}",
        tabulate(
            [(name, shown(text) or "(nothing)") for name, text in answers], tablefmt="plain", disable_numparse=True
        ),
    ]
    if run["reason"]:  # two times of the same model would differ by chance alone
        parts.append(f"Nothing was cut: {run['reason']}.")
    else:
        parts += [
            tabulate(costs, tablefmt="plain", colalign=("left", "right", "right", "left")),
            tabulate(stages, tablefmt="plain"),
            f"Prefill: median of {found['repeats']} runs of each, in turns, after a warm-up.",
        ]
    if run["name"] == UNTRAINED:
        parts.insert(1, UNTRAINED_NOTE)
    return "\n\n".join(parts)


def shown(text: str) -> str:
    """A text in one line, without characters that would act on a terminal."""
    return " ".join(text.split()).translate(VISIBLE)
