"""A pruner's folder, as it lies on disk and on the Hugging Face Hub: weights, configuration, model card.

The configuration holds the SHA-256 of the weights file and of itself, so that a flipped bit, a cut file, or files of
two different saves are refused. Nothing that is read is ever run: safetensors and JSON, no pickles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import paths
from ..results import check_output, write_files
from ..text_files import decode, parse_json
from .model_card import model_card

FORMAT_VERSION = 3
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "pruner_config.json", "pruner.safetensors", "README.md"
FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
KEYS = {"format_version", "kind", "hidden_size", "layers", "options", "record", "weights_sha256", "config_sha256"}
MAX_CONFIG_BYTES, MAX_LAYERS = 2**24, 10_000
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
AGAIN = "copy or download the folder again, or save the pruner again"


def write_pruner(
    folder: Path, pruner: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]
) -> None:
    """Write a pruner's three files; a model card that was edited by hand stays as it is.

    Every file is complete on disk before the first takes its place. Renames cannot be made together: a machine that
    dies between them leaves files of two saves, which `read_config` or `read_weights` refuses.

    Args:
        folder: made where missing.
        pruner: its `kind`, `hidden_size`, `layers`, `options` and `record`, plain JSON values all.
        shapes: name -> shape of every weight that such a pruner has.
        tensors: the weights, of one dtype, on any device.

    Raises:
        ValueError: if the folder cannot be one, or something has no place in the files; before anything is written.
    """
    for name in FILES:
        check_output(folder / name)
    fault = size_fault(pruner["hidden_size"], pruner["layers"]) or _dtype_fault(tensors)
    if fault := fault or _shape_fault({name: tuple(x.shape) for name, x in tensors.items()}, shapes):
        raise ValueError(f"pruner was not written to {folder}: {fault}")
    # clones: safetensors refuses tensors that share memory
    plain = {name: x.detach().cpu().clone(memory_format=torch.contiguous_format) for name, x in tensors.items()}
    weights = safetensors.torch.save(plain)
    config = {"format_version": FORMAT_VERSION, **pruner, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    try:
        config = json.loads(json.dumps(config, allow_nan=False))  # as it will be read: tuples are lists, keys strings
        config["config_sha256"] = _digest(config)
        text = json.dumps(config, indent=2) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} was not written: the record is not plain JSON: {error}") from None
    if len(text) > MAX_CONFIG_BYTES:
        raise ValueError(f"{folder / CONFIG_FILE} was not written: the record is over {MAX_CONFIG_BYTES} bytes")
    card = {} if _card_was_edited(folder) else {CARD_FILE: model_card(config).encode()}
    files = {**card, WEIGHTS_FILE: weights, CONFIG_FILE: text.encode()}
    write_files({folder / name: content for name, content in files.items()})


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration that `write_pruner` wrote.

    Raises:
        FileNotFoundError: if the folder, the configuration or the weights are missing.
        ValueError: if the configuration is damaged or of another format version.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    if not folder.is_dir():
        hint = "a pruner on the Hub is fetched with huggingface_hub.snapshot_download"
        raise FileNotFoundError(f"pruner folder {folder} does not exist; {hint}")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():  # a link to a file is one: the Hub's snapshots are made of them
            raise FileNotFoundError(f"pruner folder {folder} has no file {name}{_pickle_hint(folder)}")
    return _read_config(folder / CONFIG_FILE)


def size_fault(hidden_size: Any, layers: Any) -> str | None:
    """What is wrong with a pruner's sizes, or None."""
    if type(hidden_size) is not int or hidden_size < 1:
        return f"hidden size {hidden_size!r} is no positive whole number"
    if not isinstance(layers, list | tuple) or not all(type(layer) is int and layer >= 0 for layer in layers):
        return "layers are no list of whole numbers from 0"
    if any(a >= b for a, b in pairwise(layers)):
        return "layers are not ascending, or repeat"
    return f"over {MAX_LAYERS} layers" if len(layers) > MAX_LAYERS else None


