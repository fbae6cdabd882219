"""Saliency-driven dynamic token pruning (SDTP, arXiv 2504.04514) for the language models of `transformers`.

Importing this package runs nothing and patches nothing; a public name loads its module when it is first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "PruningSchedule": "schedule",
    "TokenPruning": "pruning",
    "TokenPruner": "scorers",
    "QuestionAwarePruner": "question",
    "BlendScorer": "blend",
    "PooledScorer": "pooled",
    "load_model": "models",
    "load_pruner": "models",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    """The public object `name`, from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
