"""What tells the tokens that matter: the paper's module, one that reads the question, and untrained scores."""

from ..lazy import hand_on

__getattr__, __dir__, __all__ = hand_on(
    __name__,
    {
        "token_pruner": ["TokenPruner"],
        "question_aware": ["QuestionAwarePruner"],
        "blend": ["BlendScorer"],
        "pooled": ["PooledScorer"],
        "bm25": ["BM25Scorer"],
        "sentences": ["SentenceScorer", "sentence_ends"],
        "strongest_head": ["StrongestHeadScorer"],
        "attention": ["CumulativeAttentionScorer", "LastWindowAttentionScorer"],
        "simple": ["HiddenNormScorer", "RandomScorer", "RecencyScorer"],
    },
)
