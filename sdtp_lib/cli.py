"""The `sdtp` command. Every module but the schedule's names is imported by the one command that needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from .launched import is_main, processes
from .schedule import PRESET_NAMES

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
MODES = ("prefill", "end2end")
DECODES = ("sdpa", "grouped")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
DTYPES = ("bfloat16", "float16", "float32")
BAD_INPUT, FAILED = 2, 1
# A command that hands every argument on, --help included: to its own parser none of them looks like an option.
OTHERS_OPTIONS = {"lm-eval": {"add_help": False, "prefix_chars": "\0"}}


class Parser(argparse.ArgumentParser):
    """Refuses bad arguments with one line and exit status 2; knows no abbreviations, as they would not last."""

    def __init__(self, **options):
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """One line on stderr, without the usage."""
        self.exit(BAD_INPUT, f"sdtp: error: {' '.join(message.split())}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 2 for bad input, 1 for a notebook that failed."""
    options = vars(build_parser().parse_args(arguments))
    command = options.pop("command")
    if processes() > 1 and command not in (_mark, _train, _evaluate):
        message = "of the commands, mark, train and evaluate alone run in several processes"
        return _complain(ValueError(message), BAD_INPUT)
    try:
        command(**options)
    except (ValueError, OSError) as error:
        return _complain(error, BAD_INPUT)
    except RuntimeError as error:
        if type(error).__name__ != "NotebookFailed":  # importing its class would import papermill
            raise
        return _complain(error, FAILED)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the parsed options are the keyword arguments of `command`."""
    parser = Parser(prog="sdtp", description="Saliency-driven dynamic token pruning: train, measure and reproduce.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, add_options in (
        ("mark", _mark, _mark_options),
        ("train", _train, _train_options),
        ("profile", _profile, _profile_options),
        ("evaluate", _evaluate, _evaluate_options),
        ("lm-eval", _lm_eval, _lm_eval_options),
        ("explore", _explore, _explore_options),
        ("report", _report, _report_options),
        ("reproduce", _reproduce, _reproduce_options),
    ):
        summary = command.__doc__
        sub = commands.add_parser(name, help=summary, description=summary, **OTHERS_OPTIONS.get(name, {}))
        sub.set_defaults(command=command)
        add_options(sub)
    return parser


def _model_options(parser: argparse.ArgumentParser, default: str, dtype: str, help: str) -> None:
    parser.add_argument("--model", default=default, metavar="NAME|FOLDER", help=help)
    parser.add_argument("--revision", default=None, metavar="COMMIT", help="of a model on the Hub")
    parser.add_argument("--dtype", choices=DTYPES, default=dtype, help="of the weights")
    parser.add_argument("--device", default=None, help="cpu, cuda, ...; by default the GPU if there is one")


def _device_map_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device-map", choices=DEVICE_MAPS, default=None, help="lay the model over all devices")


def _mark_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the marks go")
    parser.add_argument(
        "--data", default="demo", metavar="NAME", help="demo, dolly, or a folder of prompts with answers"
    )
    parser.add_argument("--num-samples", type=int, default=1000, metavar="N", help="prompts to mark")
    parser.add_argument("--schedule", choices=PRESET_NAMES, default="paper", help="its layers are marked")
    parser.add_argument("--target", choices=("answer", "all"), default="answer", help="whose likelihood counts")
    parser.add_argument("--max-tokens", type=int, default=2048, metavar="N", help="longer samples are passed over")
    parser.add_argument("--seed", type=int, default=0, help="of the samples drawn")
    _model_options(parser, "demo", "float32", "the frozen model: demo, a folder, or a name on the Hub")


def _train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--marks", required=True, metavar="FOLDER", help="what `sdtp mark` wrote")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the pruner goes")
    parser.add_argument("--schedule", choices=PRESET_NAMES, default="paper", help="its stages are trained")
    kinds = "mlp, the paper's module, or question_aware, which reads the question as well"
    parser.add_argument("--kind", default="mlp", metavar="NAME", help=kinds)
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="passes over the marks")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N", help="prompts in one step")
    parser.add_argument("--without", nargs="+", choices=("rank", "mse"), default=(), help="losses to leave out")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and noise")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of an interrupted run")
    _model_options(parser, "demo", "float32", "the frozen model that made the marks")


def _profile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", required=True, choices=MODES, help="the prefill alone, or 128 new tokens as well")
    parser.add_argument("--config", required=True, choices=PRESET_NAMES, help="a schedule; none: the full model alone")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, metavar="N", help="prompt lengths in tokens")
    parser.add_argument("--pruner", default=None, metavar="FOLDER", help="a trained pruner; a shape needs none")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="timed runs of each side")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and of random weights")
    parser.add_argument(
        "--output", default=None, metavar="FILE.json", help="by default a file among the demo's results"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the lengths that the file lacks")
    parser.add_argument(
        "--chunk", type=int, default=None, metavar="N", help="MLPs take so many tokens at once, both sides"
    )
    parser.add_argument("--decode", choices=DECODES, default="sdpa", help="attention of the decode steps, both sides")
    parser.add_argument("--memory", action="store_true", help="on a CPU, read peak memory too, in fresh processes")
    _model_options(parser, "scaled-mistral", "bfloat16",
                   "a model, or a shape with random weights: scaled-mistral, mistral-7b")  # fmt: skip
    _device_map_option(parser)


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="longbench_mini, longbench, datasets")
    parser.add_argument("--method", required=True, help="full, sdtp, or a baseline such as random and recency")
    parser.add_argument("--schedule", choices=PRESET_NAMES, default="paper", help="where and how much is cut")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="records per task")
    parser.add_argument("--pruner", default=None, metavar="FOLDER", help="a trained pruner; the demo model has its own")
    parser.add_argument("--data", default=None, metavar="NAME|FOLDER", help="records from here, not the usual place")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="prompts at a time")
    parser.add_argument("--seed", type=int, default=0, help="of random scores and of the intervals")
    parser.add_argument("--output", default=None, metavar="FILE.json", help="without it only a table is shown")
    parser.add_argument("--resume", action="store_true", help="go on with the samples of an interrupted run")
    _model_options(parser, "demo", "bfloat16", "demo, a folder, or a name on the Hub")
    _device_map_option(parser)


def _lm_eval_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="those of lm-eval; --help lists them")


def _explore_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt-file", required=True, metavar="FILE", help="the prompt, UTF-8 text")
    parser.add_argument("--output", required=True, metavar="FILE.html", help="one page that needs nothing else")
    parser.add_argument(
        "--pruner", default=None, metavar="FOLDER", help="a trained pruner; the demo models have theirs"
    )
    parser.add_argument("--schedule", choices=PRESET_NAMES, default="keep07", help="where and how much is cut")
    beside = "the score beside it: random, attention, ..., oracle, question_aware, or a pruner's folder"
    parser.add_argument("--compare", default="random", metavar="NAME|FOLDER", help=beside)
    parser.add_argument("--answer", default=None, metavar="TEXT", help="its saliency; by default the full model's own")
    parser.add_argument("--no-saliency", dest="saliency", action="store_false", help="leave out the backward pass")
    parser.add_argument("--new-tokens", type=int, default=48, metavar="N", help="of each generated answer, at most")
    parser.add_argument("--seed", type=int, default=0, help="of random scores")
    _model_options(parser, "demo", "float32", "demo, demo-dense, a folder, or a name on the Hub")


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--html", default=None, metavar="FILE.html", help="all results of --profile on one page instead"
    )
    parser.add_argument("--profile", default="demo", help="whose results --html shows")
    parser.add_argument("--baseline", default=None, metavar="FILE", help="what `sdtp profile --config none` wrote")
    for ratio in ("09", "08", "07"):
        parser.add_argument(f"--sdtp{ratio}", default=None, metavar="FILE", help=f"the same for keep{ratio}")
    parser.add_argument("--mode", default=None, choices=MODES, help="which times to compare")
    parser.add_argument("--lengths", nargs="+", type=int, default=None, metavar="N", help="by default all measured")
    parser.add_argument("--output", default=None, metavar="FILE.md", help="the table, in Markdown")


def _reproduce_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="demo", help="a folder of notebooks/profiles")
    parser.add_argument("--only", default=None, metavar="NN", help="run this notebook alone")
    parser.add_argument("--resume", action="store_true", help="skip notebooks that are done and unchanged")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="notebooks at a time, in processes of their own"
    )
    parser.add_argument("--shard", default=None, metavar="I/N", help="slice I of N of the notebooks alone")


def _mark(**options) -> None:
    """Stage 1: mark how much each token matters to the model's output."""
    from .saliency import mark

    mark(**options)


