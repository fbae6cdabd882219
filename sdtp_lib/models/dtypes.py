"""Number formats by name; `auto` stands for the one whose matrix products are faster where the model will be."""

from __future__ import annotations

from functools import cache
from time import perf_counter

import torch
from torch.nn.functional import linear
from transformers import PreTrainedModel

from .. import options
from .placement import pick_device

DTYPES = {name: getattr(torch, name) for name in options.DTYPES if name != "auto"}
ROUNDS = 5  # the best of a few counts, so that other work of the machine does not
SHAPE = (256, 512, 512)  # rows, and the weights' sides: a small layer's product, done in a millisecond or so


def resolve_dtype(name: str, device: str | torch.device | None = None) -> str:
    """The key of `DTYPES` that is meant: for `auto` bfloat16 on a GPU, on a CPU what `faster_on_cpu` finds.

    Args:
        device: where the model will be, see `models.placement.pick_device`.

    Raises:
        ValueError: for an unknown name or device.
    """
    if name not in options.DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: {', '.join(options.DTYPES)}")
    if name != "auto":
        return name
    return "bfloat16" if pick_device(device).type != "cpu" else faster_on_cpu()


def dtype_name(model: PreTrainedModel) -> str:
    """A model's number format as it is recorded: `bfloat16`."""
    return str(model.dtype).removeprefix("torch.")


@cache
def faster_on_cpu() -> str:
    """`bfloat16` or `float32`, by a short timing of both: without units for bfloat16 a processor takes several times
    as long for its products, with them half the time or less. Asked once in a process."""
    return min(("float32", "bfloat16"), key=product_seconds)


def product_seconds(dtype: str) -> float:
    """Seconds of one matrix product of `SHAPE` on the CPU, the best of `ROUNDS` after one that does not count."""
    rows, inner, columns = SHAPE
    states, weights = (torch.ones(size, dtype=DTYPES[dtype]) for size in ((rows, inner), (columns, inner)))
    seconds = []
    for _ in range(ROUNDS + 1):
        start = perf_counter()
        linear(states, weights)
        seconds.append(perf_counter() - start)
    return min(seconds[1:])
