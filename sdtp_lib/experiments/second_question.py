"""A second question on the same context: the pruned cache is kept, and asked again.

The prompt is cut while the first question stands at its end. A score that reads that question may have dropped what the
second one asks for; one that does not read it has nothing to lose here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from ..data.corpora import MINI_SEED
from ..data.demo.dense import ALL_TASKS
from ..data.demo.questions import TWICE_DATASETS, two_questions
from ..data.records import ASKED_TWICE, check_asked
from ..data.tasks import DATASETS
from ..evaluation.answers import greedy
from ..evaluation.bootstrap import mean_over_runs
from ..evaluation.methods import make_pruning
from ..evaluation.metrics import score
from ..evaluation.sample_files import SampleFile, run_settings
from ..markdown import Markdown, interval_text
from ..models.named_schedules import resolve_schedule
from ..pruning.context import TokenPruning
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..pruning.versions import with_cache
from ..results import markdown_table
from ..scorers.blend import BlendScorer

CODE = ("experiments/second_question.py",)  # decides the samples as well


@torch.inference_mode()
def ask_twice(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    pruning: TokenPruning | None = None,
    *,
    title: str | None = None,
    file: SampleFile | None = None,
) -> list[dict]:
    """Answer both questions of every record greedily, one record at a time, the second on the cache of the first.

    Args:
        records: of `data.demo.questions.two_questions`.
        pruning: prunes the prompt with the first question; with `prune="first"` the second is not cut.
        title: label of the progress bar (TQDM_DISABLE=1 hides it).
        file: gets each sample as soon as it is done; records that it holds are not asked again.

    Returns:
        One dict per record: `_id`, `dataset`, `prompt_tokens`, `prediction`, `answers`, `score` (0 to 1) of the first
        question, and `second`, the same three of the second.

    Raises:
        ValueError: before the model runs, for a record that does not fit `data.records.ASKED_TWICE` or has another's
            name.
    """
    check_asked(records, ASKED_TWICE)
    samples = []
    for record in tqdm(records, desc=title, unit="prompt"):
        task, spec = ALL_TASKS[record["dataset"]], DATASETS[record["dataset"]]
        first = tokenizer(task.prompt(record["context"], record["input"]))["input_ids"]
        second = tokenizer(task.prompt("", record["second"]["input"]))["input_ids"]
        sample = None if file is None else file.find(record, [*first, *second])
        if sample is None:
            replies = _two_answers(model, tokenizer, first, second, spec.max_new_tokens, pruning)
            asked = [record["answers"], record["second"]["answers"]]
            found = [
                {"prediction": reply, "answers": answers,
                 "score": score(record["dataset"], reply, answers, record["all_classes"])}
                for reply, answers in zip(replies, asked, strict=True)
            ]  # fmt: skip
            sample = {"_id": record["_id"], "dataset": record["dataset"], "prompt_tokens": len(first), **found[0]}
            sample["second"] = found[1]
            if file is not None:
                file.write([sample], [[*first, *second]])
        samples.append(sample)
    return samples


def second_scores(samples: Sequence[dict]) -> list[dict]:
    """Samples of `ask_twice` with the second question's prediction, answers and score in place of the first's."""
    return [{**sample, **sample["second"]} for sample in samples]


def _two_answers(model, tokenizer, first: list[int], second: list[int], new_tokens: int, pruning) -> list[str]:
    cache, ids, replies = DynamicCache(config=model.config), torch.tensor([first], device=model.device), []
    with pruning(model) if pruning else nullcontext():
        for turn in (None, second):
            if turn is not None:
                ids = torch.cat([ids, torch.tensor([turn], device=model.device)], dim=1)
            out = greedy(model, tokenizer, ids, torch.ones_like(ids), new_tokens, **with_cache(model, cache))
            replies.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
            ids = out
    return replies


def twice_records(sets: Sequence[str], limit: int, tokens: tuple[int, int] = (272, 960)) -> list[dict]:
    """`limit` records with two questions of each dataset of the sets "ordinary" and "dense"."""
    if unknown := sorted({*sets} - {"ordinary", "dense"}):
        raise ValueError(f"unknown set {unknown[0]!r}; known: ordinary, dense")
    datasets = [name for name in TWICE_DATASETS if ("dense" if name.startswith("dense_") else "ordinary") in sets]
    return [record for name in datasets for record in two_questions(name, limit, MINI_SEED, tokens)]


def second_question(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    schedule: str | PruningSchedule,
    scorers: Mapping[str, Scorer | None],
    folder: str | os.PathLike | None = None,
    resume: bool = True,
) -> list[dict[str, Any]]:
    """Scores of both questions when the second is asked of the cache that was pruned with the first.

    Args:
        records: of `twice_records`.
        scorers: label -> scorer, or None where the label is a name of METHODS.
        folder, resume: see `measure`.

    Returns:
        One dict per label: `method`, and for `first` and `second` the score (0 to 100) and its `ci95`.
    """
    stages, rows = resolve_schedule(schedule, model), []
    for label, scorer in scorers.items():
        pruning, file = make_pruning(model, label if scorer is None else "sdtp", stages, scorer), None
        if folder is not None:
            used = stages if pruning else resolve_schedule("none", model)
            settings = run_settings(model, label, used, scorer, CODE)
            file = SampleFile(Path(folder) / f"twice-{label}.jsonl", settings, resume)
        samples = ask_twice(model, tokenizer, records, pruning, title=label, file=file)
        row: dict[str, Any] = {"method": label, "n": len(samples), "share": getattr(scorer, "share", None)}
        for turn, asked in (("first", samples), ("second", second_scores(samples))):
            row[turn], row[f"{turn}_ci95"] = mean_over_runs([asked])
        rows.append(row)
    return rows


def blends(question: Scorer, general: Scorer, shares: Sequence[float]) -> dict[str, Scorer]:
    """Label -> scorer that spends a share of the budget by the question, the rest by general saliency."""
    return {f"blend {share:g}": BlendScorer(question, general, share) for share in shares}


def twice_table(rows: Sequence[Mapping]) -> Markdown:
    """Both questions' scores of each method."""
    return Markdown(markdown_table([
        {
            "method": row["method"],
            "first question": row["first"], "95%": interval_text(row["first_ci95"]),
            "second question": row["second"], "95% ": interval_text(row["second_ci95"]),
        }
        for row in rows
    ], digits=1))  # fmt: skip
