"""Figures 1 and 2: prompts marked at every layer, and at which depth the answer is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.pairs import training_pairs
from ..data.samples import Batch, Sample, encode_pairs
from ..evaluation.answers import score_records
from ..evaluation.longbench import records_of
from ..evaluation.prompts import build_prompt
from ..pruning.context import TokenPruning
from ..pruning.schedule import PruningSchedule
from ..scorers.simple import RecencyScorer
from ..training.saliency import salient_share, token_saliency

HIDE = 1e-9  # a keep ratio that leaves the forced tokens alone


def mark_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    data: str = "demo",
    seed: int = 0,
    max_tokens: int = 1100,
) -> list[Sample]:
    """`count` prompts of a corpus with their saliency at every layer, (layers, prompt_tokens) each."""
    marked, layers = [], range(model.config.num_hidden_layers)
    pairs = training_pairs(data, 8 * count, seed)
    for sample in tqdm(encode_pairs(pairs, tokenizer, max_tokens, count), desc="mark", unit="prompt"):
        batch = Batch.of([sample], device=model.device)
        saliency = token_saliency(model, batch.input_ids, batch.attention_mask, batch.answer_mask, layers)[0]
        marked.append(replace(sample, saliency=saliency[:, batch.prompt_mask[0]].cpu()))
    return marked


def saliency_example(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> dict:
    """Fig. 1's data of one marked prompt: token texts, layers and saliency (layers, tokens)."""
    tokens = tokenizer.convert_ids_to_tokens(sample.input_ids[: sample.prompt_tokens].tolist())
    return {"tokens": tokens, "layers": list(range(len(sample.saliency))), "saliency": sample.saliency.tolist()}


def salient_shares(samples: Sequence[Sample], threshold: float = 0.1) -> dict:
    """Fig. 2's data: per layer the mean share of tokens above `threshold` of the layer's maximum."""
    share = torch.stack([salient_share(sample.saliency, threshold) for sample in samples]).mean(0)
    return {"layers": list(range(len(share))), "share": share.tolist()}


def layer_of_reading(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str], limit: int
) -> dict:
    """Score (0 to 100) when the whole context is hidden from layer l on, for every l but 0.

    Hiding is a stage at l that keeps the question alone: where the score is as good as the full model's, the answer has
    been read below l.
    """
    records = records_of(tasks, limit)
    tail = max(
        len(tokenizer(build_prompt(r))["input_ids"]) - len(tokenizer(r["context"])["input_ids"]) for r in records
    )
    layers, accuracy = list(range(1, model.config.num_hidden_layers)), []
    for layer in layers:
        schedule = PruningSchedule((layer,), HIDE, sink_tokens=0, local_ratio=0.0, min_local_tokens=tail)
        samples = score_records(
            model, tokenizer, records, TokenPruning(schedule, RecencyScorer()), title=f"layer {layer}"
        )
        accuracy.append(100 * sum(sample["score"] for sample in samples) / len(samples))
    full = score_records(model, tokenizer, records, title="full")
    types = getattr(model.config, "layer_types", None) or []
    return {
        "layers": layers, "accuracy": accuracy, "baseline": 100 * sum(s["score"] for s in full) / len(full),
        "local_layers": sum(kind == "sliding_attention" for kind in types), "hidden_from_the_end": tail,
    }  # fmt: skip
