"""What a block puts on a model: hooks, and a `generate` that checks its arguments first.

`deepcopy(model)` inside a block gives a model that is not pruned: its hooks do nothing, and its `generate` is its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import update_wrapper
from typing import Any

from torch import nn

from .block import Block
from .refusals import check_generation


def _nothing(*_: Any) -> None:
    """The hook of a copy."""


class Hook:
    """A hook that stays behind when its module is copied or pickled."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __reduce__(self) -> tuple:
        return _no_hook, ()


def _no_hook() -> Callable[..., None]:
    return _nothing


class _Around:
    """A method of a module with a block around it; a copy of the module gets the method itself, bound to the copy."""

    def __init__(self, method: Callable, around: Callable[..., AbstractContextManager]):
        self.method, self.around = method, around
        update_wrapper(self, method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.around(*args, **kwargs):
            return self.method(*args, **kwargs)

    def __deepcopy__(self, memo: dict) -> Callable:
        return deepcopy(self.method, memo)

    def __reduce__(self) -> tuple:
        return _itself, (self.method,)


def _itself(method: Callable) -> Callable:
    return method


@contextmanager
def replaced(module: nn.Module, **arounds: Callable[..., AbstractContextManager]) -> Iterator[None]:
    """Put something around methods of a module; afterwards each is what it was before, also where it was its own."""
    own = {name: vars(module)[name] for name in arounds if name in vars(module)}
    vars(module).update({name: _Around(getattr(module, name), around) for name, around in arounds.items()})
    try:
        yield
    finally:
        for name in arounds:
            del vars(module)[name]
        vars(module).update(own)


@contextmanager
def guarded_generate(model: nn.Module, block: Block) -> Iterator[None]:
    """Let `model.generate` check its arguments first: by the time the model runs, they cannot be seen any more."""
    signature = inspect.signature(model.generate)

    @contextmanager
    def generate(*args: Any, **kwargs: Any) -> Iterator[None]:
        try:
            with block.a_call():
                given = signature.bind(*args, **kwargs).arguments
                check_generation({**given, **given.pop("kwargs", {})}, model.generation_config)
                yield
        except BaseException:
            if hasattr(streamer := kwargs.get("streamer"), "end"):
                streamer.end()  # or whoever reads it in another thread would wait for ever
            raise

    def generate_batch(*args: Any, **kwargs: Any) -> AbstractContextManager:
        raise ValueError("generate_batch (continuous batching) is not supported while pruning; use generate")

    with replaced(model, generate=generate, generate_batch=generate_batch):
        yield
