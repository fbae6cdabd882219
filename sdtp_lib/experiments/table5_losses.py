"""Pruners trained in different ways, compared over several seeds: is a difference more than the seed's luck?

The losses (Tables 4 and 5, in kind), the saliency's target, and the width of the pruner's MLP.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paper as paper_numbers
from ..evaluation.bootstrap import mean_nll
from ..evaluation.longbench import measure
from ..evaluation.task_records import records_of
from ..markdown import Markdown, paper_ours
from ..models.loading import load_model
from ..paper import ABLATIONS
from ..pruning.schedule import PruningSchedule
from ..results import markdown_table
from ..scorers.token_pruner import TokenPruner
from ..training.hidden_states import KeptStates
from ..training.marks import Marks
from ..training.recipe import Recipe, check_seeds
from ..training.saliency import TARGETS, mark
from ..training.trainer import Trainer

Options = Mapping[str, Any]
WIDTHS = (4, 128)  # of the pruner's MLP, below and above the demo's 32
LOSSES = {name: {"without": terms} for name, terms in zip(ABLATIONS, ((), ("rank",), ("rank", "mse")), strict=True)}


def train_ablations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, marks: Marks | Mapping[str, Marks],
    folder: str | os.PathLike, tasks: str, limit: int, *, variations: Mapping[str, Options] = LOSSES,
    schedule: str | PruningSchedule = "paper", revision: str | None = None, source: str | None = None,
    tokens: int | None = None, **recipe,
) -> tuple[dict, list[dict]]:  # fmt: skip
    """One pruner per variation, its rank correlation and its quality; by default Table 5's: all losses, without some.

    Args:
        model, tokenizer: for the evaluation; `name` and `revision` load the same model for the training, once, which
            reads its hidden states once for all variations.
        marks: of stage 1, for all variations, or {variation: marks}.
        folder: gets one pruner each.
        tasks, limit, source, tokens: what the pruners are compared on, see `evaluation.task_records.records_of`.
        variations: {variation: fields of `training.recipe.Recipe` that are its own}.
        schedule: that they are compared under; its stages are among the paper's, which are trained.
        recipe: fields of `Recipe` that all have in common.

    Returns:
        {variation: {rank_correlation: {layer: float}, average: 0 to 100, and where answers are weighed nll: nats per
        token of the right one, mean over the tasks}}, and the first one's training history. The correlation is with the
        held-out saliency of a variation's own marks.
    """
    records = records_of(model, tokenizer, tasks, limit, source, tokens)
    network, _ = load_model(name, dtype="float32", revision=revision)
    stages = PruningSchedule.preset("paper", network.config.num_hidden_layers)
    states, found, histories = KeptStates(network, stages.layers), {}, []
    for variation, own in variations.items():
        output = Path(folder) / variation.replace(" ", "_")
        its_marks = marks[variation] if isinstance(marks, Mapping) else marks
        histories.append(Trainer(network, its_marks, stages, Recipe(**{**recipe, **own}), output, states).run())
        pruner = TokenPruner.from_pretrained(output)
        summary, _ = measure(model, tokenizer, records, "sdtp", schedule, pruner.to(model.dtype))
        correlation = dict(zip(pruner.layers, pruner.record["held_out"]["rank_correlation"], strict=True))
        found[variation] = {"rank_correlation": correlation, "average": summary["average"], **mean_nll(summary)}
    return found, histories[0]


def ablation_over_seeds(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, marks: Marks | Mapping[str, Marks],
    folder: str | os.PathLike, tasks: str, limit: int, seeds: Sequence[int], **options,
) -> tuple[dict, list[dict], dict]:  # fmt: skip
    """`train_ablations` once per seed: initial weights, order, noise and held-out prompts change, the marks do not.

    Args:
        seeds: the first one's pruners go into `folder` itself, another's into `seed_<n>` in it.
        model, tokenizer, name, marks, folder, tasks, limit, options: see `train_ablations`.

    Returns:
        What `train_ablations` gives for the first seed (two values), and {variation: {averages: [0 to 100 per seed],
        rank_correlation: [mean over stages, per seed]}}.

    Raises:
        ValueError: without seeds, or for one that is named twice.
    """
    check_seeds(seeds)
    runs = []
    for index, seed in enumerate(seeds):
        place = Path(folder) / f"seed_{seed}" if index else Path(folder)
        runs.append(train_ablations(model, tokenizer, name, marks, place, tasks, limit, seed=seed, **options))
    over = {
        variation: {
            "averages": [found[variation]["average"] for found, _ in runs],
            "rank_correlation": [mean(found[variation]["rank_correlation"].values()) for found, _ in runs],
        }
        for variation in runs[0][0]
    }
    return *runs[0], over


def targets_and_widths(hidden_size: int, widths: Sequence[int] = WIDTHS) -> dict[str, tuple[Options, Options]]:
    """Variations for `pruner_ablation`: every saliency target at the paper's width, a quarter of the model's hidden
    size, and every width of the pruner's MLP with the answer's saliency."""
    paper = max(1, hidden_size // 4)
    chosen = dict.fromkeys([*((target, paper) for target in TARGETS), *(("answer", width) for width in widths)])
    return {f"target {t}, width {w}": ({"target": t}, {"options": {"width": w}}) for t, w in chosen}


def pruner_ablation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, folder: str | os.PathLike,
    variations: Mapping[str, tuple[Options, Options]], tasks: str, limit: int, seeds: Sequence[int], *,
    data: str | os.PathLike, num_samples: int, seed: int = 0, revision: str | None = None, **options,
) -> dict[str, dict]:  # fmt: skip
    """Both stages of the paper for every variation: mark once per different marks, then train once per seed.

    Args:
        folder: gets the marks, which are not made again, and the pruners.
        variations: {variation: (options of `training.saliency.mark`, fields of `Recipe`)}.
        data, num_samples, seed: of the marks, see `training.saliency.mark`.
        model, tokenizer, name, tasks, limit, seeds, options: see `ablation_over_seeds`.

    Returns:
        {variation: {averages: [0 to 100 per seed], rank_correlation: [mean over stages, per seed]}}.

    Raises:
        ValueError, FileNotFoundError: as `ablation_over_seeds`, `mark` and `train`; for the seeds before anything runs.
    """
    check_seeds(seeds)
    made: dict[Path, Marks] = {}
    marks, recipes = {}, {}
    for variation, (marking, recipes[variation]) in variations.items():
        place = Path(folder) / "_".join(["marks", *(f"{key}_{value}" for key, value in sorted(marking.items()))])
        if place not in made:
            made[place] = mark(name, data, num_samples, output=place, seed=seed, revision=revision, **marking)
        marks[variation] = made[place]
    options = {"variations": recipes, "revision": revision, **options}
    return ablation_over_seeds(model, tokenizer, name, marks, folder, tasks, limit, seeds, **options)[2]


def seeds_table(over: dict[str, dict]) -> Markdown:
    """What `ablation_over_seeds` found; of several seeds their mean, spread and range."""
    rows = []
    for name, row in over.items():
        shown: dict = {"": name, "seeds": len(row["averages"])}
        for title, key, digits in (("score", "averages", 1), ("rank correlation", "rank_correlation", 2)):
            values = row[key]
            if len(values) == 1:
                shown[title] = f"{values[0]:.{digits}f}"
                continue
            shown[f"{title}, mean ± sd"] = f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
            shown[f"{title}, range"] = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
        rows.append(shown)
    return Markdown(markdown_table(rows))


def curves(history: Sequence[dict], layers: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Loss curves of a training history: by term (summed over stages), and of the stages (MSE + ranking) by layer."""
    terms = [name for name in ("mse", "rank", "cls", "rate", "distill") if any(name in row for row in history)]
    total = {name: [_total(row.get(name)) for row in history] for name in terms}
    index = pd.Index([row["step"] for row in history], name="step")
    stages = [
        [sum(row[name][i] for name in ("mse", "rank") if name in row) for i in range(len(layers))] for row in history
    ]
    return pd.DataFrame(total, index=index, dtype=float), pd.DataFrame(stages, index=index, columns=list(layers))


def columns(frame: pd.DataFrame) -> dict[str, list]:
    """A table as JSON: column -> values, the index first; None where a value is missing."""
    frame = frame.reset_index()
    return {str(name): frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame}


def _total(value: float | list[float] | None) -> float | None:
    return sum(value) if isinstance(value, list) else value


def ablation_against_paper(found: dict[str, dict]) -> Markdown:
    """Points lost by leaving losses out, on average over LongBench's categories: Table 5's and ours; and, where answers
    are weighed, what the right one lost."""
    full = ABLATIONS[0]
    mean = {name: sum(row.values()) / len(row) for name, row in paper_numbers.TABLE5.items()}
    rows = [(name, mean[name] - mean[full], found[name]["average"] - found[full]["average"]) for name in ABLATIONS[1:]]
    if "nll" in found[full]:
        rows += [(f"{name}, nats per token more", None, found[name]["nll"] - found[full]["nll"])
                 for name in ABLATIONS[1:]]  # fmt: skip
    return paper_ours(rows)
