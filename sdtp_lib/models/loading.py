"""Loading models and pruners by name: shapes, the demo models, models of packages, folders, GGUF files, and the Hub."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import cached_file

from ..launcher import is_main
from ..pruning.schedule import PruningSchedule
from ..scorers.pooled import PooledScorer
from ..scorers.token_pruner import TokenPruner
from ..scorers.use import as_used
from .dtypes import DTYPES, resolve_dtype
from .gguf_files import GGUFFile
from .identity import check_same_weights, keep_identity, note_pruner, remember
from .model_files import build_of, check_folder, first_line, has_tokenizer, is_gguf, tokenizer_of
from .names import DEMOS, local_path
from .packages import PACKAGES
from .placement import check_placement, layout, pick_device, spread
from .provenance import line
from .shapes import SHAPES, random_model
from .shipped_pruners import check_given, pruner_folder, with_pruners
from .workers import Workers


def load_model(
    name: str | os.PathLike,
    dtype: str = "auto",
    device: str | torch.device | None = None,
    revision: str | None = None,
    seed: int = 0,
    device_map: str | Mapping[str, int | str] | None = None,
    tensor_parallel: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """A causal language model in eval mode, without gradients, and its tokenizer.

    Its attention is sdpa, or eager where its class does not know that. Of a model that reads images too the text model
    is loaded.

    Args:
        name: a shape of `SHAPES` (random weights, no tokenizer), `demo`, `demo-dense`, a model of
            `packages.PACKAGES`, a local folder, a GGUF file, or a Hub name `owner/model`.
        dtype: of the weights: one of `DTYPES`, or `auto`, see `models.dtypes.resolve_dtype`.
        device: see `models.placement.pick_device`.
        revision: commit to load from the Hub.
        seed: of a shape's random weights.
        device_map: lays the model over several devices in place of one, see `models.placement.check_placement`.
        tensor_parallel: splits every layer over the processes of a launch by torchrun, each of which gets its part.

    Returns:
        (model, tokenizer); the tokenizer is None if there is none, and pads on the left. `model.name_or_path` says what
        was loaded, for result files.

    Raises:
        ValueError: for an unknown name or dtype, a placement that is none, a family that is not supported, a tokenizer
            that does not load, or damaged weights.
        FileNotFoundError: if the folder, its safetensors weights, or the Hub's model cannot be found.
    """
    check_placement(device_map, device, tensor_parallel)
    placed, where = bool(device_map or tensor_parallel), layout(device_map, tensor_parallel)
    weights = DTYPES[resolve_dtype(dtype, device)]
    device, name = torch.device("cpu") if placed else pick_device(device), os.fspath(name)
    path, label = None if name in SHAPES else local_path(name), name
    if name in SHAPES:
        make = partial(random_model, name, weights, device, seed)
        model, tokenizer = _made(make, weights, where, device_map, tensor_parallel), None
    elif path and is_gguf(path):
        file = GGUFFile(path)
        model, tokenizer = _made(file.model, weights, where, device_map, tensor_parallel), file.tokenizer
    elif path:
        model, tokenizer = _from_folder(path, weights, where)
    elif name.count("/") == 1 and name[0] not in "./~":
        model, tokenizer = _from_hub(name, revision, weights, where)
        label = f"{name}@{_home(name, revision).name}"  # the cache calls a commit's folder by it
    elif os.sep in name:
        raise FileNotFoundError(f"model folder {name} does not exist")
    else:
        known = ", ".join([*DEMOS, *PACKAGES, *SHAPES])
        raise ValueError(f"unknown model {name!r}; known: {known}, a folder, a GGUF file, or owner/model on the Hub")
    model.name_or_path = label
    model = model if placed else model.to(device)
    return model.eval().requires_grad_(False), tokenizer


def check_pruner_named(folder: str | os.PathLike | None, model: str | os.PathLike) -> None:
    """Refuse a pruner that is not there, or none for a model that comes with none; asked before the model loads.

    Whether a folder or a file holds weights that come with one shows when they are loaded.
    """
    check_given(folder)
    name = os.fspath(model)
    if folder is None and name not in (*with_pruners(), *SHAPES) and local_path(name) is None:
        raise _without_pruner(name)


def _without_pruner(name: str) -> ValueError:
    known = ", ".join((*with_pruners(), *SHAPES))
    return ValueError(f"model {name!r} needs the folder of a pruner, as `sdtp tune` makes; without one go {known}")


def check_reads_text(name: str | os.PathLike, purpose: str) -> None:
    """Raise ValueError for a shape or a folder without a tokenizer; asked before it loads.

    Args:
        purpose: the end of the message, after "so".

    Raises:
        ValueError, FileNotFoundError: also as `check_folder`.
    """
    path = None if name in SHAPES else local_path(name)
    if path and not is_gguf(path):
        check_folder(path)
    if name in SHAPES or (path and path.is_dir() and not has_tokenizer(path)):
        raise ValueError(f"model {os.fspath(name)} has no tokenizer, so {purpose}")


def load_with_tokenizer(
    name: str | os.PathLike, dtype: str, device: str | torch.device | None = None, revision: str | None = None,
    device_map: str | Mapping[str, int | str] | None = None, tensor_parallel: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:  # fmt: skip
    """What `load_model` gives, of a model that can read text; the main process prints which.

    Raises:
        ValueError: also if the model has no tokenizer.
    """
    check_reads_text(name, "it cannot be evaluated")
    found = load_model(name, dtype, device, revision, device_map=device_map, tensor_parallel=tensor_parallel)
    if is_main():
        print(line(found[0]))
    return found


def load_pruner(
    folder: str | os.PathLike | None, model: PreTrainedModel, schedule: PruningSchedule, seed: int = 0,
    any_model: bool = False,
) -> TokenPruner | PooledScorer:  # fmt: skip
    """The pruner of a folder, on the model's device and in its dtype, pooled if its record says so (`scorers.use`).

    Without a folder a model gets the pruner that is shipped for its weights, a demo model the paper's, a shape a
    seeded random one.

    Args:
        folder: of a pruner, or the design of one that is shipped for the model, see `shipped_pruners.DESIGNS`.
        any_model: take a pruner also if it says that it was trained on a model with other weights.

    Raises:
        ValueError: if it does not fit model or schedule, was trained on other weights, is damaged, or is not named for
            a model with real weights.
        FileNotFoundError: if the folder or a file in it is missing.
    """
    hidden_size, name = model.config.hidden_size, model.name_or_path
    folder = pruner_folder(folder, model)
    if folder is None and name not in SHAPES:
        raise _without_pruner(name)
    if folder is not None:
        pruner = TokenPruner.from_pretrained(folder)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pruner = TokenPruner(hidden_size, schedule.layers)
        pruner.origin = f"random (seed {seed})"
    pruner.check(hidden_size, schedule.layers)
    if not any_model:
        check_same_weights(pruner, model)
    note_pruner(pruner, model)
    return as_used(pruner.to(device=model.device, dtype=model.dtype).eval().requires_grad_(False))


def _made(
    make: Callable[[], PreTrainedModel], dtype: torch.dtype, where: Mapping,
    device_map: str | Mapping[str, int | str] | None, tensor_parallel: bool,
) -> PreTrainedModel:  # fmt: skip
    """A model that is made here rather than read from safetensors, in its dtype and its place."""
    if tensor_parallel:
        return _split(make, dtype, where)
    model = keep_identity(make(), lambda made: made.to(dtype))
    return keep_identity(model, partial(spread, device_map=device_map)) if device_map else model


def _split(make: Callable[[], PreTrainedModel], dtype: torch.dtype, where: Mapping) -> PreTrainedModel:
    """A model that the main process makes, split over all by way of a temporary folder: transformers splits files."""
    workers = Workers.of_launch()
    folder = workers.on_main(lambda: tempfile.mkdtemp(prefix="sdtp-"))
    try:
        workers.on_main(lambda: make().save_pretrained(folder))
        model = _pretrained(folder, dtype, attn_implementation="sdpa", local_files_only=True, **where)
        workers.wait()  # others may be reading still
        return model
    finally:
        if workers.main:
            shutil.rmtree(folder, ignore_errors=True)


def _from_folder(
    folder: Path, dtype: torch.dtype, where: Mapping
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    check_folder(folder)
    return _load(str(folder), dtype, where, has_tokenizer(folder), local_files_only=True)


def _from_hub(
    name: str, revision: str | None, dtype: torch.dtype, where: Mapping
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        return _load(name, dtype, where, True, revision=revision)
    except OSError as error:
        raise FileNotFoundError(f"{name} is no folder and did not load from the Hub: {first_line(error)}") from None


def _load(
    source: str, dtype: torch.dtype, where: Mapping, reads: bool, **origin
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """A model and, where it `reads`, its tokenizer, which comes first as it takes less time to fail."""
    build = build_of(source, **origin)
    tokenizer = tokenizer_of(source, build.config.vocab_size, **origin) if reads else None
    try:
        return _pretrained(source, dtype, config=build.config, **build.options, **origin, **where), tokenizer
    except (torch.OutOfMemoryError, torch.distributed.DistError, OSError, ValueError):
        raise
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"weights in {source} are damaged: {first_line(error)}") from None
    except Exception as error:  # a configuration whose values make no model
        raise ValueError(f"config.json of model {source} cannot be used: {first_line(error)}") from None


def _pretrained(source: str, dtype: torch.dtype, **options) -> PreTrainedModel:
    model, info = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
    )
    split = "device_map" not in options  # see placement.layout
    if split and not getattr(model.config, "base_model_tp_plan", None):  # each process would hold all of it
        raise ValueError(f"{type(model).__name__} has no plan for tensor parallelism")
    if info["missing_keys"]:  # transformers would fill them with random numbers and go on
        raise ValueError(f"weights in {source} lack {sorted(info['missing_keys'])[0]}")
    remember(model, _home(source, options.get("revision")))
    return model


def _home(source: str, revision: str | None) -> Path:
    """The folder where a model's files lie, of one on the Hub that of its commit in the cache."""
    return Path(cached_file(source, "config.json", revision=revision)).parent
