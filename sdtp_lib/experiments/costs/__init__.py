"""What pruning costs within a prefill or a decode step, and what else the same budget buys: all timed."""
