"""Saliency-driven dynamic token pruning (SDTP, arXiv 2504.04514) for the language models of `transformers`.

Importing this package runs nothing and patches nothing; a public name loads its module when it is first used.
"""

from .lazy import hand_on

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "pruning.schedule": ["PruningSchedule"],
        "pruning.context": ["TokenPruning"],
        "scorers.token_pruner": ["TokenPruner"],
        "scorers.question_aware": ["QuestionAwarePruner"],
        "scorers.blend": ["BlendScorer"],
        "scorers.pooled": ["PooledScorer"],
        "models.loading": ["load_model", "load_pruner"],
        "models.named_schedules": ["resolve_schedule"],
    },
)
