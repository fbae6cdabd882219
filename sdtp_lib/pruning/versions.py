"""What differs between versions of transformers: the names under which a cache travels.

A cache is looked for by its type, so that a new name for it changes nothing here; names are needed to hand one in.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import transformers
from torch import nn
from transformers import Cache

CACHE_NAMES = ("cache", "past_key_values")  # arguments of a model: from 5.24 on, and before


def find_cache(values: Iterable[Any]) -> Cache | None:
    """The cache among a call's arguments or a model's outputs, whatever it is called there; None if there is none."""
    for value in values:  # a plain loop: it runs at every layer of every step
        if isinstance(value, Cache):
            return value
    return None


def given_cache(arguments: Mapping[str, Any]) -> Cache | None:
    """The cache that a call hands to a model; ValueError for something else by its name."""
    for name in CACHE_NAMES:
        given = arguments.get(name)
        if given is not None and not isinstance(given, Cache):
            raise unseen_cache(f"{name} is a {type(given).__name__}, not a DynamicCache")
    return find_cache(arguments.values())


def output_cache(output: Any) -> Cache | None:
    """The cache in a model's output, a tuple or a `ModelOutput`."""
    return find_cache(output if isinstance(output, tuple) else getattr(output, "values", tuple)())


def with_cache(model: nn.Module, cache: Cache) -> dict[str, Cache]:
    """`cache` as a keyword argument of this model and of its `generate`.

    Raises:
        ValueError: if the model takes none, by any name known here.
    """
    return {_cache_name(type(model)): cache}


@lru_cache
def _cache_name(model: type[nn.Module]) -> str:
    parameters = inspect.signature(model.forward).parameters
    name = next((name for name in CACHE_NAMES if name in parameters), None)
    if name is None:
        raise unseen_cache(f"{model.__name__} takes no cache by the names {', '.join(CACHE_NAMES)}")
    return name


def unseen_cache(what: str) -> ValueError:
    """The error for a pass of which pruning cannot tell what is cached: never silently off, never silently wrong."""
    return ValueError(
        f"{what}: transformers {transformers.__version__} does this in a way that pruning does not know; "
        "use a version that the README names as tested"
    )
