"""Prompts with answers as token ids: one sample, and left-padded batches of samples."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .chat import answer_ids, prompt_ids, takes_template, uses_template
from .records import PAIR, check, check_new


@dataclass(frozen=True)
class Sample:
    """A prompt with its answer.

    Attributes:
        id: the data's own name for it.
        input_ids: (tokens,) prompt, then answer.
        prompt_tokens: how many of them are the prompt.
        saliency: (layers, prompt_tokens) float32, or None before stage 1.
    """

    id: str
    input_ids: Tensor
    prompt_tokens: int
    saliency: Tensor | None = None

    @property
    def digest(self) -> str:
        """Identifies token ids and prompt length."""
        content = self.input_ids.to(torch.int32).contiguous().numpy().tobytes()
        return hashlib.sha256(content + self.prompt_tokens.to_bytes(8, "little")).hexdigest()[:16]

    def without_answer(self) -> Sample:
        """The prompt alone: no prompt token's hidden state depends on the answer."""
        return replace(self, input_ids=self.input_ids[: self.prompt_tokens])


@dataclass(frozen=True)
class Batch:
    """Left-padded samples; every mask is (batch, tokens) bool.

    Attributes:
        input_ids: (batch, tokens).
        attention_mask: False on pads.
        prompt_mask, answer_mask: together they make up the attention mask.
        saliency: (batch, layers, tokens), 0 outside the prompts; None before stage 1.
    """

    input_ids: Tensor
    attention_mask: Tensor
    prompt_mask: Tensor
    answer_mask: Tensor
    saliency: Tensor | None

    @classmethod
    def of(
        cls, samples: Sequence[Sample], rows: Sequence[int] | None = None, device: torch.device | str = "cpu"
    ) -> Batch:
        """Samples as one batch; `rows` selects layers of their saliency by index, None takes all."""
        width = max(len(sample.input_ids) for sample in samples)
        ids = torch.zeros(len(samples), width, dtype=torch.long)
        prompt, answer = torch.zeros(2, len(samples), width, dtype=torch.bool)
        saliency = None
        if samples[0].saliency is not None:
            rows = list(range(len(samples[0].saliency)) if rows is None else rows)
            saliency = torch.zeros(len(samples), len(rows), width)
        for row, sample in enumerate(samples):
            start = width - len(sample.input_ids)
            split = start + sample.prompt_tokens
            ids[row, start:] = sample.input_ids
            prompt[row, start:split] = True
            answer[row, split:] = True
            if saliency is not None:
                saliency[row, :, start:split] = sample.saliency[rows]
        tensors = (ids, prompt | answer, prompt, answer)
        return cls(*(t.to(device) for t in tensors), None if saliency is None else saliency.to(device))

    def take(self, rows: Sequence[int]) -> Batch:
        """Some rows of the batch, as wide as it is."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: None if part is None else part[list(rows)] for name, part in parts.items()})


def encode_pairs(
    pairs: Sequence[dict], tokenizer, max_tokens: int | None, limit: int | None, chat_template: bool | None = None,
    warn: bool = False,
) -> list[Sample]:  # fmt: skip
    """The first `limit` of `pairs` (`id`, `prompt`, `answer`) that have at most `max_tokens` tokens, as samples.

    Args:
        limit: None takes all that fit.
        chat_template: whether they go into the tokenizer's chat template, but for those of datasets that take none;
            None: if it has one.
        warn: log how many are passed over because they are longer.

    Raises:
        ValueError: for a pair that does not fit `records.PAIR`, has no tokens, the id of another, or turns of a chat
            without a template that takes them, or if fewer than `limit` fit.
    """
    samples: list[Sample] = []
    seen: dict[str, str] = {}
    longer = 0
    chat = uses_template(tokenizer, chat_template)
    for number, pair in enumerate(pairs, 1):
        check(pair, PAIR, f"sample {number}")
        check_new(str(pair["id"]), seen, f"sample {number}")
        prompt, answer = _ids(pair, tokenizer, chat and takes_template(pair.get("dataset")))
        if max_tokens is None or len(prompt) + len(answer) <= max_tokens:
            samples.append(Sample(str(pair["id"]), torch.tensor(prompt + answer), len(prompt)))
        else:
            longer += 1
        if len(samples) == limit:
            break
    if len(samples) < (1 if limit is None else limit):
        wanted = "all" if limit is None else limit
        raise ValueError(f"asked for {wanted} samples, but {len(samples)} of {len(pairs)} fit max_tokens={max_tokens}")
    if longer and warn:
        logging.getLogger(__name__).warning(
            "sdtp: warning: %d of %d prompts have, with their answers, more than max_tokens=%d tokens: passed over",
            longer, longer + len(samples), max_tokens,
        )  # fmt: skip
    return samples


def _ids(pair: dict, tokenizer, chat: bool) -> tuple[list[int], list[int]]:
    """Token ids of a pair's prompt and answer."""
    for name in ("prompt", "answer"):
        if isinstance(pair[name], str) and not pair[name].strip():
            raise ValueError(f"sample {pair['id']} has an empty {name}")
    try:
        found = prompt_ids(tokenizer, pair["prompt"], chat), answer_ids(tokenizer, pair["prompt"], pair["answer"], chat)
    except ValueError as error:
        raise ValueError(f"{pair.get('where') or 'sample ' + str(pair['id'])}: {error}") from None
    for name, ids in zip(("prompt", "answer"), found, strict=True):
        if not ids:
            raise ValueError(f"sample {pair['id']} has an empty {name}")
    return found
