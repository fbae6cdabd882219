"""Kinds of schedules that a figure tells apart; without matplotlib, which those who name them need not load."""

PAPERS, LATER = "the paper's stages", "one cut"  # behind the name of a score
