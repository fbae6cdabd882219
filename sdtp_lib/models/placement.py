"""One model on several devices: layer by layer, over GPUs, RAM and disk, or every layer over several processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.distributed import DistributedConfig

from ..launcher import processes
from ..options import DEVICE_MAPS


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or the GPU if there is one, else the CPU.

    Raises:
        ValueError: naming a device that torch does not know or that is not there.
    """
    try:
        return torch.empty(0, device=device or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"device {device!r} is unknown to this torch or not there") from None


def check_placement(
    device_map: str | Mapping[str, int | str] | None,
    device: str | torch.device | None = None,
    tensor_parallel: bool = False,
) -> None:
    """Refuse a placement that cannot be one.

    Args:
        device_map: a rule of transformers, or module name -> GPU number, "cpu" or "disk"; None for one device.
        device: the one device asked for, if any.
        tensor_parallel: whether the layers are to be split over the processes of a launch.

    Raises:
        ValueError: for another rule, for two of the three together, or for a split over one process.
    """
    if isinstance(device_map, str) and device_map not in DEVICE_MAPS:
        raise ValueError(f"unknown device map {device_map!r}; known: {', '.join(DEVICE_MAPS)}")
    if device_map is not None and device is not None:
        raise ValueError(f"give a device map or a device, not both: {device_map!r} and {str(device)!r}")
    if tensor_parallel and (device_map is not None or device is not None):
        raise ValueError("tensor parallelism takes a GPU for each process, or the CPU, and no device or device map")
    if tensor_parallel and processes() == 1:
        raise ValueError("tensor parallelism splits the model over several processes; start them with torchrun")


def layout(device_map: str | Mapping[str, int | str] | None, tensor_parallel: bool = False) -> dict[str, Any]:
    """The placement as options of `from_pretrained`."""
    if not tensor_parallel:
        return {"device_map": device_map}
    if hasattr(DistributedConfig, "tp_plan"):  # newer transformers
        return {"distributed_config": DistributedConfig(tp_plan="auto")}
    return {"tp_plan": "auto"}


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
