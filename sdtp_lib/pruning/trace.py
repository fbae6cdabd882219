"""What a pruned prefill did: kept tokens and cache lengths per layer, why nothing was cut, and the prune log."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..results import append_jsonl
from .attention_masks import ABSENT
from .selection import boundary_tie


@dataclass
class Stage:
    """One cut of one prefill.

    Attributes:
        layer: 0-based layer at whose input the cut was made.
        columns: (batch, present) columns offered, ABSENT on pads and filler.
        scores: (batch, present) scores, 0 where absent; None where there was nothing to cut.
        kept: (batch, kept) columns still present, ascending, ABSENT on filler.
        counts: per row (present, k, kept, sinks, local); pads excluded.
        named: (batch, present) bool, what `keep=` names; None if nothing, or if nothing was chosen.
    """

    layer: int
    columns: Tensor
    scores: Tensor | None
    kept: Tensor
    counts: list[tuple[int, int, int, int, int]]
    named: Tensor | None = None

    @property
    def offered(self) -> int:
        """Places per row before the cut, absent ones included."""
        return self.columns.shape[1]

    def log_rows(self) -> list[dict]:
        """One JSON row per prompt: what was offered, kept and cut, and how the scores lay (null without scores)."""
        rows = []
        for row, (present, k, kept, *_) in enumerate(self.counts):
            counted = {"time": time.time(), "layer": self.layer, "row": row, "tokens_before": present, "k": k}
            cut = {"kept": kept, "pruned": present - kept, "ratio": kept / present}
            rows.append({**counted, **cut, **self._scored(row)})
        return rows

    def _scored(self, row: int) -> dict:
        names = ("score_min", "score_max", "score_abs_sum", "ties_decided")
        if self.scores is None:
            return dict.fromkeys(names)
        here, (present, *_, sinks, local) = self.columns[row] != ABSENT, self.counts[row]
        scores = self.scores[row][here]
        chosen = torch.isin(self.columns[row][here], self.kept[row])
        movable = torch.ones_like(chosen) if self.named is None else ~self.named[row][here]
        movable[:sinks] = False
        movable[present - local :] = False
        summary = scores.min().item(), scores.max().item(), scores.abs().sum().item()
        return dict(zip(names, (*summary, boundary_tie(scores, chosen, movable)), strict=True))


@dataclass
class Prefill:
    """One prompt that went through the stages.

    Attributes:
        tokens: columns of the prompt, pads included.
        kept_positions: layer -> (batch, kept) columns still present, ascending; -1 fills a row that kept fewer.
        kv_lengths: keys per layer, read from the cache right after the prefill; empty if no cache was used.
        kv_bytes: bytes of keys and values per layer, read likewise.
        reason: why nothing was cut, or None if something was.
        uncut: tokens that came in later passes of several, and were not cut: further chunks or turns under
            prune="first", scored continuations.
        never_cut: per row the columns that `keep=` named, ascending; empty if it named none.
    """

    tokens: int
    kept_positions: dict[int, Tensor] = field(default_factory=dict)
    kv_lengths: list[int] = field(default_factory=list)
    kv_bytes: list[int] = field(default_factory=list)
    reason: str | None = None
    uncut: int = 0
    never_cut: list[list[int]] = field(default_factory=list)

    @property
    def pruned(self) -> bool:
        """Whether any token was cut."""
        return self.reason is None

    def to_dict(self) -> dict:
        """Plain JSON values; positions that a run on the meta device never had are None."""
        kept = {str(x): None if columns.is_meta else columns.tolist() for x, columns in self.kept_positions.items()}
        return {
            "tokens": self.tokens, "pruned": self.pruned, "reason": self.reason, "kept_positions": kept,
            "kv_lengths": self.kv_lengths, "kv_bytes": self.kv_bytes, "uncut": self.uncut, "never_cut": self.never_cut,
        }  # fmt: skip

    def __repr__(self) -> str:
        size = f", KV cache {sum(self.kv_bytes) / 1e6:.3g} MB" if self.kv_bytes else ""
        rows = [f"{self.tokens} tokens, {self.reason or 'pruned'}{size}"]
        if self.uncut:
            rows.append(f"  {self.uncut} tokens came in later passes and were not cut")
        if any(self.never_cut):
            rows.append(f"  never cut, as keep= says: {_listed([len(columns) for columns in self.never_cut])} tokens")
        if self.kept_positions:
            rows.append("  layer  kept per row  KV keys")
        for layer, columns in self.kept_positions.items():
            kept = [columns.shape[1]] if columns.is_meta else (columns != ABSENT).sum(1).tolist()
            rows.append(f"  {layer:>5}  {_listed(kept):>12}  {self.kv_lengths[layer] if self.kv_lengths else '-':>7}")
        return "\n".join(rows)


def _listed(counts: list[int]) -> str:
    """Numbers of the first rows of a batch."""
    return " ".join(map(str, counts[:4])) + (" ..." if len(counts) > 4 else "")


class PruningTrace:
    """What happened inside one `with pruning(model)` block; the plain attributes are those of the last prefill.

    Attributes:
        prefills: one entry per prompt, in order.
    """

    def __init__(self):
        self.prefills: list[Prefill] = []

    @property
    def last(self) -> Prefill:
        """The last prefill; an empty one that says so before any prompt was run."""
        return self.prefills[-1] if self.prefills else Prefill(0, reason="no prompt has been run yet")

    @property
    def kept_positions(self) -> dict[int, Tensor]:
        """Stage layer -> (batch, kept) columns of `input_ids` still present, ascending, -1 as filler."""
        return self.last.kept_positions

    @property
    def kv_lengths(self) -> list[int]:
        """Keys per layer right after the prefill, from the cache itself; the longest row of a batch."""
        return self.last.kv_lengths

    @property
    def kv_bytes(self) -> list[int]:
        """Bytes of keys and values per layer right after the prefill, from the cache itself."""
        return self.last.kv_bytes

    @property
    def never_cut(self) -> list[list[int]]:
        """Per row the columns of the last prompt that `keep=` named; empty if it named none."""
        return self.last.never_cut

    @property
    def pruned(self) -> bool:
        """Whether the last prefill cut any token."""
        return self.last.pruned

    @property
    def reason(self) -> str | None:
        """Why the last prefill cut nothing, or None."""
        return self.last.reason

    def to_json(self, indent: int | None = None) -> str:
        """Every prefill as JSON: tokens, pruned, reason, kept_positions, kv_lengths, kv_bytes, uncut, never_cut."""
        return json.dumps({"prefills": [prefill.to_dict() for prefill in self.prefills]}, indent=indent)

    def __repr__(self) -> str:
        return f"PruningTrace: {len(self.prefills)} prefill(s), the last of {self.last!r}"


def append_log(path: str | os.PathLike, stages: list[Stage]) -> None:
    """Append the rows of one prefill to a JSONL file in one write."""
    append_jsonl(path, [row for stage in stages for row in stage.log_rows()])


def last_layers(kept_positions: Mapping[int, Tensor], tokens: int, num_layers: int) -> list[int]:
    """For each of a prompt's `tokens` columns the last 0-based layer that it is present at; survivors: num_layers - 1.

    Args:
        kept_positions: of a trace, layer -> (batch, kept) columns still present, -1 as filler; of the first row.

    Raises:
        ValueError: for a stage beyond the model, or a kept column beyond the prompt.
    """
    last = [num_layers - 1] * tokens
    present = set(range(tokens))
    for layer in sorted(kept_positions):
        kept = set(kept_positions[layer][0].tolist()) - {-1}
        if layer >= num_layers or max(kept, default=0) >= tokens:
            raise ValueError(f"stage at layer {layer} does not fit {num_layers} layers and {tokens} tokens")
        for column in present - kept:
            last[column] = layer - 1
        present &= kept
    return last
