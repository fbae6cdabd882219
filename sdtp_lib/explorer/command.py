"""What `sdtp explore` runs: a prompt's file in, one HTML page out."""

from __future__ import annotations

import os
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import results
from ..evaluation.methods import check_names, make_scorer
from ..models.loading import load_pruner, load_with_tokenizer
from ..models.named_schedules import default_schedule, resolve_schedule
from ..models.names import label
from ..options import COMPARED
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..scorers.token_pruner import check_seed, positive
from ..text_files import check_apart, read_text
from .content import exploration


def explore(
    prompt_file: str | os.PathLike,
    output: str | os.PathLike,
    model: str | os.PathLike = "demo",
    pruner: str | os.PathLike | None = None,
    schedule: str | None = None,
    compare: str | os.PathLike = "random",
    answer: str | None = None,
    *,
    saliency: bool = True,
    new_tokens: int = 48,
    seed: int = 0,
    chat_template: bool | None = None,
    dtype: str = "auto",
    device: str | None = None,
    revision: str | None = None,
    any_model: bool = False,
) -> dict:
    """Write the explorer's page of one prompt: what `sdtp explore` runs.

    Args:
        prompt_file: UTF-8 text, but for one line end at its end, which editors add; may be a pipe, or `-` for standard
            input.
        output: HTML file.
        model: see `models.load_model`; `dtype`, `device` and `revision` go there.
        pruner, any_model: folder of the trained pruner, see `models.load_pruner`; the demo models have their own.
        schedule: its name, see `models.named_schedules.resolve_schedule`; None: the pruner's own, else keep07.
        compare: the score beside the pruner's: one of `COMPARED`, or the folder of another pruner.
        answer: whose saliency is shown; None for what the full model answers.
        saliency: False leaves it out, and so the backward pass.
        new_tokens: at most so many in each generated answer.
        seed: of the random score.
        chat_template: whether the prompt is the user's turn in the model's chat template, or all that the model reads;
            None: if it has one.

    Returns:
        What `exploration` gives, as it is on the page.

    Raises:
        ValueError: for an unknown name, an empty prompt or answer, a prompt too long for the model, or an output that
            is a folder or the prompt's file.
        FileNotFoundError: if prompt, model or pruner are not there. Nothing is written in either case.
    """
    check_names("sdtp", schedule, pruner)
    results.check_output(output)
    check_apart(output, prompt_file)
    positive("new_tokens", new_tokens)
    check_seed(seed)
    if str(compare) not in COMPARED and not Path(compare).is_dir():
        raise ValueError(f"unknown score {str(compare)!r} to compare; known: {', '.join(COMPARED)}, a pruner's folder")
    text = read_prompt(prompt_file)
    if answer is not None and not answer.strip():
        raise ValueError("the answer is empty")
    network, tokenizer = load_with_tokenizer(model, dtype, device, revision)
    schedule = default_schedule(network, pruner, "keep07") if schedule is None else schedule
    stages = resolve_schedule(schedule, network, pruner)
    scorers = {"sdtp": load_pruner(pruner, network, stages, seed, any_model)}
    name, scorer = second_scorer(compare, network, stages, seed, any_model, tokenizer)
    scorers[name if name not in scorers else f"{name} (2)"] = scorer
    found = exploration(
        network, tokenizer, text, scorers, stages, answer,
        saliency=saliency, new_tokens=new_tokens, chat_template=chat_template,
    )  # fmt: skip
    write_page(output, found, schedule)
    return found


def read_prompt(file: str | os.PathLike) -> str:
    """The text of a file, a pipe, or for `-` of standard input, without one line end at its end.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty, a folder, or no UTF-8.
    """
    text = read_text(file, "prompt file").removesuffix("\n")
    if not text.strip():
        raise ValueError(f"prompt file {file} is empty")
    return text


def write_page(output: str | os.PathLike, found: dict, schedule: str) -> None:
    """Write the page of what `exploration` gives, in which the preset is named from then on."""
    from .page import page  # Jinja2 is needed for this alone

    found["schedule_name"] = schedule
    results.write_text(output, page(found))


def second_scorer(
    name: str | os.PathLike, model: PreTrainedModel, schedule: PruningSchedule, seed: int = 0, any_model: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[str, Scorer]:  # fmt: skip
    """(label, scorer) of one of `COMPARED` or of a pruner's folder.

    Raises:
        ValueError: if the model comes with no question-aware pruner, or the folder's pruner does not fit, or was
            trained on other weights and `any_model` is False.
    """
    if name in COMPARED and name != "question_aware":
        return str(name), make_scorer(name, seed=seed, tokenizer=tokenizer)
    return label(name), load_pruner(name, model, schedule, any_model=any_model)
