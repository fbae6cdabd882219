"""How well a trained pruner ranks the tokens of prompts that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ..data.samples import Batch, Sample
from ..scorers.token_pruner import TokenPruner
from . import losses
from .batch_forward import layer_inputs
from .hidden_states import KeptStates


@torch.no_grad()
def held_out_correlation(
    model: PreTrainedModel, pruner: TokenPruner, samples: Sequence[Sample], layers: Sequence[int], rows: Sequence[int],
    states: KeptStates | None = None,
) -> list[float]:  # fmt: skip
    """Spearman's rank correlation of score and saliency per layer, mean over prompts.

    Args:
        model: the model that made the samples' saliency.
        pruner: has a scorer for each of `layers`.
        samples: marked prompts that the pruner was not trained on.
        layers, rows: layers to compare at, and their rows in the samples' saliency.
        states: where hidden states are kept for the next run; None reads them anew.
    """
    correlations = []
    for sample in samples:
        batch = Batch.of([prompt := sample.without_answer()], rows, model.device)
        if states is None:
            hidden_states = layer_inputs(model, batch.input_ids, batch.attention_mask, layers)
        else:
            hidden_states = states.of([prompt], layers)
        scores = torch.stack(
            [pruner(layer, hidden, batch.prompt_mask) for layer, hidden in hidden_states.items()], dim=1
        )
        correlations.append(losses.rank_correlation(scores, batch.saliency, batch.prompt_mask))
    return torch.cat(correlations).mean(0).tolist()
