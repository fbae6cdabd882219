"""One model laid over several devices by accelerate: GPUs, then the CPU's memory, then the disk."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from transformers import PreTrainedModel

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def check_device_map(
    device_map: str | Mapping[str, int | str] | None, device: str | torch.device | None = None
) -> None:
    """Refuse a device map that cannot be one.

    Args:
        device_map: a rule of transformers, or module name -> GPU number, "cpu" or "disk"; None for one device.
        device: the one device asked for, if any.

    Raises:
        ValueError: for another rule, or a device besides a device map.
    """
    if isinstance(device_map, str) and device_map not in DEVICE_MAPS:
        raise ValueError(f"unknown device map {device_map!r}; known: {', '.join(DEVICE_MAPS)}")
    if device_map is not None and device is not None:
        raise ValueError(f"give a device map or a device, not both: {device_map!r} and {str(device)!r}")


def spread(model: PreTrainedModel, device_map: str | Mapping[str, int | str]) -> nn.Module:
    """A model in the CPU's memory laid over devices, as transformers does with one that it loads from files."""
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    if isinstance(device_map, str):
        whole = sorted(model._no_split_modules or ())  # a decoder layer's own sums must not cross devices
        options = {"no_split_module_classes": whole, "dtype": model.dtype}
        memory = None
        if device_map != "sequential":
            memory = get_balanced_memory(model, low_zero=device_map == "balanced_low_0", **options)
        device_map = infer_auto_device_map(model, max_memory=memory, **options)
    return dispatch_model(model, dict(device_map))


def gpus_of(model: nn.Module) -> list[torch.device]:
    """The GPUs that hold weights of the model, or none."""
    return sorted({weight.device for weight in model.parameters() if weight.is_cuda}, key=lambda device: device.index)
