"""Time, memory and FLOPs of the full and the pruned model, side by side in one run."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "sweep": ["profile"],
        "flops": ["schedule_flops"],
    },
)
