"""Answer quality under pruning: LongBench's metrics, prompts and scores, and the paper's Table 1."""
