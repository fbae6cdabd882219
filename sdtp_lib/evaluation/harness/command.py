"""`sdtp lm-eval`: the command line of lm-evaluation-harness, with this project's model class and tasks in it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from ...launcher import processes
from .options import check_include, check_options, read_config

MODEL = "sdtp"
TASKS = Path(__file__).parent / "task_files"  # YAML files of the harness's kind


def register() -> None:
    """Make `SDTPLM` known to the harness as the model `sdtp`; its module is imported when it is first asked for."""
    import lm_eval.models  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import model_registry

    if MODEL not in model_registry:
        model_registry.register(MODEL, target="sdtp_lib.evaluation.harness.model:SDTPLM")


def run(arguments: Sequence[str]) -> None:
    """What `lm-eval` does with these arguments.

    Raises:
        ValueError: for an unknown model, an option, model argument or task that is refused, or data that do not fit.
        FileNotFoundError: if the model, the pruner or the data are not there.
        Failed: if the results could not be written.
        SystemExit: from the harness's own parser, for --help.
    """
    register()
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()
    cli = HarnessCLI()
    options = _parse(cli, arguments)
    if "model" in options:
        _run(cli, options)
        return
    if "include_path" in options:  # ls and validate
        check_include(options.include_path)
        options.include_path = [str(TASKS), *([options.include_path] if options.include_path else [])]
    cli.execute(options)


def _run(cli, options: Namespace) -> None:
    from lm_eval.api.registry import model_registry

    from .saving import saving
    from .tasks import model_arguments
    from .trial import try_tasks

    read_config(options)
    if options.model and not (isinstance(options.model, str) and options.model in model_registry):
        raise ValueError(f"unknown model {options.model!r}; known: {', '.join(sorted(model_registry))}")
    check_options(options)
    if processes() == 1 and os.environ.get("LOCAL_RANK", "0") != "0":
        raise ValueError("LOCAL_RANK is set, by which the harness takes this for one of several processes; unset it")
    options.include_path = [str(TASKS), *([options.include_path] if options.include_path else [])]
    names = (options.model_args or {}).keys() - (options.metadata or {}).keys()
    with model_arguments(tuple(names)):
        try_tasks(options)
        with saving(options.output_path):
            try:
                cli.execute(options)
            except AssertionError as error:  # how the harness refuses what it was given
                raise ValueError(f"{error}") from error
            except ValueError as error:
                if not str(error).startswith("Tasks not found"):
                    raise
                raise ValueError(f"--tasks: {error}; `sdtp lm-eval ls tasks` lists all names") from None


def _parse(cli, arguments: Sequence[str]) -> Namespace:
    """The harness's parser on these arguments, which refuses them in one line."""
    said = io.StringIO()
    try:
        # The parser reads its arguments there alone.
        with patch.object(sys, "argv", ["lm-eval", *arguments]), contextlib.redirect_stderr(said):
            options = cli.parse_args()
    except SystemExit as stop:
        if not stop.code:
            raise
        message = said.getvalue().strip().rpartition("error: ")[2]
        raise ValueError(re.sub(r"invalid functools.*value", "expected whole numbers or None, not", message)) from None
    for text, following in pairwise(arguments):
        if text.startswith("{") and text.endswith("}") and not following.startswith("-"):
            raise ValueError(f"{following!r} after {text} would be passed over; put all keys into the object")
    return options
