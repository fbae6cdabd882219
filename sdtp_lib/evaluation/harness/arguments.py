"""What `--model_args` of the harness's model `sdtp` may name, and what they load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data.chat import template_digest, uses_template, warn_of_other_template
from ...evaluation.methods import check_names, make_pruning
from ...models.loading import load_pruner, load_with_tokenizer
from ...models.named_schedules import resolve_schedule
from ...pruning.context import TokenPruning
from .values import MODEL_VALUES, check_values

# Arguments of the harness's own class that make sense for a model that is loaded already.
OPTIONS = ("max_length", "add_bos_token", "prefix_token_id", "softmax_dtype", "think_end_token", "enable_thinking",
           "chat_template_args")  # fmt: skip
HARNESS_DEVICE = "cuda:0"  # what the harness asks for when the user named no device


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse what can be refused before a model is loaded.

    Args:
        given: arguments of `load`, `batch_size`, `cache`, and OPTIONS.

    Raises:
        ValueError: naming an argument that is unknown, or whose value it cannot have.
    """
    check_values("model argument", given, MODEL_VALUES, tuple(signature(load).parameters))


def refuse_oracle(asked: bool) -> None:
    """Raise ValueError if the oracle was asked for: it must be shown answers, which the harness keeps to itself."""
    if asked:
        raise ValueError(
            "method 'oracle' must be shown each prompt's answer, which lm-evaluation-harness keeps from the model; "
            "it works in `sdtp evaluate --method oracle`"
        )


def load(
    pretrained: str | os.PathLike = "demo",
    pruner: str | os.PathLike | None = None,
    schedule: str | float | None = "paper",
    method: str = "sdtp",
    positions: str = "original",
    seed: int = 0,
    dtype: str = "auto",
    revision: str | None = None,
    device: str | None = None,
    any_model: bool = False,
    chat_template: bool | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, TokenPruning | None]:
    """The model arguments `sdtp` takes besides OPTIONS: (model, tokenizer, pruning).

    Args:
        pretrained: `demo`, a folder, or a Hub name; safetensors alone, and no code of the model's own.
        pruner: folder of the trained pruner; the demo model has its own.
        any_model: true takes a pruner also if it was trained on a model with other weights.
        chat_template: whether the harness is told to put prompts into the model's chat template, which `sdtp lm-eval`
            says by itself; a pruner that was trained otherwise is warned of.
        schedule: a preset's name, or the FLOP ratio of one that the pruner was tuned for; `none` prunes nothing.
        method: `full` (prunes nothing), `sdtp`, or a baseline; not `oracle`.
        positions: see `TokenPruning`.
        seed: of random scores.
        dtype: of the weights, see `models.load_model`.
        revision: commit of the model on the Hub.
        device: cpu, cuda, ...; by default, or if the harness's own default is not there, the GPU if there is one.

    Raises:
        ValueError: for an unknown method, schedule or model, the oracle, or a model without a tokenizer.
        FileNotFoundError: if the model or the pruner is not there.
    """
    schedule = "none" if schedule is None else schedule  # as the harness reads the word in an argument string
    schedule = f"{schedule:g}" if isinstance(schedule, int | float) else schedule
    check_names(method, schedule, pruner)
    if not isinstance(any_model, bool):
        raise ValueError(f"any_model must be true or false, got {any_model!r}")
    refuse_oracle(method == "oracle")
    method = "full" if schedule == "none" else method
    if device == HARNESS_DEVICE and not torch.cuda.is_available():
        device = None
    model, tokenizer = load_with_tokenizer(str(pretrained), dtype, device, None if revision is None else str(revision))
    trained, stages = None, resolve_schedule("none" if method == "full" else schedule, model, pruner)
    if method == "sdtp":
        trained = load_pruner(pruner, model, stages, seed, any_model)
        if chat_template is not None:
            used = chat_template and uses_template(tokenizer)
            warn_of_other_template(trained, template_digest(tokenizer, used))
    return model, tokenizer, make_pruning(model, method, stages, trained, seed, positions, tokenizer=tokenizer)
