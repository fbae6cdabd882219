"""Table 1's speed columns: prefill and end to end on LongBench's own prompts, every method in turns on each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import geometric_mean, mean, median

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paper
from ..evaluation.answers import encode_record
from ..evaluation.llmlingua import Shorten
from ..evaluation.methods import Pruners, make_pruning, read_row
from ..latency.sweep_plan import Context, run_under, take_turns
from ..latency.timing import Run
from ..markdown import Markdown, paper_ours
from ..pruning.context import TokenPruning
from ..results import markdown_table

FULL = "full"
LEFT_OUT = {"oracle": "its score costs a backward pass over the real answer, so it has no speed of its own"}


def speed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    methods: Sequence[str],
    pruner: Pruners = None,
    *,
    contexts: Mapping[str, Context] | None = None,
    shorten: Mapping[str, Shorten] | None = None,
    new_tokens: int = 128,
    repeats: int = 3,
    seed: int = 0,
    templates: Mapping[str, str] | None = None,
) -> dict:
    """Time the prefill to the first token's logits, and prefill and decode together, of each record's prompt alone.

    Every method generates exactly `new_tokens` tokens, whether or not one of them ends the answer. On each prompt the
    methods take turns, after a short warm-up of each; a time is the median over the repeats.

    Args:
        records: LongBench records.
        methods: as `compare` takes them, "full" among them; those in LEFT_OUT are not timed.
        pruner: see `make_scorer`.
        contexts: further methods by name, as contexts of the model: a press of kvpress, for one.
        shorten: further methods by name that shorten the record's text, as `llmlingua.at_budget` gives; the seconds
            they take count in both times.
        seed: of random scores.
        templates: dataset -> prompt template, see `load_templates`.

    Returns:
        `prompts` [{dataset, _id, prompt_tokens}], `left_out` {method: reason}, `new_tokens`, `repeats`, and `methods`
        {name: {prefill, total: [seconds per prompt]; prefill x, total x: {mean: geometric mean over the prompts of
        full / method, range: [lowest, highest]}; tokens: tokens present, mean over layers, and keys: in the cache after
        the prefill, both shares of the full model's, means over the prompts}}.

    Raises:
        ValueError: without records or the full model, for `new_tokens` below 2 or `repeats` below 1, an unknown method,
            or a record without a prompt; before the model runs.
    """
    if not records or FULL not in methods:
        raise ValueError(f"speed is measured against the full model: needs records and the method {FULL!r}")
    if new_tokens < 2 or repeats < 1:
        raise ValueError(f"needs 2 new tokens and 1 repeat at least, got {new_tokens} and {repeats}")
    timed = [method for method in methods if method not in LEFT_OUT]
    sides: dict[str, Context | None] = {
        method: make_pruning(model, row.method, row.schedule, pruner, seed, pool=row.pool, tokenizer=tokenizer)
        for method, row in ((method, read_row(method)) for method in timed)
    } | dict(contexts or {})
    shorten, rows = dict(shorten or {}), {name: [] for name in (*sides, *(shorten or {}))}
    encode = partial(_encode, model, tokenizer, templates)
    prompts = [encode(record) for record in records]
    with tqdm(total=len(records) * len(rows) * (repeats + 1), desc="speed", unit="run") as bar:
        for record, ids in zip(records, prompts, strict=True):
            turns = {name: partial(run_under, context, model, ids) for name, context in sides.items()}
            turns |= {name: partial(_shortened, model, encode, record, cut) for name, cut in shorten.items()}
            runs = take_turns(turns, repeats, new_tokens, bar)
            for name, found in runs.items():
                rows[name].append(_row(found, runs[FULL][0], _present(sides.get(name), found[0])))
    return {
        "prompts": [{key: record[key] for key in ("dataset", "_id")} | {"prompt_tokens": ids.shape[1]}
                    for record, ids in zip(records, prompts, strict=True)],
        "left_out": {method: reason for method, reason in LEFT_OUT.items() if method in methods},
        "new_tokens": new_tokens, "repeats": repeats,
        "methods": {name: _summary(row, rows[FULL]) for name, row in rows.items()},
    }  # fmt: skip


def speed_table(found: Mapping) -> Markdown:
    """What `speed` gave: the geometric means of both speedups, their range over the prompts, and what was kept."""
    table = []
    for name, row in found["methods"].items():
        shown = {"method": name}
        for title, key in (("prefill x", "prefill x"), ("end-to-end x", "total x")):
            shown |= {title: row[key]["mean"], f"{title}, range": "{:.2f} to {:.2f}".format(*row[key]["range"])}
        table.append(shown | {"tokens kept, %": 100 * row["tokens"], "KV kept, %": 100 * row["keys"]})
    return Markdown(markdown_table(table))


def speed_against_paper(found: Mapping) -> Markdown:
    """Both speedups of the methods that the paper's Table 1 has: its numbers and ours."""
    rows = []
    for name, row in found["methods"].items():
        theirs = paper.TABLE1.get(paper.TABLE1_NAMES.get(name, ""), {})
        if name != FULL and theirs:
            rows.append((f"{name}, prefill x", theirs["prefill x"], row["prefill x"]["mean"]))
            rows.append((f"{name}, end-to-end x", theirs["end2end x"], row["total x"]["mean"]))
    return paper_ours(rows)


def _encode(model, tokenizer, templates, record: dict) -> torch.Tensor:
    """(1, tokens), on the model's device."""
    return torch.tensor([encode_record(model, tokenizer, record, templates)[1]], device=model.device)


def _shortened(model, encode: Callable, record: dict, shorten: Shorten, new_tokens: int) -> Run:
    (short,), seconds = shorten([record])
    run = run_under(None, model, encode(short), new_tokens)
    return replace(run, prefill=run.prefill + seconds, total=run.total + seconds)


def _present(context: Context | None, run: Run) -> float:
    """Tokens present, mean over layers; a press cuts no token."""
    cuts = isinstance(context, TokenPruning)
    return mean(context.schedule.lengths(run.prompt_tokens, len(run.kv_lengths))) if cuts else run.prompt_tokens


def _row(runs: Sequence[Run], full: Run, present: float) -> dict:
    return {
        "prefill": median(run.prefill for run in runs), "total": median(run.total for run in runs),
        "tokens": present / full.prompt_tokens, "keys": sum(runs[0].kv_lengths) / sum(full.kv_lengths),
    }  # fmt: skip


def _summary(rows: Sequence[dict], full: Sequence[dict]) -> dict:
    summary = {part: [row[part] for row in rows] for part in ("prefill", "total")}
    summary |= {part: mean(row[part] for row in rows) for part in ("tokens", "keys")}
    for part in ("prefill", "total"):
        ratios = [before[part] / row[part] for before, row in zip(full, rows, strict=True)]
        summary[f"{part} x"] = {"mean": geometric_mean(ratios), "range": [min(ratios), max(ratios)]}
    return summary
