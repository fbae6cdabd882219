"""Answers to one batch, and how likely the right one is: all of one prefill of each prompt.

As the caches are copied, an answer costs its own tokens alone, while the prompt is read, and pruned, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.tasks import DATASETS, FORESEEN, FOUND
from ..pruning.context import TokenPruning
from .batches import end_token, pad_token, tokens_per_layer
from .likelihood import Likelihood, Prefilled
from .metrics import metric, score
from .prompts import encode_answer

LONGEST = 200  # characters of a prediction that are kept: it may quote texts that must not be stored


def weigh(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    texts: Sequence[str],
    prompts: Sequence[Sequence[int]],
    chat: bool,
    pruning: TokenPruning | None,
) -> tuple[list[dict], list[list[int]]]:
    """What one batch of records comes to, and for each the prompt tokens present at every layer.

    Args:
        records: all of one dataset.
        texts, prompts: of each record, as text and as token ids.
        chat: whether the prompts are in a chat template.

    Returns:
        One dict per record: `prediction` (its beginning), `score`, `nll` (mean negative log-likelihood of the right
        answer's tokens, in nats, in a chat template with the one that ends the turn); where the score is F1 `found`
        (whether an answer stands in the prediction); of a record with `choices` also `choice` (1 if the right one is
        the likeliest per token, else 0) and `chance`; and `group` and `depth`, if the record has them.
    """
    spec = DATASETS[records[0]["dataset"]]
    wanted = [
        [encode_answer(tokenizer, {**record, "answers": [choice]}, text, chat) for choice in _choices(record)]
        for record, text in zip(records, texts, strict=True)
    ]
    end = end_token(model, tokenizer)
    ends = {end} if isinstance(end, int) else {*(end or ())}

    def done(tokens: list[int]) -> bool:
        return spec.first_line and "\n" in tokenizer.decode(tokens, skip_special_tokens=True).lstrip()

    with pruning(model) if pruning else nullcontext() as trace:
        read = Prefilled(model, prompts, pad_token(tokenizer), torch.float32)
        present = tokens_per_layer(trace, [len(prompt) for prompt in prompts], model.config.num_hidden_layers)
        answers = read.answer(0 if spec.metric == FORESEEN else spec.max_new_tokens, ends, done)
        likely = read.score(wanted)
    said = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [_sample(*each) for each in zip(records, said, likely, strict=True)], present


def _choices(record: dict) -> list[str]:
    return record.get("choices") or record["answers"][:1]


def _sample(record: dict, prediction: str, likely: Sequence[Likelihood]) -> dict:
    per_token = [each.total / each.tokens for each in likely]
    right = _choices(record).index(record["answers"][0])
    spec = DATASETS[record["dataset"]]
    if spec.metric == FORESEEN:
        points = likely[right].greedy / likely[right].tokens
    else:
        points = score(record["dataset"], prediction, record["answers"])
    sample = {"prediction": prediction.strip()[:LONGEST], "score": points, "nll": -per_token[right]}
    if spec.metric == "f1":  # which takes points off for every word around the answer
        sample["found"] = max(metric(FOUND)(prediction, answer) for answer in record["answers"])
    if len(likely) > 1:
        sample |= {"choice": int(max(per_token) == per_token[right]), "chance": 1 / len(likely)}
    return sample | {name: record[name] for name in ("group", "depth") if name in record}
