"""The records of any task: those of the corpora as they are, those on real text built to a length for a tokenizer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.corpora import LONGBENCH, LONGBENCH_REVISION, longbench_records, source_of
from ..data.real.build import check_questions, real_records
from ..data.real.leval import LONGEST, leval_records
from ..data.real.passages import PYTHON_DOCS, SQUAD_HUB, SQUAD_REVISION, read_passages, resolve
from ..data.tasks import DATASETS, LEVAL, REAL, expand_tasks
from ..models.model_files import position_limit
from ..models.names import label
from .answers import encode_record

TOKENS = 1024  # of a prompt on real text, if no other length is asked for


class TaskRecords:
    """What some tasks are made of, read before a model is loaded; `build` makes the records for that model.

    Args:
        names: of datasets, see `data.tasks.expand_tasks`.
        data: folder, Hub name, or `squad`; by default each task's own place.
        limit: records per dataset; None takes all.
        tokens: of a prompt: tasks on real text are built to it, all other prompts cut in the middle to it. By default
            TOKENS of the former, LONGEST of L-Eval's, and of the others what the model takes.

    Attributes:
        sources: task -> where its records come from.
        lengths: task -> tokens of a prompt, see `tokens`; None where the model's own limit alone counts.

    Raises:
        ValueError: for bad records, or questions to be asked of text that has none.
        FileNotFoundError: if the data are not there.
    """

    def __init__(
        self, names: Sequence[str], data: str | os.PathLike | None, limit: int | None, tokens: int | None = None
    ):
        self.limit = limit
        usual = {**dict.fromkeys(REAL, TOKENS), **dict.fromkeys(LEVAL, LONGEST)}
        self.lengths = {name: tokens or usual.get(name) for name in names}
        self.sources = {
            name: resolve(data or PYTHON_DOCS) if name in REAL else source_of(name, data) for name in names
        }
        self._passages = {source: read_passages(source) for source in {self.sources[n] for n in names if n in REAL}}
        if "documents_qa" in names:
            check_questions(self._passages[self.sources["documents_qa"]])
        self._ready = {
            name: leval_records(name, data, limit) if name in LEVAL else longbench_records(name, source, limit)
            for name, source in self.sources.items()
            if name not in REAL
        }

    @property
    def origin(self) -> dict[str, Any]:
        """As recorded with a result: `data`, a local path by its last part alone, and the Hub's `data_revision`."""
        sources = set(self.sources.values())
        known = {LONGBENCH: LONGBENCH_REVISION, SQUAD_HUB: SQUAD_REVISION}
        pinned = [revision for place, revision in known.items() if place in sources]
        return {"data": sorted(map(label, sources)), "data_revision": ", ".join(pinned) or None}

    @property
    def tokens(self) -> int | None | dict[str, int | None]:
        """Of a prompt, as recorded with a result: `lengths`, or the one length that all tasks have."""
        alike = {*self.lengths.values()}
        return alike.pop() if len(alike) == 1 else self.lengths

    def build(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        templates: Mapping[str, str] | None = None,
        chat_template: bool | None = None,
    ) -> list[dict]:
        """The records, dataset by dataset.

        Args:
            templates, chat_template: of `encode_record`; what stands around a prompt counts.

        Raises:
            ValueError: for a length that the model, or the text, does not have.
        """

        def length_of(record: dict) -> int:
            return len(encode_record(model, tokenizer, record, templates, chat_template)[1])

        records, most = [], position_limit(model.config)
        for name, source in self.sources.items():
            tokens = self.lengths[name]
            if name in REAL:
                answer = DATASETS[name].max_new_tokens
                if most is not None and tokens + answer > most:
                    raise ValueError(
                        f"{name}: a prompt of {tokens} tokens and an answer of {answer} do not fit the model's {most} "
                        "positions"
                    )
                records += real_records(name, self._passages[source], tokens, length_of, self.limit)
            else:
                records += [{**row, "longest": tokens} if tokens else row for row in self._ready[name]]
        return records


def records_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: str | Sequence[str], limit: int | None,
    source: str | os.PathLike | None = None, tokens: int | None = None,
) -> list[dict]:  # fmt: skip
    """Records of some tasks for a model, see `TaskRecords`.

    Args:
        tasks: see `data.tasks.expand_tasks`.
        source: the `data`.
    """
    return TaskRecords(expand_tasks(tasks), source, limit, tokens).build(model, tokenizer)


def records_digest(records: Sequence[dict]) -> str:
    """Short SHA-256 of everything that is in some records."""
    return hashlib.sha256(json.dumps(list(records), sort_keys=True).encode()).hexdigest()[:16]
