"""Hidden states of a frozen model, read once: training for many epochs, designs or seeds asks for the same again."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..data.samples import Batch, Sample
from ..pruning.families import ModelAdapter
from .batch_forward import layer_inputs

MOST_BYTES = 6 * 2**30


class KeptStates:
    """The inputs of some layers for every prompt asked for so far, in the memory of the model's device.

    Args:
        model: frozen, in eval mode.
        layers: 0-based decoder layers.
        most_bytes: what they may take; prompts that come later are read anew each time. A prompt takes 2 or 4 bytes x
            layers x tokens x hidden.
    """

    def __init__(self, model: PreTrainedModel, layers: Sequence[int], most_bytes: int = MOST_BYTES):
        self.model, self.layers, self.left = model, tuple(layers), most_bytes
        self.known: dict[str, Tensor] = {}  # digest of a prompt -> (layers, tokens, hidden)

    @classmethod
    def if_all_fit(
        cls, model: PreTrainedModel, layers: Sequence[int], samples: Sequence[Sample]
    ) -> KeptStates | None:
        """For these samples; None if the states of all take over MOST_BYTES, or half of the memory that is free.

        A few kept prompts would not pay: what is not kept is read prompt by prompt, which a GPU does badly.
        """
        tokens = sum(len(sample.without_answer().input_ids) for sample in samples)
        needed = tokens * len(layers) * ModelAdapter.of(model).hidden_size * model.dtype.itemsize
        on_gpu = model.device.type == "cuda"
        free = torch.cuda.mem_get_info(model.device)[0] if on_gpu else psutil.virtual_memory().available
        return cls(model, layers) if needed <= min(MOST_BYTES, free / 2) else None

    def of(self, samples: Sequence[Sample], layers: Sequence[int]) -> dict[int, Tensor]:
        """Layer -> hidden states (batch, tokens, hidden) of prompts, left-padded with zeros, in the order of `layers`.

        Each prompt runs alone, so up to rounding they are those of `layer_inputs` for the batch.
        """
        width = max(len(sample.input_ids) for sample in samples)
        kept = torch.stack([F.pad(self._one(sample), (0, 0, width - len(sample.input_ids), 0)) for sample in samples])
        return {layer: kept[:, self.layers.index(layer)] for layer in layers}

    def _one(self, sample: Sample) -> Tensor:
        if sample.digest in self.known:
            return self.known[sample.digest]
        batch = Batch.of([sample], device=self.model.device)
        found = torch.cat(list(layer_inputs(self.model, batch.input_ids, batch.attention_mask, self.layers).values()))
        if found.nbytes <= self.left:
            self.left -= found.nbytes
            self.known[sample.digest] = found
        return found
