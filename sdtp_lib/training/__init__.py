"""Stage 1 and stage 2 of the paper: marking how much every prompt token matters, and training a pruner to know it."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "saliency": ["mark", "token_saliency"],
        "trainer": ["Trainer", "train"],
    },
)
