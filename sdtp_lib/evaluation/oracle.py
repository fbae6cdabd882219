"""The score that a learned one could at best predict: the saliency of the real answer (Eq. 3), marked beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..pruning.scoring import ScoringContext
from ..training.saliency import token_saliency


@dataclass
class OracleScorer:
    """|gradient . hidden state| of the log-likelihood of the right answer, on the full model: what stage 1 marks.

    The pruner is trained to predict this score of training answers, so on a test answer it bounds what the pruner can
    learn, though not what any pruning can reach: saliency is a first-order guess at the loss of one token alone.

    It must be shown every batch before the batch is generated, since the engine runs without gradients.

    Attributes:
        layers: that the batch was marked at.
        saliency: (batch, layers, width) float32 of the batch shown last, 0 on pads; None before the first.
        ids: (batch, width) token ids of its prompts, 0 on pads.
    """

    layers: tuple[int, ...] = field(default=(), compare=False)
    saliency: Tensor | None = field(default=None, repr=False, compare=False)
    ids: Tensor | None = field(default=None, repr=False, compare=False)

    reads_ids = True
    looks_at_positions = False

    def show(
        self,
        model: PreTrainedModel,
        layers: Sequence[int],
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
    ) -> None:
        """Mark one batch: each row by itself, so that it gets what it gets alone.

        Args:
            model: the one that is going to be pruned, outside of its pruning context.
            layers: the schedule's; without any there is nothing to mark.
            prompts, answers: token ids of each row; the batch must be left-padded to its longest prompt.

        Raises:
            ValueError: for an empty prompt or answer, or a layer that the model does not have.
        """
        width = max(map(len, prompts))
        self.layers, self.saliency = tuple(layers), None
        if not self.layers:
            return
        with torch.inference_mode(False):  # inference tensors take no part in a backward pass
            self.saliency = torch.zeros(len(prompts), len(self.layers), width, device=model.device)
            self.ids = torch.zeros(len(prompts), width, dtype=torch.long, device=model.device)
            for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
                if not len(prompt) or not len(answer):
                    raise ValueError(f"row {row} has an empty {'answer' if len(prompt) else 'prompt'}")
                ids = torch.tensor([[*prompt, *answer]], device=model.device)
                asked = torch.arange(ids.shape[1], device=model.device)[None] >= len(prompt)
                found = token_saliency(model, ids, torch.ones_like(ids), asked, self.layers)[0, :, : len(prompt)]
                self.saliency[row, :, width - len(prompt) :] = found
                self.ids[row, width - len(prompt) :] = ids[0, : len(prompt)]

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens).

        Raises:
            ValueError: if no batch, another batch, or one without this layer was shown, or embeddings came in.
        """
        if self.saliency is None or layer not in self.layers or not self._was_shown(context):
            raise ValueError("the oracle must be shown this batch and its answers before it is generated: call show")
        marks = self.saliency[:, self.layers.index(layer)].to(context.columns.device)
        return marks.gather(1, context.columns.clamp(min=0))

    def _was_shown(self, context: ScoringContext) -> bool:
        rows, width = self.ids.shape
        if context.ids is None or len(context.ids) != rows or context.columns.max() != width - 1:  # never cut
            return False
        shown = self.ids.to(context.columns.device).gather(1, context.columns.clamp(min=0))
        return bool((shown == context.ids)[context.mask].all())
