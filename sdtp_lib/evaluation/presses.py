"""kvpress's methods to compress a cache, loaded so that nothing but the press itself stays behind."""

from __future__ import annotations

from typing import Any

from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def load_press(name: str, **options) -> Any | None:
    """A press of kvpress by the name of its class, or None where kvpress is missing or does not run.

    Importing kvpress wraps transformers' attention functions for good, which only presses that mask need, so that is
    undone.
    """
    stock = dict(ALL_ATTENTION_FUNCTIONS.items())
    try:
        import kvpress
    except ImportError:
        return None
    finally:
        for key, function in stock.items():
            ALL_ATTENTION_FUNCTIONS[key] = function
    return getattr(kvpress, name)(**options)
