"""Notebooks run headless by papermill: a profile's parameters in, executed copies, tables and figures out."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "execution": ["NotebookFailed"],
    },
)
