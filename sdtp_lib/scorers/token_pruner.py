"""The paper's token pruning module (Eq. 1): a two-layer MLP with GELU that scores every token from its hidden state."""

from __future__ import annotations

import os
from importlib import import_module
from operator import index
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..pruning.scoring import ScoringContext
from .files import CONFIG_FILE, folder_name, read_config, read_weights, size_fault, write_pruner

SMALLEST_NORM = 1e-6  # of a hidden state; a smaller one counts as zero
# What a pruner's folder says it holds -> where that class lives.
KINDS = {
    "mlp": ("token_pruner", "TokenPruner"),
    "question_aware": ("question_aware", "QuestionAwarePruner"),
    "attention": ("attention_pruner", "AttentionPruner"),
}


class TokenPruner(nn.Module):
    """One small MLP per stage: hidden -> width -> GELU -> 1, the keep logit (the drop logit is 0).

    The hidden state is first scaled to unit root mean square, since its size grows with depth and between models.

    Args:
        hidden_size: width of the model's hidden states.
        layers: the layers it can score.
        record: how it was trained; plain JSON values, stored with the weights.
        width: of the MLPs; by default the paper's, a quarter of the hidden size.

    Raises:
        ValueError: if layers are negative, repeated, or not ascending, or a size is not positive.
    """

    kind: ClassVar[str] = "mlp"
    looks_at_positions = False

    def __init__(
        self,
        hidden_size: int,
        layers: tuple[int, ...] | list[int],
        record: dict[str, Any] | None = None,
        *,
        width: int | None = None,
    ):
        super().__init__()
        self.hidden_size, self.layers, self.record = index(hidden_size), tuple(map(index, layers)), dict(record or {})
        if fault := size_fault(self.hidden_size, self.layers):
            raise ValueError(f"no such pruner: {fault}")
        self.width = max(1, hidden_size // 4) if width is None else positive("width", width)
        self.mlps = nn.ModuleDict({
            str(layer): nn.Sequential(nn.Linear(hidden_size, self.width), nn.GELU(), nn.Linear(self.width, 1))
            for layer in self.layers
        })  # fmt: skip

    @property
    def options(self) -> dict[str, Any]:
        """What else the class is made with; plain JSON values, stored with the weights."""
        return {"width": self.width}

    def forward(self, layer: int, hidden_states: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Keep logits (batch, tokens) of hidden states (batch, tokens, hidden) at the input of `layer` (Eq. 1).

        The layer's MLP moves to the device of the hidden states and stays there: a model may be spread over several.
        Threads may share a pruner as long as a layer is on the same device in all of them.

        Args:
            prompt: (batch, tokens) bool, False on pads and on what follows the prompt, for scorers that look at its
                end; this one looks at nothing but the hidden state.
        """
        return self.own_score(layer, hidden_states, self.scale(hidden_states))

    def own_score(self, layer: int, hidden_states: Tensor, scale: Tensor) -> Tensor:
        """The MLP's keep logits (batch, tokens), given what `scale` gives for these hidden states."""
        weight, bias, out_weight, out_bias = self.parts(self.mlps[str(layer)], hidden_states.device)
        inner = scaled_product(hidden_states, weight, scale) + bias
        logits = nn.functional.linear(nn.functional.gelu(inner).to(weight.dtype), out_weight, out_bias)
        return logits.squeeze(-1)

    def scale(self, hidden_states: Tensor) -> Tensor:
        """(batch, tokens, 1): what takes hidden states (batch, tokens, hidden) to unit root mean square."""
        wide = torch.promote_types(hidden_states.dtype, torch.float32)
        norm = torch.linalg.vector_norm(hidden_states, dim=-1, keepdim=True, dtype=wide)
        return self.hidden_size**0.5 / norm.clamp(min=SMALLEST_NORM)

    def parts(self, module: nn.Module, device: torch.device) -> list[Tensor]:
        """The parameters of one layer's module on `device`, where it moves for good."""
        *_, last = module.parameters()
        if last.device != device and device.type != "meta":  # the last one moves last: see if all has moved
            with torch.inference_mode(False):  # or the weights would be inference tensors for good
                module.to(device)
        # On meta shapes alone are asked for; moved there, the weights would be gone.
        return [part.to(device) for part in module.parameters()]

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """Same as `forward`; the MLP looks at nothing but the hidden state."""
        return self(layer, hidden_states)

    def flops(self, tokens: int) -> int:
        """FLOPs of the matrix products that score `tokens` tokens at one layer."""
        return 2 * tokens * self.width * (self.hidden_size + 1)

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
        made = {"hidden_size": self.hidden_size, "layers": list(self.layers), "options": self.options}
        pruner = {"kind": self.kind, **made, "record": dict(self.record)}
        write_pruner(Path(folder), pruner, _shapes(_empty(type(self), pruner)), self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> TokenPruner:
        """Load what `save_pretrained` of any pruner wrote, to the CPU, in its dtype.

        Reads safetensors and JSON only, never a pickle.

        Raises:
            FileNotFoundError: if the folder or one of the two files is missing.
            ValueError: if a file is damaged, weights and configuration do not fit each other, or the folder holds
                another kind of pruner than this class.
        """
        folder = Path(folder)
        config = read_config(folder)
        try:
            found = pruner_class(config["kind"])
            pruner = _empty(found, config)
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a size beyond torch's integers
            raise ValueError(f"{folder / CONFIG_FILE} is damaged: {str(error).splitlines()[0]}") from None
        if not issubclass(found, cls):
            raise ValueError(f"{folder} holds a {found.__name__}, which is no {cls.__name__}")
        pruner.load_state_dict(read_weights(folder, config, _shapes(pruner)), assign=True)
        pruner.origin, pruner.weights_sha256 = folder_name(folder), config["weights_sha256"]
        return pruner.requires_grad_(False).eval()


def pruner_class(kind: str) -> type[TokenPruner]:
    """The class of a key of KINDS; ValueError for another name."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r} of pruner; known: {', '.join(KINDS)}")
    module, name = KINDS[kind]
    return getattr(import_module(f".{module}", __package__), name)


def positive(name: str, value: int) -> int:
    """`value`, if it is a whole number of 1 or more; ValueError naming it if not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}")
    return value


def check_seed(seed: int) -> None:
    """Raise ValueError unless `seed` is one that every generator of random numbers takes."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to {2**32 - 1}, got {seed!r}")


def scaled_product(hidden_states: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """(scale * hidden_states) @ weight.T for hidden states (batch, tokens, hidden) and scale (batch, tokens, 1)."""
    if hidden_states.dtype == weight.dtype != torch.float16:
        return nn.functional.linear(hidden_states, weight) * scale  # the same, on fewer numbers
    # A large state might not fit the weights' range before it is scaled.
    return nn.functional.linear((hidden_states * scale).to(weight.dtype), weight)


def _empty(kind: type[TokenPruner], config: dict[str, Any]) -> TokenPruner:
    """A pruner of this configuration without values."""
    with torch.device("meta"):
        return kind(config["hidden_size"], config["layers"], config["record"], **config["options"])


def _shapes(pruner: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in pruner.state_dict().items()}
