"""Which weights these are: a model's fingerprint, the same however it was loaded, and name and digest of a pruner."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from .model_files import INDEX_FILE, WEIGHTS_FILE, weights_index

NUMBERS = 16  # of every parameter, the first ones
ABOUT = {"record", "origin", "weights_sha256"}  # what a pruner carries and no score depends on
RENAMED = {"experts", "gate", "router"}  # parts of names, see `fingerprint`
_pruners: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()  # model -> those loaded for it


def fingerprint(module: nn.Module) -> str:
    """Tells trained weights apart: a hash over the first numbers of every parameter, rounded to bfloat16.

    So it is the same for float32 and bfloat16 loads of the same files. Where loading loses more (float16), or leaves
    only a part here (a split or offloaded model), `remember` has noted what the files say, which holds until the
    weights change. Experts and their routers are left out: versions of transformers differ in how they are named and
    stacked once they are loaded.
    """
    own = _hash(module, lambda name, parameter: _start(parameter))
    loaded, stored = getattr(module, "stored_fingerprint", (None, None))
    return stored if own == loaded else own


def remember(model: nn.Module, folder: Path) -> None:
    """Note the fingerprint of the files that `model` was just loaded from, if loading has changed it."""
    loaded = fingerprint(model)
    with ExitStack() as stack:
        find = _reader(folder, model, stack)
        stored = _hash(model, find)
    if stored != loaded:
        model.stored_fingerprint = (loaded, stored)


def keep_identity(model: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """What `change` makes of a model, known by the fingerprint that it had before: of another dtype, or elsewhere."""
    stored = fingerprint(model)
    model = change(model)
    if (loaded := fingerprint(model)) != stored:
        model.stored_fingerprint = (loaded, stored)
    return model


def check_same_weights(pruner: nn.Module, model: nn.Module) -> None:
    """Raise ValueError if a pruner says that it was trained on other weights than the model has."""
    if trained_on(pruner, model) is False:
        raise ValueError(
            f"pruner {name_of(pruner)!r} was trained on model {pruner.record.get('model')!r}, whose weights are not "
            f"those of {model.name_or_path!r}: it would cut the wrong tokens; train one for this model (sdtp mark and "
            "sdtp train), or say --any-model (any_model=True) if it is meant"
        )


def trained_on(pruner: nn.Module, model: Any) -> bool | None:
    """Whether a pruner was trained on the model's weights; None if its record does not say."""
    known = getattr(pruner, "record", {}).get("fingerprint")
    return known == fingerprint(model) if known and isinstance(model, nn.Module) else None


def note_pruner(pruner: nn.Module, model: nn.Module) -> None:
    """Take down that a pruner was loaded for the model, for the result files that do not name theirs."""
    _pruners.setdefault(model, []).append(pruner)


def pruners_of(model: Any) -> list[dict]:
    """Records of the pruners loaded for the model so far, each once."""
    found = _pruners.get(model, []) if isinstance(model, nn.Module) else []
    records = [pruner_record(pruner, model) for pruner in found]
    return [record for i, record in enumerate(records) if record not in records[:i]]


def pruner_record(scorer: Any, model: Any = None) -> dict | list[dict] | None:
    """How a result file names the pruner that scored; None for a score that is not trained.

    Args:
        scorer: a pruner, or one of several (a blend, a pooled one) that are named one by one.
        model: that it was used on.

    Returns:
        `name`; `sha256` of its weights file, or of the tensors if there is none; `model`: the one it was trained on,
        and `same_weights`, whether that is the one it was used on (both None if its record does not say); `options` if
        it has any: weights do not say them.
    """
    if not isinstance(scorer, nn.Module):
        inner = (getattr(scorer, name, None) for name in ("first", "second", "scorer"))
        records = [record for part in inner if part is not None and (record := pruner_record(part, model))]
        return records[0] if len(records) == 1 else records or None
    return {
        "name": name_of(scorer), "sha256": getattr(scorer, "weights_sha256", None) or _digest(scorer),
        "model": getattr(scorer, "record", {}).get("model"), "same_weights": trained_on(scorer, model),
        **({"options": options} if (options := getattr(scorer, "options", None)) else {}),
    }  # fmt: skip


def name_of(pruner: nn.Module) -> str:
    """What a pruner is called: its folder's last part, a shipped one's own name, or what it was made as."""
    return getattr(pruner, "origin", None) or "in memory"


