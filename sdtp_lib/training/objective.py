"""The training objective (Eq. 8) of one batch, as a module that has the pruner's parameters alone.

A process that shares a batch with others computes its rows, each term as their part of the whole batch's mean. The sum
of the parts over the processes is the term of the batch, whatever rows each of them has.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..data.samples import Batch, Sample
from ..pruning.schedule import PruningSchedule
from ..scorers.token_pruner import TokenPruner
from . import losses
from .batch_forward import layer_inputs, target_logits
from .hidden_states import KeptStates
from .recipe import Recipe
from .simulated_pruning import SimulatedPruning
from .step_noise import RowDraws

SEEDS_APART = 1_000_003  # steps of two seeds do not share their noise


class Objective(nn.Module):
    """What a step of training minimises.

    Args:
        model: frozen; in eval mode.
        pruner: in training.
        schedule: its stages are trained.
        recipe: which terms there are.
        rows: of the samples' saliency that belong to the stages.
        states: where hidden states are kept; None reads them anew.
    """

    def __init__(
        self, model: PreTrainedModel, pruner: TokenPruner, schedule: PruningSchedule, recipe: Recipe,
        rows: Sequence[int], states: KeptStates | None = None,
    ):  # fmt: skip
        super().__init__()
        self.pruner, self.frozen = pruner, (model,)  # in a tuple, or its parameters would count as this module's
        self.schedule, self.recipe, self.rows, self.states = schedule, recipe, rows, states

    def forward(
        self, step: int, samples: Sequence[Sample], share: Sequence[int] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Every term of Eq. 8 at this step, (stages,) or scalar, and the share of the prompts left by the last stage.

        Args:
            step: seeds the noise and says which terms are read.
            samples: the whole batch.
            share: indices of the samples whose part is computed; None for all. May be empty.
        """
        (model,), recipe, reads_answers = self.frozen, self.recipe, self.recipe.reads_answers(step)
        generator = torch.Generator().manual_seed(recipe.seed * SEEDS_APART + step)
        samples = samples if reads_answers else [sample.without_answer() for sample in samples]
        batch = whole = Batch.of(samples, self.rows, model.device)
        of_rows = of_answers = 1.0
        if share is not None:
            # A process without rows computes one in vain: the gradients' reduction waits for every process.
            own = list(share) or [0]
            batch, samples = whole.take(own), [samples[i] for i in own]
            generator = RowDraws(generator, own, len(whole.input_ids))
            of_rows = len(share) / len(whole.input_ids)
            of_answers = (len(share) > 0) * batch.answer_mask.sum() / whole.answer_mask.sum().clamp_min(1)
        masked = SimulatedPruning(model, self.pruner, self.schedule, batch.prompt_mask, batch.attention_mask, generator)
        terms: dict[str, Tensor] = {}
        if reads_answers:
            inputs = model, batch.input_ids, batch.attention_mask, batch.answer_mask
            with masked.attached():
                logits, labels, wanted = target_logits(*inputs)
            if recipe.classification:
                terms["cls"] = losses.answer_loss(logits, labels, wanted) * of_answers
            if recipe.distill:
                with torch.no_grad():
                    full = target_logits(*inputs)[0]
                terms["distill"] = losses.distillation_loss(logits, full, wanted) * of_answers
        else:
            for layer, hidden in self.hidden_states(samples, batch).items():
                masked.decide(layer, hidden)
        scores, alive, prompt = torch.stack(masked.scores, 1), torch.stack(masked.alive, 1), batch.prompt_mask
        targets = losses.saliency_targets(batch.saliency, prompt, self.schedule.ratios)
        if "mse" not in recipe.without:
            terms["mse"] = losses.mse_loss(scores, targets, prompt) * of_rows
        if "rank" not in recipe.without:
            pairs = None if recipe.pairs is None else losses.sample_pairs(prompt, recipe.pairs, generator)
            terms["rank"] = losses.ranking_loss(scores, targets, prompt, pairs) * of_rows
        if "mse" in recipe.without:
            terms["rate"] = losses.rate_loss(alive, prompt, masked.ratios()) * of_rows
        left = (alive[:, -1].detach() * prompt).sum() / whole.prompt_mask.sum()
        return terms, left if of_rows else torch.zeros_like(left)

    def hidden_states(self, samples: Sequence[Sample], batch: Batch) -> dict[int, Tensor]:
        """Stage -> its layer's input (batch, tokens, hidden) for prompts without answers."""
        layers, width = self.schedule.layers, batch.input_ids.shape[1]
        if self.states is None:
            return layer_inputs(self.frozen[0], batch.input_ids, batch.attention_mask, layers)
        found = self.states.of(samples, layers)  # as wide as the longest of these, not of the whole batch
        return {layer: F.pad(hidden, (0, 0, width - hidden.shape[1], 0)) for layer, hidden in found.items()}
