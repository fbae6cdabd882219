"""Answers under any token score, scored: LongBench, LongBench-mini, and the tasks of lm-evaluation-harness."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "longbench": ["evaluate", "measure"],
        "methods": ["METHODS", "make_scorer"],
    },
)