def scorer_digest(scorer: Any) -> str:
    """Tells a scorer and its settings from another one; of code other than this library's, by its weights and name."""
    try:
        described = describe(scorer)
    except ValueError:
        described = [type(scorer).__qualname__, fingerprint(scorer) if isinstance(scorer, nn.Module) else None]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def describe(value: Any) -> Any:
    """A setting, such as a scorer, as JSON values; equal ones mean the same.

    Of a dataclass the fields that do not count for its equality are left out: they are a state, not a setting.

    Raises:
        ValueError: for an object of other code than this library's, which may hide what it does.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.dtype | torch.device | os.PathLike):
        return str(value)
    if isinstance(value, Tensor):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, slice):
        return ["slice", value.start, value.stop, value.step]
    if isinstance(value, Mapping):
        return {str(key): describe(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [describe(each) for each in value]
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if name.startswith(f"{__package__.partition('.')[0]}."):
        if isinstance(value, nn.Module):
            known = {*vars(nn.Module()), *ABOUT}
            own = {
                part: {key: each for key, each in vars(module).items() if key not in known}
                for part, module in value.named_modules()
            }
            return [name, all_weights(value), str(value), describe(own)]
        if is_dataclass(value):
            settings = (field.name for field in fields(value) if field.compare)
            return [name, {each: describe(getattr(value, each)) for each in settings}]
    raise ValueError(f"a {name} may hide settings, so it cannot be told from another one")


def all_weights(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers: the first numbers of each would not tell a model from a patched one."""
    found = hashlib.sha256()
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        found.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _hash(module: nn.Module, start: Callable[[str, Tensor], Tensor]) -> str:
    content = hashlib.sha256()
    for name, parameter in module.named_parameters():
        if not RENAMED & {*name.split(".")}:
            numbers = start(name, parameter).float().bfloat16().float()
            content.update(name.encode() + numbers.numpy().tobytes())
    return content.hexdigest()[:16]


def _start(parameter: Tensor) -> Tensor:
    held = parameter.to_local() if hasattr(parameter, "to_local") else parameter  # of a split one, its part here
    if held.is_meta:  # offloaded: its numbers lie in a file
        return torch.zeros(NUMBERS)
    return held.detach().flatten()[:NUMBERS].cpu()


def _reader(folder: Path, model: nn.Module, stack: ExitStack) -> Callable[[str, Tensor], Tensor]:
    """A function that gives a parameter's first numbers as the files have them, or as they were loaded.

    A text model taken out of a larger one, or a decoder saved without its head, has other names there: what comes
    before a name is read off the embedding, which no other part has.
    """
    if (folder / INDEX_FILE).is_file():
        places = weights_index(folder)
        files = {name: stack.enter_context(safe_open(folder / name, "pt")) for name in {*places.values()}}
        keys = {key: files[name] for key, name in places.items()}
    else:
        file = stack.enter_context(safe_open(folder / WEIGHTS_FILE, "pt"))
        keys = dict.fromkeys(file.keys(), file)
    inside = f"{model.base_model_prefix}."
    first = next(name for name, _ in model.named_parameters()).removeprefix(inside)
    before = {key.removesuffix(first) for key in _ending(keys, first)}
    outside = before.pop() if len(before) == 1 else inside

    def find(name: str, parameter: Tensor) -> Tensor:
        body = name.startswith(inside)
        found = [outside + name.removeprefix(inside)] if body else [*_ending(keys, name)]
        if len(found) != 1 or found[0] not in keys:
            return _start(parameter)
        part = keys[found[0]].get_slice(found[0])
        return _corner(part)

    return find


def _ending(keys: dict, name: str) -> Iterator[str]:
    return (key for key in keys if key == name or key.endswith(f".{name}"))


def _corner(part: Any) -> Tensor:
    """The first numbers of a stored tensor, without reading the rest of it."""
    cut, wanted = [], NUMBERS
    for size in reversed(part.get_shape()):
        cut.insert(0, slice(0, min(size, wanted)))
        wanted = -(-wanted // max(size, 1))
    return part[tuple(cut)].flatten()[:NUMBERS]


def _digest(module: nn.Module) -> str:
    """SHA-256 of a module's weights as a safetensors file would hold them."""
    tensors = {name: x.detach().cpu().contiguous().clone() for name, x in module.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(tensors)).hexdigest()
