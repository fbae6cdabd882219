"""Language models and their pruners, loaded by name and laid over devices and processes."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "loading": ["load_model", "load_pruner"],
        "named_schedules": ["resolve_schedule"],
        "workers": ["Workers"],
    },
)
