"""Kinds of schedules that a figure tells apart; without matplotlib, which those who name them need not load."""

PAPERS, LATER = "the paper's stages", "few later cuts"  # behind the name of a score
