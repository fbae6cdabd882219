"""The paper's token pruning module (Eq. 1): a two-layer MLP with GELU that scores every token from its hidden state."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FORMAT_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE = "pruner_config.json", "pruner.safetensors"


@dataclass(frozen=True)
class ScoringContext:
    """What a scorer may look at besides the hidden states.

    Attributes:
        module: the decoder layer at whose input the cut is made.
        mask: (batch, tokens) bool, True for real tokens, False for pads.
        position_ids: (batch, tokens) positions as the layer uses them.
        position_embeddings: (cos, sin), each (batch, tokens, head_dim), or None.
        local_tokens: tokens at the end of the longest row that are kept whatever they score.
        generator: for scorers that draw at random, or None.
    """

    module: nn.Module
    mask: Tensor
    position_ids: Tensor
    position_embeddings: tuple[Tensor, Tensor] | None
    local_tokens: int
    generator: torch.Generator | None = None


class Scorer(Protocol):
    """Anything that scores tokens: higher is kept. The pruner and every baseline."""

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens)."""


class TokenPruner(nn.Module):
    """One small MLP per stage: hidden -> hidden / 4 -> GELU -> 1, the keep logit (the drop logit is 0).

    The hidden state is first scaled to unit root mean square, since its size grows with depth and between models.

    Args:
        hidden_size: width of the model's hidden states.
        layers: the layers it can score.
        record: how it was trained; plain JSON values, stored with the weights.
    """

    def __init__(self, hidden_size: int, layers: tuple[int, ...] | list[int], record: dict[str, Any] | None = None):
        super().__init__()
        self.hidden_size, self.layers, self.record = hidden_size, tuple(layers), dict(record or {})
        inner = max(1, hidden_size // 4)
        self.mlps = nn.ModuleDict({
            str(layer): nn.Sequential(nn.Linear(hidden_size, inner), nn.GELU(), nn.Linear(inner, 1))
            for layer in self.layers
        })  # fmt: skip

    def forward(self, layer: int, hidden_states: Tensor) -> Tensor:
        """Keep logits (batch, tokens) of hidden states (batch, tokens, hidden) at the input of `layer` (Eq. 1)."""
        mlp = self.mlps[str(layer)]
        normed = nn.functional.rms_norm(hidden_states, (self.hidden_size,))
        return mlp(normed.to(mlp[0].weight.dtype)).squeeze(-1)

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
        """Write weights (safetensors) and configuration (JSON) into `folder`, each whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"format_version": FORMAT_VERSION, "hidden_size": self.hidden_size, "layers": list(self.layers)}
        text = json.dumps({**config, "record": self.record}, indent=2) + "\n"
        weights, settings = folder / f"{WEIGHTS_FILE}.partial", folder / f"{CONFIG_FILE}.partial"
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, weights)
        settings.write_text(text)
        os.replace(weights, folder / WEIGHTS_FILE)
        os.replace(settings, folder / CONFIG_FILE)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> TokenPruner:
        """Load what `save_pretrained` wrote; reads safetensors and JSON only, never a pickle.

        Raises:
            FileNotFoundError: if the folder or one of the two files is missing.
            ValueError: if a file is damaged, or weights and configuration do not fit each other.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"pruner folder {folder} does not exist")
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                pickles = sorted(
                    p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
                )
                hint = f"; {pickles[0]} looks like a pickle, which is never loaded" if pickles else ""
                raise FileNotFoundError(f"pruner folder {folder} has no {name}{hint}")
        try:
            config = json.loads((folder / CONFIG_FILE).read_text())
            version, hidden_size = config["format_version"], int(config["hidden_size"])
            layers, record = [int(x) for x in config["layers"]], dict(config.get("record", {}))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / CONFIG_FILE} is damaged: {error!r}") from None
        if hidden_size < 1:
            raise ValueError(f"{folder / CONFIG_FILE} is damaged: hidden size {hidden_size}")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{folder / CONFIG_FILE} has format version {version}, this library reads {FORMAT_VERSION}"
            )
        try:
            weights = load_file(folder / WEIGHTS_FILE)
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{folder / WEIGHTS_FILE} is damaged or not safetensors: {error}") from None
        pruner = cls(hidden_size, layers, record)
        try:
            pruner.load_state_dict(weights)
        except RuntimeError:
            raise ValueError(
                f"{folder / WEIGHTS_FILE} does not fit its configuration (names or shapes differ)"
            ) from None
        if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
            raise ValueError(f"{folder / WEIGHTS_FILE} holds NaN or infinite weights")
        return pruner.requires_grad_(False).eval()
