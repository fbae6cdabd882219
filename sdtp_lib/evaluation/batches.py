"""Prompts of different lengths as one batch: what fills it up, what ends an answer, what is left of each prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..pruning.trace import PruningTrace


def left_pad(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), both (batch, longest prompt)."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + [*prompt] for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask


def pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills up a batch. Pads are masked, so without one of its own any token will do, and 0 is in every model."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in known if token is not None), 0)


def end_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | list[int] | None:
    """What ends an answer: the model's own token or tokens before the tokenizer's; None if only its length does."""
    end = model.generation_config.eos_token_id
    return tokenizer.eos_token_id if end is None else end


def tokens_per_layer(trace: PruningTrace | None, lengths: Sequence[int], layers: int) -> list[list[int]]:
    """For each row of the prefill last traced, the prompt tokens present at every layer; no trace, no pruning.

    Args:
        lengths: tokens of each row's prompt.
    """
    counts = {layer: (kept >= 0).sum(dim=1).tolist() for layer, kept in trace.kept_positions.items()} if trace else {}
    present = [[length] for length in lengths]
    for row, tokens in enumerate(present):
        for layer in range(1, layers):
            tokens.append(counts[layer][row] if layer in counts else tokens[-1])
    return present
