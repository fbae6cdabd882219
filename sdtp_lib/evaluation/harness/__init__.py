"""lm-evaluation-harness on pruned models: `sdtp lm-eval`, its model class, tasks, and a cache of answers."""

from ...lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "model": ["SDTPLM"],
    },
)
