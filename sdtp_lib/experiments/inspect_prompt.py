"""One prompt pruned: what is dropped where, the KV lengths, both answers, and the prune log."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import results
from ..data.chat import prompt_ids, uses_template
from ..evaluation.longbench import resolve_schedule
from ..markdown import Markdown
from ..pruning.context import TokenPruning
from ..pruning.scoring import Scorer
from ..pruning.trace import last_layers


def inspect_prompt(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, pruner: Scorer, schedule: str,
    log: str | os.PathLike, new_tokens: int = 24,
) -> dict:  # fmt: skip
    """What pruning does to one prompt: texts, the last layer of every token, KV lengths, and both answers.

    Args:
        text: the prompt; of a model with a chat template the user's turn.
        log: JSONL file of the prune log; written anew.
    """
    ids = torch.tensor([prompt_ids(tokenizer, text, uses_template(tokenizer))], device=model.device)
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


def log_table(rows: Sequence[dict]) -> Markdown:
    """The prune log of one prompt as a table."""
    columns = ("layer", "tokens_before", "k", "kept", "pruned", "ratio", "ties_decided")
    return Markdown(results.markdown_table([{name: row[name] for name in columns} for row in rows]))
