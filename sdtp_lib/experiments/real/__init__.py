"""Studies of real models on real text."""
