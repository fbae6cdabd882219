"""The schedules `free`, `fast` and `fastest` of a real model, chosen from ways that were tried, as a pruner's folder.

`python -m sdtp_lib.experiments.real.presets results/smollm2/tried.json FOLDER --model smollm2-135m` writes it. Several
files, each of another length, are judged by the mean loss of the ways that all of them tried.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...models.identity import fingerprint
from ...models.loading import load_with_tokenizer
from ...models.names import label
from ...pruning.schedule import PruningSchedule
from ...results import read_json
from ...scorers.attention_pruner import UNTRAINED, AttentionPruner
from ...scorers.files import read_config
from ...scorers.pooling import Pool
from ...scorers.sentences import sentence_ends
from ...scorers.use import USE, use
from .full_passes import TASKS

AT_LEAST = {"free": 1.6, "fast": 2.2, "fastest": 3.0}  # FLOPs of the prefill, full / pruned


def choose(
    rows: Sequence[Mapping[str, Any]], score: str | None = None, pool: Pool | None = None
) -> dict[str, Mapping[str, Any]]:
    """Name -> the row whose answers lose least, mean over tasks, of one score and pooling for all names.

    Args:
        rows: of `tried.try_ways`; scores that must be trained, or shown the answers, are passed over.
        score, pool: take this score, or pooling, and choose its places alone.

    Raises:
        ValueError: if no such score was tried at every FLOP ratio.
    """
    rows = [row for row in rows if score in (None, row["score"]) and pool in (None, row["pool"])]
    found: dict[tuple[str, Pool], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        names = [name for name, ratio in AT_LEAST.items() if row["flops"] >= ratio]
        if row["score"] in UNTRAINED and names:
            best = found.setdefault((row["score"], row["pool"]), {})
            best[names[-1]] = min(best.get(names[-1], row), row, key=_loss)
    whole = [best for best in found.values() if best.keys() == AT_LEAST.keys()]
    if not whole:
        raise ValueError(f"no score was tried at all FLOP ratios, {', '.join(f'{x:g}' for x in AT_LEAST.values())}")
    best = min(whole, key=lambda best: sum(map(_loss, best.values())))
    return {name: best[name] for name in AT_LEAST}


def over_lengths(tried: Sequence[Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """The ways that were tried at every length, with their mean loss above the full model's.

    Args:
        tried: rows of `tried.try_ways` for each length; schedules and FLOPs are those of the first.
    """
    first, *others = ({_way(row): row for row in rows if row["score"] in UNTRAINED} for rows in tried)
    return [
        {**row, **{task: {"above": {"difference": mean(each[way][task]["above"]["difference"]
                                                       for each in (first, *others))}} for task in TASKS}}
        for way, row in first.items()
        if all(way in each for each in others)
    ]  # fmt: skip


def _way(row: Mapping[str, Any]) -> tuple:
    return row["score"], row["pool"], row["asked"], (*row["schedule"]["layers"], row["schedule"]["local_ratio"])


def as_pruner(
    chosen: Mapping[str, Mapping[str, Any]], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> AttentionPruner:
    """The pruner that scores so, with these schedules in its record."""
    schedules = {name: PruningSchedule(**row["schedule"]) for name, row in chosen.items()}
    first = next(iter(chosen.values()))
    record = {
        "model": label(model.name_or_path), "fingerprint": fingerprint(model), "score": first["score"],
        USE: use(schedules, first["pool"], sentence_ends(tokenizer)),
    }  # fmt: skip
    layers = sorted({layer for schedule in schedules.values() for layer in schedule.layers})
    return AttentionPruner(model.config.hidden_size, layers, record, **UNTRAINED[first["score"]])


def write_presets(
    tried: Sequence[str | os.PathLike], folder: str | os.PathLike, model: str | os.PathLike,
    like: str | os.PathLike | None = None,
) -> None:  # fmt: skip
    """Choose from the files `tried`, each of another length, and write the folder.

    Args:
        like: folder of presets, of another model say, whose score and pooling are taken whatever others lose.

    Raises:
        ValueError, FileNotFoundError: as `choose` and `load_model`; nothing is written then.
    """
    known = read_config(Path(like))["record"] if like else None
    rows = over_lengths([read_json(file)["data"] for file in tried])
    chosen = choose(rows, *((known["score"], known[USE]["pool"]) if known else ()))
    as_pruner(chosen, *load_with_tokenizer(model, "float32")).save_pretrained(folder)


def _loss(row: Mapping[str, Any]) -> float:
    return sum(row[task]["above"]["difference"] for task in TASKS) / len(TASKS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Choose a real model's presets from ways that were tried.")
    parser.add_argument("tried", nargs="+", help="tried.json, of one length or several")
    parser.add_argument("folder", help="gets the pruner")
    parser.add_argument("--model", required=True, help="folder or name")
    parser.add_argument("--like", default=None, metavar="PRUNER", help="folder whose score is taken, pooled as there")
    given = parser.parse_args()
    write_presets(given.tried, given.folder, given.model, given.like)


if __name__ == "__main__":
    main()
