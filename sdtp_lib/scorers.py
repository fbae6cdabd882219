"""The paper's token pruning module (Eq. 1): a two-layer MLP with GELU that scores every token from its hidden state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .pruner_files import read_pruner, size_fault, write_pruner

SMALLEST_NORM = 1e-6  # of a hidden state; a smaller one counts as zero


@dataclass(frozen=True)
class ScoringContext:
    """What a scorer may look at besides the hidden states.

    Attributes:
        module: the decoder layer at whose input the cut is made.
        mask: (batch, tokens) bool, True for real tokens, False for pads.
        position_ids: (batch, tokens) positions as the layer uses them; None with ALiBi.
        position_embeddings: (cos, sin), each (batch, tokens, head_dim); None with ALiBi.
        local_tokens: tokens at the end of the longest row that are kept whatever they score.
        generator: for scorers that draw at random, or None.
        alibi: (batch * heads, 1, tokens) biases of an ALiBi model, else None.
        columns: (batch, tokens) places in the conversation, pads counted, of the tokens present; -1 where none is.
    """

    module: nn.Module
    mask: Tensor
    position_ids: Tensor | None
    position_embeddings: tuple[Tensor, Tensor] | None
    local_tokens: int
    generator: torch.Generator | None = None
    alibi: Tensor | None = None
    columns: Tensor | None = None


class Scorer(Protocol):
    """Anything that scores tokens: higher is kept. The pruner and every baseline.

    One that says `looks_at_positions = False` is spared the gathering of positions, and finds None in the context. One
    with a method `show` is shown prompts and answers of every batch by `evaluation`, see `OracleScorer`.
    """

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens)."""


class TokenPruner(nn.Module):
    """One small MLP per stage: hidden -> hidden / 4 -> GELU -> 1, the keep logit (the drop logit is 0).

    The hidden state is first scaled to unit root mean square, since its size grows with depth and between models.

    Args:
        hidden_size: width of the model's hidden states.
        layers: the layers it can score.
        record: how it was trained; plain JSON values, stored with the weights.

    Raises:
        ValueError: if layers are negative, repeated, or not ascending, or the hidden size is not positive.
    """

    looks_at_positions = False

    def __init__(self, hidden_size: int, layers: tuple[int, ...] | list[int], record: dict[str, Any] | None = None):
        super().__init__()
        self.hidden_size, self.layers, self.record = index(hidden_size), tuple(map(index, layers)), dict(record or {})
        if fault := size_fault(self.hidden_size, self.layers):
            raise ValueError(f"no such pruner: {fault}")
        inner = max(1, hidden_size // 4)
        self.mlps = nn.ModuleDict({
            str(layer): nn.Sequential(nn.Linear(hidden_size, inner), nn.GELU(), nn.Linear(inner, 1))
            for layer in self.layers
        })  # fmt: skip

    def forward(self, layer: int, hidden_states: Tensor) -> Tensor:
        """Keep logits (batch, tokens) of hidden states (batch, tokens, hidden) at the input of `layer` (Eq. 1).

        The layer's MLP moves to the device of the hidden states and stays there: a model may be spread over several.
        Threads may share a pruner as long as a layer is on the same device in all of them.
        """
        mlp, device = self.mlps[str(layer)], hidden_states.device
        if mlp[-1].bias.device != device and device.type != "meta":  # the bias moves last: see if all has moved
            with torch.inference_mode(False):  # or the weights would be inference tensors for good
                mlp.to(device)
        # On meta shapes alone are asked for; moved there, the weights would be gone.
        weight, bias, out_weight, out_bias = (part.to(device) for part in mlp.parameters())
        norm = torch.linalg.vector_norm(hidden_states, dim=-1, keepdim=True, dtype=torch.float32)
        scale = self.hidden_size**0.5 / norm.clamp(min=SMALLEST_NORM)
        if hidden_states.dtype == weight.dtype != torch.float16:
            # Scaling after the product is the same and touches a quarter of the numbers.
            inner = nn.functional.linear(hidden_states, weight) * scale + bias
        else:  # a large state might not fit the weights' range before it is scaled
            inner = nn.functional.linear((hidden_states * scale).to(weight.dtype), weight, bias)
        logits = nn.functional.linear(nn.functional.gelu(inner).to(weight.dtype), out_weight, out_bias)
        return logits.squeeze(-1)

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """Same as `forward`; the MLP looks at nothing but the hidden state."""
        return self(layer, hidden_states)

    def check(self, hidden_size: int, layers: tuple[int, ...]) -> None:
        """Raise ValueError unless this pruner fits a model of `hidden_size` and has an MLP for each of `layers`."""
        if hidden_size != self.hidden_size:
            raise ValueError(f"pruner has hidden size {self.hidden_size}, the model {hidden_size}")
        missing = sorted(set(layers) - set(self.layers))
        if missing:
            raise ValueError(f"pruner has no scorer for layers {missing}; it has {list(self.layers)}")

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write weights (safetensors), configuration (JSON) and a model card into `folder`.

        The folder can go to the Hub as it is, with `huggingface_hub.upload_folder`. A model card there that was edited
        by hand is kept.

        Raises:
            ValueError: if the folder is a file, the record is not plain JSON, or the weights are of several dtypes or
                on the meta device; nothing is written then.
        """
        write_pruner(Path(folder), self.hidden_size, self.layers, self.record, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> TokenPruner:
        """Load what `save_pretrained` wrote, to the CPU, in its dtype; reads safetensors and JSON only, never a pickle.

        Raises:
            FileNotFoundError: if the folder or one of the two files is missing.
            ValueError: if a file is damaged, or weights and configuration do not fit each other.
        """
        config, weights = read_pruner(Path(folder))
        with torch.device("meta"):
            pruner = cls(config["hidden_size"], config["layers"], config["record"])
        pruner.load_state_dict(weights, assign=True)
        return pruner.requires_grad_(False).eval()
