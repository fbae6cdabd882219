"""One prompt pruned: what is dropped where, the KV lengths, both answers, and the prune log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import results
from ..data.chat import prompt_ids, uses_template
from ..evaluation.answers import in_chat
from ..evaluation.prompts import build_prompt
from ..evaluation.task_records import records_of
from ..markdown import Markdown
from ..models.named_schedules import resolve_schedule
from ..pruning.context import TokenPruning
from ..pruning.scoring import Scorer
from ..pruning.trace import last_layers


def inspect_prompt(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, pruner: Scorer, schedule: str,
    log: str | os.PathLike, new_tokens: int = 24, chat_template: bool | None = None,
) -> dict:  # fmt: skip
    """What pruning does to one prompt: texts, the last layer of every token, KV lengths, and both answers.

    Args:
        text: the prompt.
        log: JSONL file of the prune log; written anew.
        chat_template: whether the prompt is the user's turn in the model's chat template; None: if it has one.
    """
    ids = torch.tensor([prompt_ids(tokenizer, text, uses_template(tokenizer, chat_template))], device=model.device)
    tokens, stages = ids.shape[1], resolve_schedule(schedule, model)
    partial = Path(f"{log}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": new_tokens, "do_sample": False}
    try:
        with torch.inference_mode():
            full = model.generate(ids, **options)
            with TokenPruning(stages, pruner, log=partial)(model) as trace:
                pruned = model.generate(ids, **options)
        os.replace(partial, log)
    finally:
        partial.unlink(missing_ok=True)
    layers = model.config.num_hidden_layers
    return {
        "tokens": tokenizer.convert_ids_to_tokens(ids[0].tolist()),
        "last_layer": last_layers(trace.kept_positions, tokens, layers),
        "kv_lengths": trace.kv_lengths, "scheduled": stages.lengths(tokens, layers),
        "answers": {name: tokenizer.decode(out[0, tokens:], skip_special_tokens=True).strip()
                    for name, out in {"full": full, "pruned": pruned}.items()},
    }  # fmt: skip


def task_prompt(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str, number: int, source: str | None = None,
    tokens: int | None = None,
) -> tuple[str, bool]:  # fmt: skip
    """The prompt of one record of a task, and whether the task puts it into the model's chat template.

    Args:
        number: of the record, from 0.
        task, source, tokens: see `evaluation.task_records.records_of`.
    """
    record = records_of(model, tokenizer, task, number + 1, source, tokens)[number]
    return build_prompt(record), in_chat(tokenizer, record)


def said(found: Mapping, what: str = "This prompt") -> Markdown:
    """How many tokens reach the last layer, which layers' caches hold what the schedule says, and both answers."""
    tokens, layers = len(found["tokens"]), range(len(found["kv_lengths"]))
    left = sum(last == layers[-1] for last in found["last_layer"])
    alike = [layer for layer in layers if found["kv_lengths"][layer] == found["scheduled"][layer]]
    where = "every layer" if len(alike) == len(layers) else f"{len(alike)} of {len(layers)} layers"
    text = f"{what}: {left} of {tokens:,} tokens ({left / tokens:.0%}) reach the last layer, and the cache holds " \
           f"what the schedule says in {where}."  # fmt: skip
    answers = {name: " ".join(answer.split()) for name, answer in found["answers"].items()}
    return Markdown(f"{text}\n\n{results.markdown_table([answers])}")


def log_table(rows: Sequence[dict]) -> Markdown:
    """The prune log of one prompt as a table."""
    columns = ("layer", "tokens_before", "k", "kept", "pruned", "ratio", "ties_decided")
    return Markdown(results.markdown_table([{name: row[name] for name in columns} for row in rows]))
