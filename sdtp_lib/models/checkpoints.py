"""Training state on disk: one safetensors file of weights, optimizer state and, as metadata, where it stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.optim import Optimizer

from ..results import write_bytes


def save_checkpoint(path: Path, module: nn.Module, optimizers: Sequence[Optimizer], state: dict[str, Any]) -> None:
    """Write weights, optimizer state and `state` (plain JSON values), together whole or not at all."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{number}.{index}.{key}": value for key, value in values.items()})
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}  # tied weights may not share memory
    write_bytes(path, save(tensors, {"state": json.dumps(state)}))


def load_checkpoint(path: Path, module: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    """Put weights and optimizer state back and return `state`.

    Raises:
        ValueError: if the file is damaged or of another module.
    """
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        module.load_state_dict(_below("module.", tensors))
        for number, optimizer in enumerate(optimizers):
            values: dict[int, dict] = {}
            for name, tensor in _below(f"optimizer.{number}.", tensors).items():
                index, key = name.split(".")
                values.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or of another training: {str(error).splitlines()[0]}") from None
    return state


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
