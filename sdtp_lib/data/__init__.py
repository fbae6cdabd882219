"""Prompts with answers: the embedded demo, Dolly-15k and LongBench, as records and as token ids."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "chat": ["role_positions"],
        "corpora": ["demo_pairs", "longbench_records"],
        "pairs": ["read_pairs", "training_pairs"],
        "samples": ["Batch", "Sample", "encode_pairs"],
    },
)