def _train(**options) -> None:
    """Stage 2: train a pruner to predict the marks."""
    from .training import train

    train(**options)


def _profile(**options) -> None:
    """Time the full and the pruned model side by side."""
    from .benchmark import profile

    profile(**options)


def _evaluate(**options) -> None:
    """Score answers on LongBench or LongBench-mini under one method."""
    from .evaluation.longbench import evaluate
    from .results import markdown_table

    summary = evaluate(**options)
    if not is_main():
        return
    total = {"score": summary["average"], "ci95": summary["ci95"], "n": sum(t["n"] for t in summary["tasks"].values())}
    rows = {**summary["tasks"], "average": total}
    print(markdown_table([
        {"task": name, "score": row["score"], "n": row["n"], "95% from": row["ci95"][0], "to": row["ci95"][1]}
        for name, row in rows.items()
    ]))  # fmt: skip


def _lm_eval(arguments: list[str]) -> None:
    """Run lm-evaluation-harness with the model `sdtp` and this project's tasks."""
    from .evaluation.harness_cli import run

    run(arguments)


def _explore(**options) -> None:
    """Show on one page which tokens of a prompt survive at which layer."""
    from .explore import explore

    found = explore(**options)
    tokens, left = len(found["tokens"]), found["runs"][0]["present"][-1]
    print(f"{options['output']}: {found['num_layers']} layers, {tokens} tokens, {left} of them at the last layer")


def _report(html: str | None, profile: str, **options) -> None:
    """Make one table of the files that `sdtp profile` wrote, or one page of all that a profile has."""
    given = {f"--{name}": value for name, value in options.items() if name != "lengths"}
    if html is not None:
        if taken := [name for name, value in {**given, "--lengths": options["lengths"]}.items() if value is not None]:
            raise ValueError(f"--html shows a whole profile and takes no {taken[0]}")
        from .report_page import write_page

        return write_page(html, profile)
    if missing := [name for name, value in given.items() if value is None]:
        raise ValueError(f"the following arguments are required: {', '.join(missing)}; or --html alone")
    from .report import latency_table

    latency_table(**options)


def _reproduce(**options) -> None:
    """Run all notebooks and write the ledger."""
    from .reproduce import reproduce

    reproduce(**options)


def _complain(error: Exception, status: int) -> int:
    print(f"sdtp: error: {' '.join(str(error).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":  # as `accelerate launch -m sdtp_lib.cli` runs it
    sys.exit(main())
