"""Figures 1 and 2: prompts marked at every layer, and at which depth the answer is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paper
from ..data.pairs import training_pairs
from ..data.samples import Batch, Sample, encode_pairs
from ..evaluation.answers import encode_record, in_chat, score_records
from ..evaluation.prompts import encode_answer
from ..evaluation.task_records import records_of
from ..markdown import Markdown, paper_ours
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
    return mark_samples(model, encode_pairs(training_pairs(data, 8 * count, seed), tokenizer, max_tokens, count))


def mark_example(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str | None, data: str, seed: int, tokens: int
) -> Sample:
    """The one prompt of Figure 1, marked: the first record of a task of that many tokens, on the text that this project
    may show; without a task a prompt of a corpus, as `mark_prompts` takes it."""
    if task is None:
        return mark_prompts(model, tokenizer, 1, data, seed, tokens)[0]
    (record,) = records_of(model, tokenizer, task, 1, tokens=tokens)
    text, ids, _ = encode_record(model, tokenizer, record)
    answer = encode_answer(tokenizer, record, text, in_chat(tokenizer, record))
    return mark_samples(model, [Sample(record["_id"], torch.tensor(ids + answer), len(ids))])[0]


def mark_samples(model: PreTrainedModel, samples: Sequence[Sample]) -> list[Sample]:
    """The same samples with their saliency at every layer, (layers, prompt_tokens) each."""
    marked, layers = [], range(model.config.num_hidden_layers)
    for sample in tqdm(samples, desc="mark", unit="prompt"):
        batch = Batch.of([sample], device=model.device)
        saliency = token_saliency(model, batch.input_ids, batch.attention_mask, batch.answer_mask, layers)[0]
        marked.append(replace(sample, saliency=saliency[:, batch.prompt_mask[0]].cpu()))
    return marked


def saliency_example(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> dict:
    """Fig. 1's data of one marked prompt: token texts, layers and saliency (layers, tokens)."""
    tokens = tokenizer.convert_ids_to_tokens(sample.input_ids[: sample.prompt_tokens].tolist())
    return {"tokens": tokens, "layers": list(range(len(sample.saliency))), "saliency": sample.saliency.tolist()}


def said_of_example(fig1: Mapping) -> Markdown:
    """How many tokens hold half of the saliency of one prompt, at the first layer, halfway, and at the last."""
    saliency, layers = torch.tensor(fig1["saliency"]), fig1["layers"]
    ordered = saliency.sort(dim=1, descending=True).values.cumsum(1)
    half = (ordered < ordered[:, -1:] / 2).sum(1) + 1
    chosen = [0, len(layers) // 2, len(layers) - 1]
    counts = ", ".join(f"{half[i]} at layer {layers[i]}" for i in chosen)
    return Markdown(f"Here, of {saliency.shape[1]} tokens so many hold half of the saliency: {counts}.")


def salient_shares(samples: Sequence[Sample]) -> dict:
    """Fig. 2's data: per layer the mean over prompts of `salient_share`."""
    share = torch.stack([salient_share(sample.saliency) for sample in samples]).mean(0)
    return {"layers": list(range(len(share))), "share": share.tolist()}


def shares_against_paper(share: Sequence[float]) -> Markdown:
    """Figure 2's read-off, the middle where it has a range, beside the share at the same fraction of our depth."""
    deepest = paper.FIG2_MODEL_LAYERS - 1  # its layers are counted from 1
    rows = []
    for number, ends in paper.FIG2_SALIENT_SHARE.items():
        layer = round((number - 1) / deepest * (len(share) - 1))
        rows.append((f"salient share, paper's layer {number}, our {layer} (from 0)", sum(ends) / 2, share[layer]))
    fall = [theirs / rows[0][1] for _, theirs, _ in rows], [ours / rows[0][2] for *_, ours in rows]
    return paper_ours([*rows, ("last over first", fall[0][-1], fall[1][-1])])


def question_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: Sequence[dict]) -> int:
    """The most tokens that a prompt has behind its context: question, and what a chat template puts after it."""
    longest = 0
    for record in records:
        one, other = (
            encode_record(model, tokenizer, {**record, "context": context})[1][::-1]
            for context in (record["context"], ".")
        )
        alike = [a == b for a, b in zip(one, other, strict=False)]
        longest = max(longest, alike.index(False) if False in alike else len(alike))
    return longest


def layer_of_reading(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str], limit: int,
    source: str | None = None, tokens: int | None = None, step: int = 1,
) -> dict:  # fmt: skip
    """Score (0 to 100) when the whole context is hidden from layer l on, for every `step`-th l from 1 on.

    Hiding is a stage at l that keeps the question alone: where the score is as good as the full model's, the answer has
    been read below l. Where answers are weighed there is also `nll`, the nats per token of the right one.

    Args:
        tasks, limit, source, tokens: see `evaluation.task_records.records_of`.
    """
    records = records_of(model, tokenizer, tasks, limit, source, tokens)
    tail = question_tokens(model, tokenizer, records)
    layers, found = list(range(1, model.config.num_hidden_layers, step)), []
    for layer in layers:
        schedule = PruningSchedule((layer,), HIDE, sink_tokens=0, local_ratio=0.0, min_local_tokens=tail)
        samples = score_records(
            model, tokenizer, records, TokenPruning(schedule, RecencyScorer()), title=f"layer {layer}"
        )
        found.append(_quality(samples))
    full = _quality(score_records(model, tokenizer, records, title="full"))
    types = getattr(model.config, "layer_types", None) or []
    return {
        "layers": layers, **{key: [each[key] for each in found] for key in full},
        **{f"baseline_{key}" if key != "accuracy" else "baseline": value for key, value in full.items()},
        "local_layers": sum(kind == "sliding_attention" for kind in types), "hidden_from_the_end": tail,
    }  # fmt: skip


def said_of_reading(reading: Mapping) -> Markdown:
    """From which layer on hiding the context costs less than a tenth of the full model's score, and what it costs."""
    layers, scores, full = reading["layers"], reading["accuracy"], reading["baseline"]
    read = next((i for i in range(len(layers)) if min(scores[i:]) >= 0.9 * full), None)
    text = f"Here: hidden from layer {layers[0]} on the score is {scores[0]:.0f}, hidden from {layers[-1]} on " \
           f"{scores[-1]:.0f}, not hidden {full:.0f}; "  # fmt: skip
    text += "nine tenths of that are not reached" if read is None else (
        f"from layer {layers[read]} on hiding costs less than a tenth of it"
    )  # fmt: skip
    if "nll" in reading:
        values = [f"{value:.2f}" for value in (reading["nll"][0], reading["nll"][-1], reading["baseline_nll"])]
        text += ". Nats per token of the right answer, in the same order: {}, {}, {}".format(*values)
    return Markdown(f"{text}.")


def _quality(samples: Sequence[dict]) -> dict[str, float]:
    """Mean over samples of `accuracy`, the score from 0 to 100, and of `nll`, where all have it."""
    nll = {"nll": sum(s["nll"] for s in samples) / len(samples)} if all("nll" in s for s in samples) else {}
    return {"accuracy": 100 * sum(sample["score"] for sample in samples) / len(samples)} | nll
