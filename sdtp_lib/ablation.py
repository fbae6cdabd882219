"""The ablation of losses over several seeds (Tables 4 and 5, in kind): is a difference more than the seed's luck?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .experiments import train_ablations
from .marks import Marks
from .report import Markdown
from .results import markdown_table


def ablation_over_seeds(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, marks: Marks, folder: str | os.PathLike,
    tasks: str, limit: int, seeds: Sequence[int], **recipe,
) -> tuple[dict, list[dict], dict]:  # fmt: skip
    """`train_ablations` once per seed: initial weights, order, noise and held-out prompts change, the marks do not.

    Args:
        seeds: the first one's pruners go into `folder` itself, another's into `seed_<n>` in it.
        model, tokenizer, name, marks, folder, tasks, limit, recipe: see `train_ablations`.

    Returns:
        What `train_ablations` gives for the first seed (two values), and {name: {averages: [0 to 100 per seed],
        rank_correlation: [mean over stages, per seed]}}.

    Raises:
        ValueError: without seeds, or for one that is named twice.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different numbers, at least one, got {list(seeds)}")
    runs = []
    for index, seed in enumerate(seeds):
        place = Path(folder) / f"seed_{seed}" if index else Path(folder)
        runs.append(train_ablations(model, tokenizer, name, marks, place, tasks, limit, seed=seed, **recipe))
    over = {
        ablation: {
            "averages": [found[ablation]["average"] for found, _ in runs],
            "rank_correlation": [mean(found[ablation]["rank_correlation"].values()) for found, _ in runs],
        }
        for ablation in runs[0][0]
    }
    return *runs[0], over


def seeds_table(over: dict[str, dict]) -> Markdown:
    """What `ablation_over_seeds` found, mean and spread over the seeds."""
    rows = []
    for name, row in over.items():
        shown: dict = {"": name, "seeds": len(row["averages"])}
        for title, key, digits in (("score", "averages", 1), ("rank correlation", "rank_correlation", 3)):
            values = row[key]
            spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
            shown[f"{title}, mean ± sd"] = f"{mean(values):.{digits}f}{spread}"
            shown[f"{title}, range"] = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
        rows.append(shown)
    return Markdown(markdown_table(rows))
