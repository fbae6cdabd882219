"""Scored samples on disk as they come: one line of JSON each, so that a killed run goes on where it stopped.

The first line holds the settings of the run. Every further line holds one sample of `score_records`, the device that
answered it, and a digest of the prompt's token ids and the answers, so that a sample is never taken for that of another
prompt. A run may go on on another device, and at another commit if the code that scores is the same (SCORING).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from ..data.records import SAMPLE, SAMPLES_HEADER, check, check_new
from ..data.tasks import OWN
from ..models.code_version import code_digest
from ..models.dtypes import dtype_name
from ..models.identity import fingerprint, scorer_digest
from ..models.names import label
from ..models.provenance import environment_record
from ..pruning.schedule import PruningSchedule
from ..results import append_jsonl, check_resumable
from ..text_files import decode, parse_json

# What decides a sample, given its prompt; by what is told to go on, see `models.code_version.code_digest`.
SCORING = (
    "pruning", "scorers", "data/real", "data/chat.py", "data/samples.py", "data/tasks.py", "training/saliency.py",
    *(f"evaluation/{name}.py" for name in (
        "answers", "batches", "likelihood", "longbench", "methods", "metrics", "oracle", "prompts", "weighed_answers",
    )),
)  # fmt: skip
MAY_DIFFER = {"commit", "device"}  # settings that are there to be read


class SampleFile:
    """The samples of one method, read when the file is opened and appended batch by batch.

    A last line that was torn by a kill is dropped; so is everything if `resume` is False.

    Args:
        path: JSONL file, made if missing.
        settings: plain JSON values that decide what the samples are. Those found in the file must be equal, but for
            MAY_DIFFER, which are those of the run that began it; each line says its own `device`, if the settings do.

    Raises:
        ValueError: naming the setting that differs from the file's, or a line that is damaged.
    """

    def __init__(self, path: str | os.PathLike, settings: Mapping[str, Any], resume: bool = True):
        self.path, self.samples = Path(path), {}
        self.where = {name: settings[name] for name in ("device",) if name in settings}
        settings = json.loads(json.dumps(settings))  # as it will be read: lists for tuples
        if not resume:
            self.path.unlink(missing_ok=True)
        header, *samples = self._read() or [None]
        if header is None:
            append_jsonl(self.path, [{"settings": settings}])
        else:
            found = header["settings"]
            try:
                # The pruner is known by a digest, which tells the reader least, so it is named last.
                names = sorted({*found, *settings} - MAY_DIFFER, key=lambda name: (name == "pruner", name))
                check_resumable(found, settings, names)
            except ValueError as error:
                raise ValueError(f"{error}; delete {self.path} to start over") from None
            os.utime(self.path)  # whoever goes on with it makes it his own, also if no sample is missing
        for sample in samples:
            self.samples[sample["dataset"], sample["_id"]] = sample

    def find(self, record: dict, prompt: Sequence[int]) -> dict | None:
        """The sample of a record that was asked with these token ids, or None if it is still to be answered.

        Raises:
            ValueError: if the file holds one of that name with another prompt or other answers.
        """
        stored = self.samples.get((record["dataset"], record["_id"]))
        if stored is None:
            return None
        if stored["digest"] != digest(prompt, kept_answers(record)):
            raise ValueError(
                f"cannot resume: {self.path} holds {record['dataset']} record {record['_id']} with another prompt or "
                "other answers; delete it to start over"
            )
        return {name: value for name, value in stored.items() if name not in ("device", "digest")}

    def write(self, samples: Sequence[dict], prompts: Sequence[Sequence[int]]) -> None:
        """Append the samples of one batch, asked with the token ids `prompts`."""
        digests = (digest(ids, sample["answers"]) for sample, ids in zip(samples, prompts, strict=True))
        rows = [{**sample, **self.where, "digest": one} for sample, one in zip(samples, digests, strict=True)]
        append_jsonl(self.path, rows)
        self.samples.update({(row["dataset"], row["_id"]): row for row in rows})

    def take(self, samples: Iterable[dict]) -> None:
        """Append samples that another such file holds, but for those that are here already."""
        new = {(row["dataset"], row["_id"]): row for row in samples}
        new = {key: row for key, row in new.items() if key not in self.samples}
        if new:
            append_jsonl(self.path, new.values())
            self.samples.update(new)

    def close(self) -> None:
        """Called when all samples are there; nothing to do for a file of one process."""

    def _read(self) -> list[dict]:
        """Every whole line; what follows the last line end is cut off the file."""
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        rows, seen = [], {}
        for number, line in enumerate(whole.splitlines(), 1):
            where = f"{self.path} line {number}"
            try:
                row = parse_json(decode(line))
                check(row, SAMPLE if rows else SAMPLES_HEADER, "it")
                if rows:
                    check_new(f"{row['dataset']} {row['_id']}", seen, f"line {number}")
            except ValueError as error:
                raise ValueError(f"{where} is damaged: {error}; delete the file to start over") from None
            rows.append(row)
        return rows


def sample_folder(folder: str | os.PathLike, resume: bool = False) -> Path:
    """A folder for the samples of several runs that share some; emptied first unless an interrupted one goes on."""
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    return Path(folder)


def kept_answers(record: dict) -> list[str]:
    """A record's answers as its sample keeps them: a hash of each, but for those of the project's own texts."""
    if record["dataset"] in OWN:
        return record["answers"]
    return [f"sha256:{hashlib.sha256(answer.encode()).hexdigest()[:16]}" for answer in record["answers"]]


def digest(prompt: Sequence[int], answers: Sequence[str]) -> str:
    """Identifies a prompt's token ids and the answers it is scored against."""
    return hashlib.sha256(json.dumps([list(prompt), list(answers)]).encode()).hexdigest()[:16]


def run_settings(
    model: PreTrainedModel, method: str, schedule: PruningSchedule, scorer: Any = None, code: Sequence[str] = (),
    **details,
) -> dict[str, Any]:  # fmt: skip
    """What decides the samples of a run, as plain JSON values: model and weights, method, schedule, pruner, versions.

    The batch size is not among them: a prompt's answer does not depend on the others in its batch. Nor is the chat
    template: only some datasets go into it, and the digest of each sample's prompt tells what was asked.

    Args:
        scorer: told from any other, see `models.identity.scorer_digest`.
        code: further files that decide the samples, as in SCORING.
        details: further settings, such as seed and positions.
    """
    environment = environment_record(model)
    return {
        "model": label(model.name_or_path), "fingerprint": fingerprint(model), "dtype": dtype_name(model),
        "attention": model.config._attn_implementation, "method": method, "schedule": schedule.to_dict(),
        "pruner": scorer and scorer_digest(scorer), **details,
        "device": environment["device"], "torch": torch.__version__, "transformers": transformers.__version__,
        "code": code_digest((*SCORING, *code)), "commit": environment["commit"],
    }  # fmt: skip
