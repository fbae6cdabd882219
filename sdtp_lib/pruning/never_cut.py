"""Tokens that the caller never wants cut (`keep=` of `TokenPruning`): what was named, and where it is in a pass."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor, nn

from .attention_masks import ABSENT

Keep = Sequence[int | slice] | slice | Tensor


class NamedTokens:
    """The named tokens of one pass.

    Attributes:
        mask: (batch, tokens) bool, True on what is never cut; None if that is nothing.
        start: column of the pass's first token.
        ranks: per row, ascending, how many tokens of the prompt come before each named one, pads not counted.
        prompt: tokens per row, pads not counted.
    """

    def __init__(self, mask: Tensor | None = None, start: int = 0, prompt: Sequence[int] = ()):
        self.mask, self.start, self.prompt = mask, start, prompt
        self.ranks = []
        if mask is not None:
            pads = [mask.shape[1] - n for n in prompt]
            self.ranks = [(row.nonzero()[:, 0] - n).tolist() for row, n in zip(mask, pads, strict=True)]

    def beside(self, forced: Sequence[tuple[int, int]]) -> list[int]:
        """Per row, how many are neither among the first nor among the last tokens of the prompt that `forced` counts.

        At a later stage the last tokens present may hold some of them, which then count twice; it is never too few, and
        needs no look at the scores.
        """
        if self.mask is None:
            return [0] * len(forced)
        return [
            max(0, bisect_left(ranks, n - last) - bisect_left(ranks, first))
            for ranks, n, (first, last) in zip(self.ranks, self.prompt, forced, strict=True)
        ]

    def among(self, columns: Tensor) -> Tensor | None:
        """Which of the (batch, present) `columns` are named, a mask of that shape; None if nothing is."""
        if self.mask is None:
            return None
        self.mask = self.mask.to(columns.device)  # once for all stages on a device
        return self.mask.gather(1, (columns - self.start).clamp(min=0)) & (columns != ABSENT)

    @property
    def columns(self) -> list[list[int]]:
        """Per row the named columns of the conversation, ascending."""
        shifts = [self.start + self.mask.shape[1] - n for n in self.prompt] if self.ranks else []
        return [[rank + shift for rank in ranks] for ranks, shift in zip(self.ranks, shifts, strict=True)]


@dataclass(init=False, eq=False)
class NeverCut:
    """What a caller names.

    Args:
        named: columns of the conversation as whole numbers and slices, the same for every row; or a (batch, columns)
            bool mask, with a row for each that the model gets. None names nothing.

    Raises:
        ValueError: for anything else, a negative number among it.
    """

    mask: Tensor | None
    slices: list[slice]
    places: Tensor

    def __init__(self, named: Keep | None = None):
        self.mask, self.slices, self.places = None, [], torch.zeros(0, dtype=torch.long)
        if named is None:
            return
        if isinstance(named, Tensor) and (named.dim() != 1 or named.dtype == torch.bool):
            if named.dim() != 2 or named.dtype != torch.bool:
                found = f"a {named.dtype} tensor of shape {tuple(named.shape)}".replace("torch.", "")
                raise ValueError(f"keep as a mask must be bool and (batch, tokens), got {found}")
            self.mask = named.detach().cpu()
            return
        places = []
        for part in named if isinstance(named, Iterable) else [named]:
            if isinstance(part, slice):
                self.slices.append(slice(*(bound if bound is None else _whole(bound) for bound in _bounds(part))))
            else:
                places.append(_whole(part))
        self.places = torch.tensor(sorted(places), dtype=torch.long)

    @classmethod
    def of(cls, named: Keep | NeverCut | None) -> NeverCut:
        """`named`, checked."""
        return named if isinstance(named, cls) else cls(named)

    @property
    def end(self) -> int:
        """The column after the last that positions and slices name for certain."""
        stops = [part.stop for part in self.slices if part.stop is not None]
        starts = [part.start + 1 for part in self.slices if part.stop is None and part.start]
        return max(0, *stops, *starts, *(self.places[-1:] + 1).tolist())

    def of_pass(self, start: int, tokens: int, prompt: Sequence[int], further: bool) -> NamedTokens:
        """What is named of the columns from `start` on, `tokens` of them.

        Args:
            prompt: tokens of each row, pads, which are on the left, not counted.
            further: whether later prompts are cut too, so that columns to come may be named already.

        Raises:
            ValueError: for columns that are not there, pads, or a mask that does not fit.
        """
        stop = start + tokens
        if self.mask is not None:
            named = self._rows_of_mask(start, stop, len(prompt), further)
        elif self.slices or len(self.places):
            named = self._rows_of_places(stop, prompt, further)
        else:
            return NamedTokens()
        named = named[:, start:stop]
        named = nn.functional.pad(named, (0, tokens - named.shape[1]))  # a mask may end before a later prompt does
        pads = named & (torch.arange(tokens) < tokens - torch.tensor(prompt)[:, None])
        if pads.any():
            row, column = pads.nonzero()[0].tolist()
            raise ValueError(f"keep names column {start + column} of row {row}, which is padding")
        return NamedTokens(named, start, prompt)

    def _rows_of_mask(self, start: int, stop: int, rows: int, further: bool) -> Tensor:
        fits = self.mask.shape[1] == stop or (further and (start or self.mask.shape[1] > stop))
        if len(self.mask) != rows or not fits:
            raise ValueError(
                f"keep is a mask of shape {tuple(self.mask.shape)}, expected {(rows, stop)}: the rows and columns that "
                "the model gets (beams are rows too)"
            )
        return self.mask

    def _rows_of_places(self, stop: int, prompt: Sequence[int], further: bool) -> Tensor:
        if self.end > stop and not further:
            raise ValueError(
                f"keep names column {self.end - 1} of a prompt of {stop} tokens; later prompts, and further chunks of "
                "this one, are cut with prune='every' alone"
            )
        if len(set(prompt)) > 1:
            raise ValueError("keep names columns of rows that differ in length; give a (batch, tokens) bool mask")
        named = torch.zeros(1, stop, dtype=torch.bool)
        for part in (self.places[self.places < stop], *self.slices):
            named[:, part] = True
        return named.expand(len(prompt), -1)


def _bounds(part: slice) -> tuple:
    """start, stop, step of a slice; ValueError if it walks backwards or not at all."""
    if part.step is not None and _whole(part.step) < 1:
        raise ValueError(f"keep has a step that is not positive: {part}")
    return part.start, part.stop, part.step


def _whole(number: object) -> int:
    """A position as a Python int; ValueError if it is none."""
    try:
        position = -1 if isinstance(number, bool) else index(number)
    except TypeError:
        position = -1
    if position < 0:
        raise ValueError(
            "keep must be positions (whole numbers from 0 on) and slices of a prompt, or a (batch, tokens) bool mask; "
            f"got {number!r}"
        )
    return position
