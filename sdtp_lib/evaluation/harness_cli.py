"""`sdtp lm-eval`: the command line of lm-evaluation-harness, with this project's model class and tasks in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

MODEL = "sdtp"
TASKS = Path(__file__).parent / "tasks"  # YAML files of the harness's kind


def register() -> None:
    """Make `SDTPLM` known to the harness as the model `sdtp`; its module is imported when it is first asked for."""
    import lm_eval.models  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import model_registry

    if MODEL not in model_registry:
        model_registry.register(MODEL, target="sdtp_lib.evaluation.harness:SDTPLM")


def run(arguments: Sequence[str]) -> None:
    """What `lm-eval` does with these arguments.

    Raises:
        ValueError: for an unknown model, a model argument or task that is refused, or data that do not fit.
        FileNotFoundError: if the model, the pruner or the data are not there.
        SystemExit: from the harness's own parser, for arguments it does not know and for --help.
    """
    register()
    from lm_eval._cli import HarnessCLI
    from lm_eval.api.registry import model_registry
    from lm_eval.config.evaluate_config import EvaluatorConfig
    from lm_eval.utils import setup_logging

    setup_logging()
    with patch.object(sys, "argv", ["lm-eval", *arguments]):  # the harness reads its arguments there alone
        cli = HarnessCLI()
        options = cli.parse_args()
    settings = vars(options)
    if "include_path" in settings:
        stored = EvaluatorConfig.load_yaml_config(options.config) if settings.get("config") else {}
        theirs = options.include_path or stored.get("include_path")
        options.include_path = [str(TASKS), *([theirs] if theirs else [])]
    if settings.get("model") and options.model not in model_registry:
        raise ValueError(f"unknown model {options.model!r}; known: {', '.join(sorted(model_registry))}")
    cli.execute(options)
