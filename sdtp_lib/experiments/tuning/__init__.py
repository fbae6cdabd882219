"""What `sdtp tune` does for a model of one's own: marks, modules, schedules, and what they cost on held-out prompts."""
