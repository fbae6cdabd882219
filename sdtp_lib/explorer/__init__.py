"""The pruning explorer: one prompt on one HTML page, with what is dropped at which layer."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "content": ["exploration"],
        "command": ["explore"],
        "page": ["ExplorerPage"],
    },
)
