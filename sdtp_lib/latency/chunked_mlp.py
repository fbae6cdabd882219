"""A long prompt's MLPs, run a slice of the tokens at a time: the same results from smaller intermediate tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from torch import Tensor, nn

from ..pruning.families import ModelAdapter


@contextmanager
def chunked_mlp(model: nn.Module, tokens: int = 2048) -> Iterator[None]:
    """Run every decoder layer's MLP over slices of the prompt; leaving the block leaves nothing on the model.

    An MLP (or a mixture of experts) holds about 3 x tokens x intermediate size numbers at once, which sets the peak of
    a long prefill. Rows do not depend on each other, so slices give the same, up to the rounding of a kernel that adds
    in another order for fewer rows. Goes with `TokenPruning` in either order. Calls on the MLP's own submodules are one
    per slice: hooks on them see slices, and so do recorded router logits.

    Args:
        model: a `transformers` causal language model of a supported family (or its decoder).
        tokens: the most that go through at once, counted over the whole batch; a shorter input is not touched, so
            decode steps are not. Slices are of equal length, as far as that goes.

    Raises:
        ValueError: if `tokens` is no whole number of 1 or more, or the model's family is not supported.
    """
    check_tokens(tokens)
    with ExitStack() as stack:
        for layer in ModelAdapter.of(model).layers:
            attributes = vars(layer.mlp)
            if "forward" in attributes:  # wrapped by somebody else
                stack.callback(attributes.__setitem__, "forward", attributes["forward"])
            else:
                stack.callback(attributes.pop, "forward", None)
            attributes["forward"] = _sliced(layer.mlp.forward, tokens)
        yield


def check_tokens(tokens: int) -> None:
    """Raise ValueError unless `tokens` is a whole number of 1 or more."""
    if type(tokens) is not int or tokens < 1:
        raise ValueError(f"tokens must be a whole number of 1 or more, got {tokens!r}")


def _sliced(forward: Callable, tokens: int) -> Callable:
    """`forward`, over slices of at most `tokens` rows of all tensors that have the first one's (batch, tokens, ...)."""

    @wraps(forward)
    def run(*args, **kwargs) -> Any:
        lead = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)).shape[:-1]
        rows = lead.numel()
        if rows <= tokens:
            return forward(*args, **kwargs)
        args = [_flat(value, lead) for value in args]
        kwargs = {name: _flat(value, lead) for name, value in kwargs.items()}
        size = -(-rows // -(-rows // tokens))
        wholes = None
        for start in range(0, rows, size):
            piece = slice(start, min(start + size, rows))
            part = forward(
                *(_cut(value, piece, rows) for value in args),
                **{name: _cut(value, piece, rows) for name, value in kwargs.items()},
            )
            several = isinstance(part, tuple)
            parts = part if several else (part,)
            if wholes is None:  # one tensor for all slices: joining them at the end would take twice that
                wholes = [each.new_empty(*each.shape[:-2], rows, each.shape[-1]) for each in parts]
            for whole, each in zip(wholes, parts, strict=True):
                whole[..., piece, :] = each
            del part, parts, each  # or it would be held throughout the next slice
        wholes = [whole.view(*lead, -1) if whole.dim() > 2 else whole for whole in wholes]
        return tuple(wholes) if several else wholes[0]

    return run


def _flat(value: Any, lead: tuple[int, ...]) -> Any:
    """A tensor (*lead, n) as (1, rows, n), without a copy where it is contiguous; anything else as it is."""
    if isinstance(value, Tensor) and value.shape[:-1] == lead:
        return value.reshape(1, -1, value.shape[-1])
    return value


def _cut(value: Any, piece: slice, rows: int) -> Any:
    return value[:, piece] if isinstance(value, Tensor) and value.shape[:-1] == (1, rows) else value
