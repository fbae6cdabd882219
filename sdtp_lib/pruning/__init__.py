"""The engine: what happens inside `with TokenPruning(schedule, scorer)(model)`, from the first hook to the trace."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "context": ["TokenPruning"],
        "schedule": ["PruningSchedule"],
        "scoring": ["Scorer", "ScoringContext"],
        "families": ["ModelAdapter"],
        "trace": ["PruningTrace"],
    },
)
