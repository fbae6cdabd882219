"""What a block puts on a model: hooks, and a `generate` that checks its arguments first.

`deepcopy(model)` inside a block gives a model that is not pruned: its hooks do nothing, and its `generate` is its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class _Guarded:
    """A method of a model behind a check; a copy of the model gets the method itself, bound to the copy."""

    def __init__(self, method: Callable, check: Callable[..., None]):
        self.method, self.check = method, check
        update_wrapper(self, method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            self.check(*args, **kwargs)
            return self.method(*args, **kwargs)
        except BaseException:
            if hasattr(streamer := kwargs.get("streamer"), "end"):
                streamer.end()  # or whoever reads it in another thread would wait for ever
            raise

    def __deepcopy__(self, memo: dict) -> Callable:
        return deepcopy(self.method, memo)

    def __reduce__(self) -> tuple:
        return _itself, (self.method,)


def _itself(method: Callable) -> Callable:
    return method


@contextmanager
def guarded_generate(model: nn.Module, block: Block) -> Iterator[None]:
    """Let `model.generate` check its arguments first: by the time the model runs, they cannot be seen any more."""
    signature = inspect.signature(model.generate)

    def check(*args: Any, **kwargs: Any) -> None:
        block.check()
        given = signature.bind(*args, **kwargs).arguments
        check_generation({**given, **given.pop("kwargs", {})}, model.generation_config)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ValueError("generate_batch (continuous batching) is not supported while pruning; use generate")

    checks = {"generate": check, "generate_batch": refuse}
    own = {name: vars(model)[name] for name in checks if name in vars(model)}
    vars(model).update({name: _Guarded(getattr(model, name), checks[name]) for name in checks})
    try:
        yield
    finally:
        for name in checks:
            del vars(model)[name]
        vars(model).update(own)
