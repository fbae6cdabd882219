"""Names that options take: for the command line, which must not load torch, and for the modules that heed them."""

MODES = ("prefill", "end2end")  # of a latency sweep
DECODES = ("sdpa", "grouped")  # attention of decode steps
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")  # rules of transformers
DTYPES = ("auto", "bfloat16", "float16", "float32")  # of a model's weights; auto is resolved in models/dtypes.py
BASELINES = ("random", "recency", "norm", "attention", "strongest", "h2o", "bm25")  # scores that need no training
ASKED = ("attention", "strongest", "bm25")  # of those the ones that read what the last tokens ask for
METHODS = ("full", "sdtp", *BASELINES, "oracle")  # that answers are measured under; see evaluation/methods.py
COMPARED = (*BASELINES, "oracle", "question_aware")  # scores that the explorer shows beside a pruner's
SENTENCES = "sentences"  # how scores are pooled, in place of a number of neighbours; see scorers/pooling.py