def _read_config(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} is damaged: it is over {MAX_CONFIG_BYTES} bytes")
    try:
        config = parse_json(decode(path.read_bytes()))
        digest = _digest(config)
    except (ValueError, AttributeError, RecursionError) as error:  # no UTF-8, JSON, object; NaN; nested too deeply
        raise ValueError(f"{path} is damaged: {str(error) or repr(error)}; {AGAIN}") from None
    version = config.get("format_version")
    if type(version) is int and version != FORMAT_VERSION:
        remedy = "train the pruner again" if version < FORMAT_VERSION else "use a newer sdtp_lib"
        raise ValueError(f"{path} has format version {version}, this library reads {FORMAT_VERSION}; {remedy}")
    if type(version) is not int or config.keys() != KEYS or config["config_sha256"] != digest:
        raise ValueError(f"{path} is damaged or was edited: its values do not have its SHA-256; {AGAIN}")
    fault = size_fault(config["hidden_size"], config["layers"])
    if not fault and not (isinstance(config["record"], dict) and isinstance(config["options"], dict)):
        fault = "record or options are no object"
    if fault:
        raise ValueError(f"{path} is damaged: {fault}; {AGAIN}")
    return config


def read_weights(folder: Path, config: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The weights that `write_pruner` wrote, on the CPU, in the dtype they were written in.

    Shapes are compared in the file's header, before anything of their size is read.

    Raises:
        ValueError: if the file is damaged, belongs to another configuration, or has other shapes than `expected`.
    """
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        fault = _shape_fault(shapes, expected)
        if fault:
            raise ValueError(f"{path} does not fit {CONFIG_FILE}: {fault}; {AGAIN}")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != config["weights_sha256"]:
            raise ValueError(f"{path} is damaged or of another save: its SHA-256 is not {CONFIG_FILE}'s; {AGAIN}")
        tensors = safetensors.torch.load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not safetensors: {error}; {AGAIN}") from None
    fault = _dtype_fault(tensors)
    if not fault and not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        fault = "NaN or infinite weights; train again"
    if fault:
        raise ValueError(f"{path} cannot be used: {fault}")
    return tensors


def _shape_fault(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str | None:
    if len(shapes) != len(expected):
        return f"such a pruner has {len(expected)} tensors, not {len(shapes)}"
    for name, shape in expected.items():
        if name not in shapes:
            return f"{name} is missing"
        if shapes[name] != shape:
            return f"{name} has shape {shapes[name]}, not {shape}"
    return None


def _dtype_fault(tensors: Mapping[str, Tensor]) -> str | None:
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES):
        return f"all weights must be of one floating-point dtype, not {sorted(map(str, dtypes))}"
    if any(tensor.is_meta for tensor in tensors.values()):
        return "weights on the meta device have no values"
    return None


def _digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration's values, its own left out."""
    values = {key: value for key, value in config.items() if key != "config_sha256"}
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _card_was_edited(folder: Path) -> bool:
    """Whether there is a model card that is not the one written with the configuration there."""
    card, config = folder / CARD_FILE, folder / CONFIG_FILE
    if not (card.is_file() and config.is_file()):
        return card.exists()
    try:
        return card.read_text(encoding="utf-8") != model_card(_read_config(config))
    except ValueError:
        return True


def _pickle_hint(folder: Path) -> str:
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"})
    return f"; {pickles[0]} looks like a pickle, which is never loaded" if pickles else ""


def folder_name(folder: Path) -> str:
    """A pruner's folder as it is recorded: `demo`, `demo-dense/paper` and the like are shipped ones."""
    folder = folder.resolve()
    if folder == paths.DEMO_PRUNER.resolve():
        return "demo"
    homes = (home.resolve() for home in (paths.QUESTION_PRUNERS, paths.PRUNERS))
    home = next((home for home in homes if folder.is_relative_to(home)), folder.parent)
    return folder.relative_to(home).as_posix()
