"""How likely a model finds continuations of a context that is prefilled, and pruned, once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from inspect import signature

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ...pruning.versions import with_cache
from ..answers import left_pad


def score_continuations(
    model: PreTrainedModel, contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[list[int]]], pad: int,
    softmax_dtype: torch.dtype | None = None,
) -> list[list[tuple[float, bool]]]:  # fmt: skip
    """Prefill one batch of contexts, then score each one's continuations in turn on copies of its cache.

    Args:
        model: inside a pruning context, or not.
        contexts: token ids, one context per row.
        continuations: those of each row.
        pad: the token that fills up shorter rows.
        softmax_dtype: of the log-probabilities; by default the model's.

    Returns:
        For each row and continuation (log-likelihood, whether it is the greedy choice).
    """
    ids, mask = left_pad(contexts, pad, model.device)
    turns = max(map(len, continuations))
    answers: list[list[tuple[float, bool]]] = [[] for _ in contexts]
    cache = DynamicCache(config=model.config)
    first = _logprobs(model, ids, mask, cache, softmax_dtype, logits_to_keep=1)[:, -1:]  # (batch, 1, vocabulary)
    for turn in range(turns):
        # Rows that have no such continuation get a pad's; what comes on the right of a row is never looked at.
        wanted = [row[turn] if turn < len(row) else [pad] for row in continuations]
        logprobs, width = first, max(map(len, wanted)) - 1
        if width:
            later = torch.tensor([(row[:-1] + [pad] * width)[:width] for row in wanted], device=model.device)
            seen = torch.cat([mask, torch.ones_like(later)], dim=1)
            past = cache if turn == turns - 1 else deepcopy(cache)
            logprobs = torch.cat([first, _logprobs(model, later, seen, past, softmax_dtype)], dim=1)
        for row, tokens in enumerate(wanted):
            if turn < len(continuations[row]):
                target, found = torch.tensor(tokens, device=model.device), logprobs[row, : len(tokens)]
                likelihood = found.gather(1, target[:, None]).sum()
                answers[row].append((float(likelihood), bool((found.argmax(1) == target).all())))
    return answers


def _logprobs(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, cache: DynamicCache, dtype: torch.dtype | None, **options
) -> Tensor:
    """(batch, tokens, vocabulary) log-probabilities after each of the new `ids` (batch, tokens).

    Args:
        mask: (batch, cached and new tokens).
    """
    if "position_ids" in signature(model.forward).parameters:  # ALiBi models read the mask instead
        options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    out = model(input_ids=ids, attention_mask=mask, use_cache=True, **with_cache(model, cache), **options)
    return torch.log_softmax(out.logits, dim=-1, dtype=dtype)
