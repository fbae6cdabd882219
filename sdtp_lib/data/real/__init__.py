"""Tasks on real text, built by seed at a wanted number of tokens: needles, questions among documents, plain prose."""

from ...lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "passages": ["Passage", "read_passages"],
        "build": ["real_records"],
    },
)
