"""Whether pruning changed the score: differences on the same samples, which cancel how hard each sample is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.tasks import DATASETS
from .bootstrap import interval, standard_error

FEWEST = 5  # samples of a dataset below which an interval made by resampling them says nothing
# What a sample may say besides its score: its key there, and what it is multiplied by; see `bootstrap.further_scores`.
FURTHER = {"right": ("choice", 100), "nll": ("nll", 1)}
UNSEEN, LOWER, HIGHER, UNKNOWN = "no difference seen", "lower", "higher", "too few samples"


def paired_differences(full: Sequence[dict], pruned: Sequence[dict], seed: int = 0) -> dict:
    """Score of the pruned model minus that of the full one, in points of 100, on the same samples.

    Args:
        full, pruned: what `score_records` gave on the same records, in any order.
        seed: of the bootstrap.

    Returns:
        `average` (plain mean over datasets), `categories` {name: ...} and `tasks` {dataset: ...}, each `difference`,
        `ci95` (paired bootstrap: the differences are resampled, each dataset by itself), `stderr` (None for a single
        sample), `n`, and `verdict`: "no difference seen" where the interval covers 0, which does not say that there is
        none; "lower" or "higher" where it does not; "too few samples" below 5 in a dataset. Where answers are weighed,
        each of `tasks` also has such cells of FURTHER, `nll` in nats per token.

    Raises:
        ValueError: without samples, or if the two sides were not asked the same records.
    """
    others, groups, further = {_key(sample): sample for sample in pruned}, {}, {}
    if not full or not len(full) == len(pruned) == len(others) or others.keys() != {*map(_key, full)}:
        raise ValueError(f"differences need the same records on both sides, got {len(full)} and {len(pruned)} samples")
    for sample in full:
        other = others[_key(sample)]
        if (sample["answers"], sample["prompt_tokens"]) != (other["answers"], other["prompt_tokens"]):
            raise ValueError(f"{sample['dataset']} record {sample['_id']} has other answers or another prompt")
        groups.setdefault(sample["dataset"], []).append(100 * (other["score"] - sample["score"]))
        for name, (key, scale) in FURTHER.items():
            if key in sample and key in other:
                cells = further.setdefault(sample["dataset"], {})
                cells.setdefault(name, []).append(scale * (other[key] - sample[key]))
    categories = dict.fromkeys(DATASETS[name].category for name in groups)
    members = {c: [group for name, group in groups.items() if DATASETS[name].category == c] for c in categories}
    return {
        "average": difference_cell(list(groups.values()), seed),
        "categories": {name: difference_cell(member, seed) for name, member in members.items()},
        "tasks": {
            name: difference_cell([group], seed)
            | {what: difference_cell([values], seed) for what, values in further.get(name, {}).items()}
            for name, group in groups.items()
        },
    }


def _key(sample: dict) -> tuple[str, str]:
    return sample["dataset"], sample["_id"]


def difference_cell(groups: Sequence[Sequence[float]], seed: int = 0) -> dict:
    """One cell of `paired_differences`: `groups` holds the differences of each dataset, in points."""
    low, high = interval(groups, seed)
    if min(map(len, groups)) < FEWEST:
        verdict = UNKNOWN
    else:
        verdict = UNSEEN if low <= 0 <= high else LOWER if high < 0 else HIGHER
    return {
        "difference": round(float(np.mean([np.mean(group) for group in groups])), 4), "ci95": [low, high],
        "stderr": standard_error(groups), "n": sum(map(len, groups)), "verdict": verdict,
    }  # fmt: skip
