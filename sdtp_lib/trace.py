"""What a pruned prefill did: kept tokens and cache lengths per layer, why nothing was cut, and the prune log."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .masks import ABSENT
from .results import append_jsonl
from .selection import boundary_tie


@dataclass
class Stage:
    """One cut of one prefill.

    Attributes:
        layer: 0-based layer at whose input the cut was made.
        columns: (batch, present) columns offered, ABSENT on pads and filler.
        scores: (batch, present) scores, 0 where absent.
        kept: (batch, kept) columns still present, ascending, ABSENT on filler.
        counts: per row (present, k, kept, sinks, local); pads excluded.
    """

    layer: int
    columns: Tensor
    scores: Tensor
    kept: Tensor
    counts: list[tuple[int, int, int, int, int]]

    @property
    def offered(self) -> int:
        """Places per row before the cut, absent ones included."""
        return self.columns.shape[1]

    def log_rows(self) -> list[dict]:
        """One JSON row per prompt: what was offered, kept and cut, and how the scores lay."""
        rows = []
        for row, (present, k, kept, sinks, local) in enumerate(self.counts):
            here = self.columns[row] != ABSENT
            scores = self.scores[row][here]
            chosen = torch.isin(self.columns[row][here], self.kept[row])
            movable = torch.ones_like(chosen)
            movable[:sinks] = False
            movable[present - local :] = False
            rows.append({
                "time": time.time(), "layer": self.layer, "row": row, "tokens_before": present, "k": k, "kept": kept,
                "pruned": present - kept, "ratio": kept / present, "score_min": scores.min().item(),
                "score_max": scores.max().item(), "score_abs_sum": scores.abs().sum().item(),
                "ties_decided": boundary_tie(scores, chosen, movable),
            })  # fmt: skip
        return rows


@dataclass
class Prefill:
    """One prompt that went through the stages.

    Attributes:
        tokens: columns of the prompt, pads included.
        kept_positions: layer -> (batch, kept) columns still present, ascending; -1 fills a row that kept fewer.
        kv_lengths: keys per layer, read from the cache right after the prefill; empty if no cache was used.
        reason: why nothing was cut, or None if something was.
    """

    tokens: int
    kept_positions: dict[int, Tensor] = field(default_factory=dict)
    kv_lengths: list[int] = field(default_factory=list)
    reason: str | None = None

    @property
    def pruned(self) -> bool:
        """Whether any token was cut."""
        return self.reason is None


class PruningTrace:
    """What happened inside one `with pruning(model)` block; the plain attributes are those of the last prefill."""

    def __init__(self):
        self.prefills: list[Prefill] = []

    def _last(self) -> Prefill:
        return self.prefills[-1] if self.prefills else Prefill(0, reason="no prompt has been run yet")

    @property
    def kept_positions(self) -> dict[int, Tensor]:
        """Stage layer -> (batch, kept) columns of `input_ids` still present, ascending, -1 as filler."""
        return self._last().kept_positions

    @property
    def kv_lengths(self) -> list[int]:
        """Keys per layer right after the prefill, from the cache itself; the longest row of a batch."""
        return self._last().kv_lengths

    @property
    def pruned(self) -> bool:
        """Whether the last prefill cut any token."""
        return self._last().pruned

    @property
    def reason(self) -> str | None:
        """Why the last prefill cut nothing, or None."""
        return self._last().reason

    def __repr__(self) -> str:
        last = self._last()
        rows = [f"PruningTrace: {len(self.prefills)} prefill(s), {last.tokens} tokens, {last.reason or 'pruned'}"]
        rows += [f"  layer {layer:>3}: {kept.shape[1]} kept" for layer, kept in last.kept_positions.items()]
        return "\n".join(rows)


def append_log(path: str | os.PathLike, stages: list[Stage]) -> None:
    """Append the rows of one prefill to a JSONL file in one write."""
    append_jsonl(path, [row for stage in stages for row in stage.log_rows()])
