"""What a model makes of a batch that is prefilled, and pruned, once: how likely texts are to follow, and its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..pruning.versions import with_cache
from .batches import left_pad


@dataclass(frozen=True)
class Likelihood:
    """How likely one continuation is.

    Attributes:
        total: log-likelihood of all its tokens.
        tokens: how many they are.
        greedy: how many of them the model finds likelier than any other token.
    """

    total: float
    tokens: int
    greedy: int


class Prefilled:
    """Contexts that a model has read; each question to it is asked on a copy of their cache.

    Args:
        model: inside a pruning context, or not; what is asked later must be asked there too.
        contexts: token ids, one context per row.
        pad: the token that fills up shorter rows.
        dtype: of the log-probabilities; by default the model's.
    """

    def __init__(
        self, model: PreTrainedModel, contexts: Sequence[Sequence[int]], pad: int, dtype: torch.dtype | None = None
    ):
        self._model, self._pad, self._dtype = model, pad, dtype
        ids, self._mask = left_pad(contexts, pad, model.device)
        self._cache = DynamicCache(config=model.config)
        self._first = self._logprobs(ids, self._mask, self._cache, logits_to_keep=1)[:, -1:]  # (batch, 1, vocabulary)

    def score(self, continuations: Sequence[Sequence[list[int]]], last: bool = True) -> list[list[Likelihood]]:
        """Likelihoods of each row's continuations, token ids, in turn.

        Args:
            last: nothing is asked afterwards, which saves a copy.

        Raises:
            ValueError: for a continuation without tokens, or one that is cut as a prompt is (prune="every").
        """
        if not all(tokens for row in continuations for tokens in row):
            raise ValueError("a continuation has no tokens, so it has no likelihood")
        turns = max(map(len, continuations))
        found: list[list[Likelihood]] = [[] for _ in continuations]
        for turn in range(turns):
            # Rows that have no such continuation get a pad's; what comes on the right of a row is never looked at.
            wanted = [row[turn] if turn < len(row) else [self._pad] for row in continuations]
            logprobs, width = self._first, max(map(len, wanted)) - 1
            if width:
                rows = [(row[:-1] + [self._pad] * width)[:width] for row in wanted]
                later = torch.tensor(rows, device=self._model.device)
                seen = torch.cat([self._mask, torch.ones_like(later)], dim=1)
                past = self._cache if last and turn == turns - 1 else deepcopy(self._cache)
                logprobs = torch.cat([self._first, self._logprobs(later, seen, past)], dim=1)
            for row, tokens in enumerate(wanted):
                if turn < len(continuations[row]):
                    target, likely = torch.tensor(tokens, device=self._model.device), logprobs[row, : len(tokens)]
                    total, greedy = likely.gather(1, target[:, None]).sum(), (likely.argmax(1) == target).sum()
                    found[row].append(Likelihood(float(total), len(tokens), int(greedy)))
        return found

    def answer(
        self, new_tokens: int, ends: Collection[int], done: Callable[[list[int]], bool] = lambda tokens: False
    ) -> list[list[int]]:
        """The likeliest token, time after time: up to `new_tokens` of each row, without what ended it.

        Args:
            ends: tokens that end an answer.
            done: an answer's tokens so far -> whether more are not needed.
        """
        past, mask, logprobs = deepcopy(self._cache), self._mask, self._first
        answers: list[list[int]] = [[] for _ in mask]
        going = set(range(len(answers)))
        for step in range(new_tokens):
            chosen = logprobs[:, -1].argmax(dim=1)
            for row, token in enumerate(chosen.tolist()):
                if row in going and token in ends:
                    going.remove(row)
                elif row in going:
                    answers[row].append(token)
                    if done(answers[row]):
                        going.remove(row)
            if not going or step == new_tokens - 1:
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            logprobs = self._logprobs(chosen[:, None], mask, past)
        return answers

    def _logprobs(self, ids: Tensor, mask: Tensor, cache: DynamicCache, **options) -> Tensor:
        """(batch, tokens, vocabulary) log-probabilities after each of the new `ids` (batch, tokens).

        Args:
            mask: (batch, cached and new tokens).
        """
        model = self._model
        if "position_ids" in signature(model.forward).parameters:  # ALiBi models read the mask instead
            options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = model(input_ids=ids, attention_mask=mask, use_cache=True, **with_cache(model, cache), **options)
        if out.logits.shape[1] != options.get("logits_to_keep", ids.shape[1]):
            raise ValueError("a continuation was cut, so its likelihood is not known: say prune='first', not 'every'")
        return torch.log_softmax(out.logits, dim=-1, dtype=self._dtype)


def score_continuations(
    model: PreTrainedModel, contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[list[int]]], pad: int,
    softmax_dtype: torch.dtype | None = None,
) -> list[list[tuple[float, bool]]]:  # fmt: skip
    """For each row and continuation (log-likelihood, whether it is the greedy choice), see `Prefilled`."""
    found = Prefilled(model, contexts, pad, softmax_dtype).score(continuations)
    return [[(each.total, each.greedy == each.tokens) for each in row] for row in found]
