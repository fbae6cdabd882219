"""Random numbers of a training step, the same for a prompt however many processes share its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowDraws:
    """Stands in for a generator where a process has some rows of a batch: it draws for all, and keeps its own.

    Attributes:
        generator: on the CPU, in the same state in every process.
        rows: this process's rows of the batch.
        batch: how many rows the batch has.
    """

    generator: torch.Generator
    rows: Sequence[int]
    batch: int


def uniform(shape: Sequence[int], generator: torch.Generator | RowDraws) -> Tensor:
    """Numbers in [0, 1) on the CPU; with `RowDraws` the shape is (..., own rows, columns)."""
    if isinstance(generator, torch.Generator):
        return torch.rand(tuple(shape), generator=generator)
    *leading, _, columns = shape
    whole = torch.rand((*leading, generator.batch, columns), generator=generator.generator)
    return whole[..., list(generator.rows), :]
