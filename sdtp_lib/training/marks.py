"""Marks on disk, the bridge from stage 1 to stage 2: samples, each with its token ids and the saliency of its prompt.

A folder of marks holds `manifest.json` and safetensors shards. Every sample carries its id and a digest of its token
ids, every shard its SHA-256, so that saliency can never be taken for another sample's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..data.records import MARKS, check, check_new
from ..data.samples import Sample
from ..results import check_output, write_bytes, write_json
from ..text_files import read_json

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
AGAIN = "copy the folder again, or mark again into another one"


@dataclass(frozen=True)
class Marks:
    """What `load_marks` read.

    Attributes:
        manifest: settings that made the marks, samples and shards; plain JSON values.
        samples: in the manifest's order, each with its saliency.
    """

    manifest: dict[str, Any]
    samples: list[Sample]

    @property
    def layers(self) -> list[int]:
        """Decoder layers that the rows of every sample's saliency belong to."""
        return self.manifest["layers"]

    @property
    def digest(self) -> str:
        """Identifies settings, samples and saliency."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()[:16]


class MarksWriter:
    """Writes marks shard by shard; taken up again it finds the shards that are already there.

    Args:
        folder: made if missing.
        settings: plain JSON values, `layers` among them; must equal those of marks already in the folder.
        samples: all samples, in order.
        shard_size: samples in one shard.

    Raises:
        ValueError: if the folder holds marks of other settings or samples, or a damaged manifest.
        OSError: if one of the files could not be written.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict[str, Any], samples: Sequence[Sample], shard_size: int):
        self.folder = Path(folder)
        described = [
            {"id": s.id, "digest": s.digest, "tokens": len(s.input_ids), "prompt_tokens": s.prompt_tokens}
            for s in samples
        ]
        self.manifest = {"format_version": FORMAT_VERSION, **settings, "samples": described, "shards": {}}
        starts = range(0, len(samples), shard_size)
        self.shards = {f"shard-{i:05d}.safetensors": samples[a : a + shard_size] for i, a in enumerate(starts)}
        for name in (MANIFEST_FILE, *self.shards):
            check_output(self.folder / name)
        if (self.folder / MANIFEST_FILE).exists():
            found = _read_manifest(self.folder)
            for key, value in self.manifest.items():
                if key != "shards" and found.get(key) != value:
                    raise ValueError(f"{self.folder} already holds marks whose {key} differ; choose another folder")
            kept = {name: sha for name, sha in found["shards"].items() if _sha256(self.folder / name) == sha}
            self.manifest["shards"] = kept
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / MANIFEST_FILE, self.manifest)

    def missing(self) -> dict[str, Sequence[Sample]]:
        """Shards still to be written: file name -> its samples."""
        return {name: samples for name, samples in self.shards.items() if name not in self.manifest["shards"]}

    def write(self, name: str, saliency: Sequence[Tensor]) -> None:
        """Write shard `name`, whole or not at all; `saliency` has (layers, prompt_tokens) for each of its samples.

        It counts as written once `enter` has put it into the manifest on disk.
        """
        path = self.folder / name
        ids = torch.cat([sample.input_ids for sample in self.shards[name]]).to(torch.int32)
        write_bytes(path, save({"input_ids": ids, "saliency": torch.cat(list(saliency), dim=1).float().contiguous()}))
        self.manifest["shards"][name] = _sha256(path)

    def enter(self, shards: Mapping[str, str]) -> None:
        """Put shards, name -> SHA-256, into the manifest on disk, besides those of this writer."""
        self.manifest["shards"] = dict(sorted({**self.manifest["shards"], **shards}.items()))
        write_json(self.folder / MANIFEST_FILE, self.manifest)


def load_marks(folder: str | os.PathLike) -> Marks:
    """Read marks and check them: every shard's hash, every sample's token ids, every number finite.

    Raises:
        FileNotFoundError: if the folder, its manifest or a shard is missing.
        ValueError: if a file is damaged, marking was not finished, or ids and samples do not agree.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"marks folder {folder} does not exist")
    manifest = _read_manifest(folder)
    described, samples = iter(manifest["samples"]), []
    for name, sha in manifest["shards"].items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"marks folder {folder} has no {name}")
        if _sha256(path) != sha:
            raise ValueError(f"{path} is damaged: its SHA-256 is not the manifest's")
        try:
            tensors = load_file(path)
            ids, saliency = tensors["input_ids"].long(), tensors["saliency"]
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{path} is damaged: {error!r}") from None
        if len(saliency) != len(manifest["layers"]) or not torch.isfinite(saliency).all():
            raise ValueError(f"{path} holds NaN or infinite saliency, or that of other layers than the manifest names")
        samples += _cut_shard(path, described, ids, saliency)
    if len(samples) < len(manifest["samples"]):
        total = len(manifest["samples"])
        raise ValueError(f"{folder} holds {len(samples)} of {total} samples; marking was not finished")
    return Marks(manifest, samples)


def _cut_shard(path: Path, described, ids: Tensor, saliency: Tensor) -> list[Sample]:
    """The samples of one shard; takes their descriptions from the iterator until the shard's tokens are used up."""
    found: list[Sample] = []
    start = start_of_prompt = 0
    while start < len(ids):
        entry = next(described, None)
        if entry is None:
            raise ValueError(f"{path} holds more samples than the manifest names")
        tokens, prompt = entry["tokens"], entry["prompt_tokens"]
        own = saliency[:, start_of_prompt : start_of_prompt + prompt]
        sample = Sample(entry["id"], ids[start : start + tokens], prompt, own)
        if sample.digest != entry["digest"] or own.shape[1] != prompt:
            raise ValueError(f"{path}: the token ids or saliency of sample {entry['id']} are not those of the manifest")
        found.append(sample)
        start, start_of_prompt = start + tokens, start_of_prompt + prompt
    return found


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise FileNotFoundError(f"marks folder {folder} has no {MANIFEST_FILE}")
    manifest = read_json(path, remedy=AGAIN)
    if isinstance(manifest, dict) and manifest.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        raise ValueError(f"{path} is damaged or of another format version than {FORMAT_VERSION}; {AGAIN}")
    try:
        check(manifest, MARKS, "it")
        seen: dict[str, str] = {}
        for number, sample in enumerate(manifest["samples"], 1):
            check_new(sample["id"], seen, f"sample {number}")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {AGAIN}") from None
    return manifest


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
