"""What the harness's own options may be, checked before a model is loaded.

The harness takes much for granted that a user can get wrong: a limit of 0 asks all records, a misspelled task under
`--samples` is passed over, and an unknown key in a file of options ends in a traceback.
"""

from __future__ import annotations

import importlib.util
import os
from argparse import Namespace
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

from ...results import check_output
from .arguments import check_arguments
from .values import GENERATION_VALUES, check_values, number, whole

MODEL = "sdtp"
KEYED = ("model_args", "metadata", "gen_kwargs", "hf_hub_log_args", "wandb_args", "wandb_config_args", "trackio_args")
TEXTS = ("model", "device", "system_instruction", "output_path", "use_cache", "include_path", "verbosity")
FLAGS = ("log_samples", "predict_only", "write_out", "show_config", "check_integrity", "trust_remote_code",
         "confirm_run_unsafe_code", "fewshot_as_multiturn")  # fmt: skip
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def read_config(options: Namespace) -> None:
    """Put the settings of a `--config` file where the options are that were not given; they win, as in the harness.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no YAML mapping, or names an option that the harness does not have.
    """
    from lm_eval.config.evaluate_config import EvaluatorConfig
    from lm_eval.utils import simple_parse_args_string

    if not options.config:
        return
    try:
        stored = EvaluatorConfig.load_yaml_config(options.config)
    except TypeError as error:
        raise ValueError(f"--config {options.config}: {error}") from None
    known = [field.name for field in fields(EvaluatorConfig) if field.name != "config"]
    if unknown := [name for name in stored if name not in known]:
        raise ValueError(f"--config {options.config}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    for name, value in stored.items():
        if not (given := getattr(options, name, None)) and given != 0:
            setattr(options, name, value)
    for name in KEYED:
        value = getattr(options, name, None) or {}
        setattr(options, name, simple_parse_args_string(value) if isinstance(value, str) else value)
    options.config = None


def check_options(options: Namespace) -> None:
    """Refuse what the harness would take wrongly, or end in a traceback for.

    Raises:
        ValueError: naming the option and what it may be.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    tasks = given.get("tasks")
    names = tasks.split(",") if isinstance(tasks, str) else tasks
    if not isinstance(names, list) or not names or not all(isinstance(x, str) and x.strip() for x in names):
        raise ValueError("--tasks must name one task or more, without gaps; `sdtp lm-eval ls tasks` lists them")
    options.tasks = [name.strip() for name in names]
    kinds = dict.fromkeys(TEXTS, (str, "a text")) | dict.fromkeys(FLAGS, (bool, "true or false"))
    for name, (kind, words) in (kinds | dict.fromkeys(KEYED, (dict, "key=value"))).items():
        if name in given and not isinstance(given[name], kind):  # from a file, which the harness takes as it is
            raise ValueError(f"--{name} must be {words}, got {given[name]!r}")
    _check_numbers(given)
    level = given.get("verbosity", "INFO")
    if level not in LEVELS:
        raise ValueError(f"--verbosity must be one of {', '.join(LEVELS)}, got {level!r}")
    check_include(given.get("include_path"))
    cached = given.get("cache_requests")
    if cached and not (isinstance(cached, dict) and cached.get("delete_requests_cache")):
        raise ValueError("--cache_requests gives the prompts of other data and templates; run without it")
    _check_places(given)
    _check_loggers(given)
    if given.get("model") == MODEL:
        _check_for_sdtp(options, given)
    elif given.get("use_cache"):
        raise ValueError(f"--use_cache finds answers by their prompts alone; it is safe with --model {MODEL} only")


def check_include(folder: str | None) -> None:
    """Raise ValueError unless the folder is there, or none was named."""
    if folder is not None and not (folder.strip() and Path(folder).is_dir()):
        raise ValueError(f"--include_path {folder} is no folder; give one with YAML files of tasks")


def check_folder(option: str, folder: str | os.PathLike) -> None:
    """Raise ValueError unless files can be written to `folder`, which need not be there yet; leaves nothing there."""
    try:
        check_output(folder, folder=True)
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{option} cannot be written: {reason}; name another place") from None


def _check_numbers(given: dict[str, Any]) -> None:
    limit = given.get("limit")
    if limit is not None and not (number(limit, 0) and (0 < limit < 1 or limit == int(limit) > 0)):
        raise ValueError(f"--limit must be a whole number, 1 or more, or a share of the records below 1, got {limit}")
    shots = given.get("num_fewshot", 0)
    if not whole(shots):
        raise ValueError(f"--num_fewshot must be a whole number, 0 or more, got {shots}")
    seeds = given.get("seed", [])
    for seed in seeds if isinstance(seeds, list | tuple) else [seeds]:
        if seed is not None and not whole(seed, 0, 2**32):  # NumPy takes no others
            raise ValueError(f"--seed must be None or a whole number, 0 to {2**32 - 1}, or four of them, got {seed}")
    samples = given.get("samples")
    if samples is not None and limit is not None:
        raise ValueError("--samples and --limit cannot both be given; leave one out")


def _check_places(given: dict[str, Any]) -> None:
    """Where results and answers are to be written: asked before long work, not after it."""
    for name in ("output_path", "use_cache"):
        if not given.get(name, "given").strip():
            raise ValueError(f"--{name} must name a place, got {given[name]!r}")
    if "output_path" in given:
        path = Path(given["output_path"])
        if path.suffix != ".json" and path.exists() and not path.is_dir():
            raise ValueError(f"--output_path {path} is a file; give a folder, or a name that ends in .json")
        check_folder(f"--output_path {path}", path.parent if path.suffix == ".json" else path)
    if "use_cache" in given:
        path = Path(given["use_cache"])
        if path.is_dir():
            raise ValueError(f"--use_cache {path} is a folder; give a file name")
        check_folder(f"--use_cache {path}", path.parent)


def _check_loggers(given: dict[str, Any]) -> None:
    from lm_eval.loggers import EvaluationTracker

    known = [name for name in signature(EvaluationTracker).parameters if name != "output_path"]
    if unknown := [name for name in given.get("hf_hub_log_args", {}) if name not in known]:
        raise ValueError(f"--hf_hub_log_args: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    for package in ("wandb", "trackio"):
        if given.get(f"{package}_args") and importlib.util.find_spec(package) is None:
            raise ValueError(f"--{package}_args needs the package {package}, which is not installed")


def _check_for_sdtp(options: Namespace, given: dict[str, Any]) -> None:
    """What is different with this project's model class."""
    from .cache import read_answers

    if "max_batch_size" in given:
        raise ValueError("--max_batch_size is for automatic batch sizes, which sdtp has not; give --batch_size alone")
    if isinstance(given.get("apply_chat_template"), str):
        raise ValueError("--apply_chat_template takes no name: the harness puts the tokenizer's own one around all")
    arguments = {**given.get("model_args", {})}
    if "use_cache" in given:
        if "cache" in arguments:
            raise ValueError("--use_cache and the model argument cache are the same; give one of them")
        read_answers(Path(given["use_cache"]))
        arguments["cache"], options.use_cache = given["use_cache"], None
    arguments["chat_template"] = bool(given.get("apply_chat_template"))
    check_arguments({**{name: given[name] for name in ("batch_size",) if name in given}, **arguments})
    options.model_args = arguments
    check_values("--gen_kwargs key", given.get("gen_kwargs", {}), GENERATION_VALUES)
