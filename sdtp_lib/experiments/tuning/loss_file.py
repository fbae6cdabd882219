"""Losses of answers under many candidates, on disk as they come: one line for each candidate and prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedModel

from ...data.samples import Sample
from ...pruning.context import TokenPruning
from ...results import append_jsonl, write_bytes
from ...text_files import read_jsonl
from ..schedule_search import sample_loss

ROW = ("candidate", "prompt", "nll")


@dataclass
class LossFile:
    """Losses that are not taken twice, also by another run; a last line that was torn by a kill is dropped.

    Args:
        path: JSONL file, made if missing.

    Raises:
        ValueError: for a damaged line, naming it.
    """

    path: Path

    def __post_init__(self):
        self.known: dict[tuple[str, str], float] = {}
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        if whole := content[: content.rfind(b"\n") + 1]:
            if whole != content:
                write_bytes(self.path, whole)
            for row in read_jsonl(self.path):
                candidate, prompt, nll = (row[name] for name in ROW)
                self.known[candidate, prompt] = nll
        else:
            self.path.unlink()

    def take(
        self, model: PreTrainedModel, candidates: Mapping[str, TokenPruning | None], samples: Sequence[Sample],
        what: str,
    ) -> dict[str, list[float]]:  # fmt: skip
        """Candidate -> `sample_loss` of each sample, with a progress bar over those that are not known yet.

        Args:
            candidates: name -> how it prunes, None for the full model; the name must say all that matters.
            what: goes on; names the bar.
        """
        pairs = [(name, sample) for name in candidates for sample in samples]
        missing = [(name, sample) for name, sample in pairs if (name, sample.digest) not in self.known]
        for name, sample in tqdm(missing, desc=what, unit="prompt") if missing else ():
            nll = sample_loss(model, sample, candidates[name])
            append_jsonl(self.path, [dict(zip(ROW, (name, sample.digest, nll), strict=True))])
            self.known[name, sample.digest] = nll
        return {name: [self.known[name, sample.digest] for sample in samples] for name in candidates}
