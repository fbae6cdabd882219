"""The forward passes over left-padded batches that marking and training are made of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from ..pruning.families import ModelAdapter


def target_logits(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What the model predicts for the `wanted` (batch, tokens) tokens, computing no more logits than that needs.

    Args:
        input_ids: (batch, tokens), left-padded.
        attention_mask: (batch, tokens) bool, False on pads.
        wanted: (batch, tokens) bool, never the first column.

    Returns:
        logits (batch, n, vocabulary), labels (batch, n) and which of them are wanted, (batch, n) bool.
    """
    first = int(wanted.any(dim=0).int().argmax())
    count = input_ids.shape[1] - first  # each is predicted by the column before it
    output = model(**_inputs(input_ids, attention_mask), logits_to_keep=count + 1)
    return output.logits[:, :-1], input_ids[:, first:], wanted[:, first:]


@torch.no_grad()
def layer_inputs(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, layers: Sequence[int]
) -> dict[int, Tensor]:
    """Layer -> its input (batch, tokens, hidden), in the order of the layers.

    Args:
        input_ids: (batch, tokens), left-padded.
        attention_mask: (batch, tokens) bool, False on pads.
        layers: 0-based decoder layers.
    """
    adapter, found = ModelAdapter.of(model), {}

    def capture(layer: int, module: nn.Module, args: tuple) -> None:
        found[layer] = args[0]

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(adapter.layers[layer].register_forward_pre_hook(partial(capture, layer)).remove)
        adapter.decoder(**_inputs(input_ids, attention_mask))
    return found


def _inputs(input_ids: Tensor, attention_mask: Tensor) -> dict:
    position_ids = (attention_mask.long().cumsum(1) - 1).clamp(min=0)
    return dict(input_ids=input_ids, attention_mask=attention_mask.long(), position_ids=position_ids, use_cache=False)
