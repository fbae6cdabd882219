"""What every result file carries of the run that made it: model, schedule, pruner, device, versions, code."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .code_version import code_version
from .dtypes import dtype_name
from .identity import fingerprint, pruner_record, pruners_of
from .names import label

LOADED = object()  # stands for the pruners that were loaded for a model


def environment_record(model: Any = None) -> dict[str, Any]:
    """Device, versions and code of this run, as plain JSON values; of a model laid over several also which `devices`.

    Args:
        model: whose `device` counts; anything without one stands for the GPU if there is one, else the CPU.
    """
    import torch

    device = getattr(model, "device", None) or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    places = getattr(model, "hf_device_map", None) or {}
    return {
        "device": _device_name(device),
        **({"devices": sorted(map(str, {*places.values()}))} if len({*places.values()}) > 1 else {}),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **code_version(),
    }


def metadata(
    *, profile: str | None, model: Any, dtype: str | None = None, schedule: Any = None, pruner: Any = LOADED, **details
) -> dict:
    """What every result file carries: what was run, and `environment_record`.

    Args:
        profile: name of the profile, or None outside of one.
        model: a loaded model, whose weights are recorded by their `models.identity.fingerprint`, or the name of one; of
            a local folder or file only the last part is recorded.
        dtype: by default the model's own.
        schedule: a `PruningSchedule`, or None.
        pruner: the scorer that pruned, or None, see `models.identity.pruner_record`; by default those that
            `models.load_pruner` has loaded for the model so far.
        details: further JSON values, such as seeds and repeats.
    """
    if pruner is LOADED:
        pruner = pruners_of(model)
        pruner = pruner[0] if len(pruner) == 1 else pruner or None
    else:
        pruner = pruner_record(pruner, model)
    return {
        "profile": profile,
        "model": label(getattr(model, "name_or_path", model)),
        **({"fingerprint": fingerprint(model)} if hasattr(model, "named_parameters") else {}),
        "dtype": dtype or (dtype_name(model) if hasattr(model, "dtype") else None),
        "schedule": schedule.to_dict() if hasattr(schedule, "to_dict") else schedule,
        "pruner": pruner,
        **details,
        **environment_record(model),
    }


def line(model: Any) -> str:
    """What runs, in a line for the terminal: the model, its number format, which may be this machine's, the device."""
    return f"{label(model.name_or_path)} in {dtype_name(model)} on {_device_name(model.device)}"


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
