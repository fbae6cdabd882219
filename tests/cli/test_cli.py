"""The `sdtp` command: what it passes on, and how it refuses."""

import importlib
import inspect
import json
import subprocess
import sys

import pytest
import torch
from explorer_data import made_up_demo

from sdtp_lib import cli
from sdtp_lib.models import loading as models

SMALL = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=97,
)  # fmt: skip

TARGETS = {
    "mark": ("training.saliency", "mark", ["--output", "marks"]),
    "train": ("training.trainer", "train", ["--marks", "marks", "--output", "pruner", "--without", "rank", "mse"]),
    "profile": ("latency.sweep", "profile", ["--mode", "prefill", "--config", "keep09", "--lengths", "64", "128"]),
    "evaluate": ("evaluation.longbench", "evaluate", ["--tasks", "longbench_mini", "--method", "random"]),
    "report": (
        "tables.table2",
        "latency_table",
        "--baseline a --sdtp09 b --sdtp08 c --sdtp07 d --mode end2end --lengths 64 --output e.md".split(),
    ),
    "demo": ("explorer.demo", "demo", ["--prompt-file", "a.txt", "--schedule", "keep08", "--repeats", "1"]),
    "explore": ("explorer.command", "explore", ["--prompt-file", "a.txt", "--output", "b.html", "--answer", "Oslo"]),
    "tune": ("experiments.tuning.command", "tune", "--data a.jsonl --flop-ratio 1.6 2.2 --output b --quick".split()),
    "reproduce": ("runner.reproduce", "reproduce", ["--only", "04", "--resume"]),
}
SUMMARY = made_up_demo() | {
    "average": 50.0,
    "ci95": [30.0, 70.0],
    "tasks": {"mini_qa": {"score": 50.0, "n": 2, "ci95": [25.0, 75.0]}},
    "use": {"pool": 7, "schedules": {"1.6": {}}},
    "score": "paper",
    "measured": [],
}


@pytest.fixture
def called(monkeypatch):
    """Replaces the function behind a command; gives the arguments it was called with."""

    def replace(name, outcome=SUMMARY):
        module, function, _ = TARGETS[name]
        module = importlib.import_module(f"sdtp_lib.{module}")
        signature, calls = inspect.signature(getattr(module, function)), []

        def stand_in(**options):
            signature.bind(**options)
            calls.append(options)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(module, function, stand_in)
        return calls

    return replace


@pytest.mark.parametrize("name", TARGETS)
def test_a_command_calls_its_function_with_arguments_it_takes(called, name):
    calls = called(name)
    assert cli.main([name, *TARGETS[name][2]]) == 0
    assert len(calls) == 1


def test_options_arrive_as_the_function_wants_them(called):
    calls = called("profile")
    cli.main(["profile", *TARGETS["profile"][2], "--resume"])
    expected = {"mode": "prefill", "config": "keep09", "lengths": [64, 128], "model": "scaled-mistral", "resume": True}
    assert expected.items() <= calls[0].items()


def test_evaluate_shows_its_scores(called, capsys):
    called("evaluate")
    cli.main(["evaluate", *TARGETS["evaluate"][2]])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [["mini_qa", "50.00", "2", "25.00", "75.00"], ["average", "50.00", "2", "30.00", "70.00"]]


@pytest.mark.parametrize("error", [ValueError("no such\nthing"), FileNotFoundError("no such thing")])
def test_bad_input_is_one_line_and_status_2(called, capsys, error):
    called("mark", error)
    assert cli.main(["mark", *TARGETS["mark"][2]]) == 2
    assert capsys.readouterr().err == "sdtp: error: no such thing\n"


def test_a_failed_notebook_is_status_1(called, capsys):
    from sdtp_lib.runner.execution import NotebookFailed

    called("reproduce", NotebookFailed("notebook 04_x.ipynb failed"))
    assert cli.main(["reproduce"]) == 1
    assert capsys.readouterr().err == "sdtp: error: notebook 04_x.ipynb failed; to go on: sdtp reproduce --resume\n"


def test_a_bug_is_one_line_too_and_its_traceback_is_shown_when_asked_for(called, capsys, monkeypatch):
    called("mark", RuntimeError("a bug\nin two lines"))
    assert cli.main(["mark", *TARGETS["mark"][2]]) == 1
    line = "sdtp: error: RuntimeError: a bug in two lines (SDTP_DEBUG=1 shows where)\n"
    assert capsys.readouterr().err == line
    monkeypatch.setenv("SDTP_DEBUG", "1")
    assert cli.main(["mark", *TARGETS["mark"][2]]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and "in stand_in" in shown and shown.endswith(line)


@pytest.mark.parametrize(
    "arguments, word",
    [
        ([], "COMMAND"),
        (["prune"], "prune"),
        (["profile", "--mode", "decode", "--config", "keep09"], "decode"),
        (["profile", "--mode", "prefill", "--config", "keep06"], "keep06"),
        (["profile", "--mode", "prefill", "--config", "keep09", "--lengths", "long"], "long"),
        (["train", "--marks", "a", "--output", "b", "--without", "cls"], "cls"),
        (["evaluate", "--method", "full"], "--tasks"),
        (["mark", "--output", "a", "--colour", "red"], "--colour"),
        (["mark", "--out", "a"], "--output"),
    ],
)
def test_unknown_names_are_refused_in_one_line(capsys, arguments, word):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("sdtp: error: ") and word in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["reproduce", "--profile", "nothing"], "nothing"),
        (["evaluate", "--tasks", "nothing", "--method", "full"], "nothing"),
        (["evaluate", "--tasks", "longbench_mini", "--method", "nothing"], "nothing"),
        (["profile", "--mode", "prefill", "--config", "keep09", "--lengths", "0"], "0"),
        (["profile", "--mode", "prefill", "--config", "keep09", "--model", "nothing"], "nothing"),
        (["train", "--marks", "nothing", "--output", "out"], "nothing"),
        (["mark", "--num-samples", "0", "--output", "out"], "0"),
        (["explore", "--prompt-file", "nothing.txt", "--output", "out.html"], "nothing.txt"),
        (["demo", "--prompt-file", "nothing.txt"], "nothing.txt"),
        (["report", *TARGETS["report"][2]], "a"),
    ],
)
def test_names_that_only_the_library_knows_are_refused_alike(tmp_path, monkeypatch, capsys, arguments, word):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("sdtp: error: ") and word in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing is written before the refusal"


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--baseline", "a", "--mode", "prefill"], "--sdtp09, --sdtp08, --sdtp07, --output"),
        (["--html", "p.html", "--mode", "prefill"], "--mode"),
        (["--html", "p.html", "--lengths", "8"], "--lengths"),
        (["--html", "p.html", "--profile", "nothing"], "nothing"),
        (["--html", "."], "folder"),
        (["--points", "nothing", "--output", "sweep.md"], "no points in nothing"),
        (["--points", "."], "--output"),
        (["--points", ".", "--output", "a.md", "--mode", "prefill"], "--points takes no --mode"),
    ],
)
def test_a_report_is_a_table_or_a_page(tmp_path, monkeypatch, capsys, arguments, word):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sdtp: error: ") and word in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_help_explains_every_option(capsys, name):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    options = cli.build_parser()._subparsers._group_actions[0].choices[name]._actions
    assert all(option.help for option in options) and "--" in capsys.readouterr().out


def test_starting_up_loads_no_heavy_library():
    heavy = {"torch", "transformers", "papermill", "lm_eval"}
    code = f"import sys, sdtp_lib.cli as c; c.build_parser(); print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_public_names_load_on_first_use():
    import sdtp_lib

    assert all(hasattr(sdtp_lib, name) for name in sdtp_lib.__all__)
    assert set(sdtp_lib.__all__) <= set(dir(sdtp_lib))
    with pytest.raises(AttributeError, match="Nothing"):
        sdtp_lib.Nothing  # noqa: B018


ALONE = "in several processes run mark, train, evaluate, and profile --tensor-parallel alone"


@pytest.mark.parametrize(
    "command, words",
    [
        (["reproduce"], ALONE),
        (["profile", "--mode", "prefill", "--config", "none"], ALONE),
        (["evaluate"], "the following arguments are required: --tasks"),
    ],
)
def test_several_processes_refuse_alike_and_the_main_one_says_why(monkeypatch, tmp_path, capsys, command, words):
    monkeypatch.chdir(tmp_path)
    for rank in ("1", "0"):
        for name, value in {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as stop:
            cli.main(command)
        assert stop.value.code == 2
        assert capsys.readouterr().err == (f"sdtp: error: {words}\n" if rank == "0" else "")
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_process_is_told_as_such(called, monkeypatch, capsys):
    called("mark", OSError("disk full"))
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["mark", *TARGETS["mark"][2]]) == 2
    assert capsys.readouterr().err == "sdtp: error: one of the other processes: disk full\n"


def test_launchers_can_run_the_module():
    done = subprocess.run([sys.executable, "-m", "sdtp_lib.cli", "evaluate", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: sdtp evaluate")


def test_commands_take_a_device_map(monkeypatch, tmp_path, capsys):
    """On a CPU alone all of the model lies there, so the results are those without the option."""
    monkeypatch.setitem(models.SHAPES, "small", SMALL)
    profile = ["profile", "--mode", "prefill", "--config", "keep07", "--lengths", "64", "--model", "small"]
    profile += ["--repeats", "1", "--dtype", "float32", "--output", str(tmp_path / "latency.json")]
    assert cli.main([*profile, "--device-map", "auto"]) == 0
    assert "64" in json.loads((tmp_path / "latency.json").read_text())["results"]
    evaluate = ["evaluate", "--tasks", "singledoc_qa", "--method", "sdtp", "--limit", "1", "--dtype", "float32"]
    found = []
    for name, options in {"plain": ["--device", "cpu"], "map": ["--device-map", "auto"]}.items():
        output = tmp_path / f"{name}.json"
        assert cli.main([*evaluate, *options, "--output", str(output)]) == 0
        found.append([json.loads(row) for row in output.with_name(f"{name}.samples.jsonl").read_text().splitlines()])
    if not torch.cuda.is_available():
        assert found[0] == found[1]
    capsys.readouterr()
    for wrong, words in {
        (*evaluate, "--device", "cpu", "--device-map", "auto"): "give a device map or a device, not both",
        (*profile, "--memory", "--device-map", "auto"): "peak memory of fresh processes is read on one CPU",
        (*profile, "--tensor-parallel"): "start them with torchrun",
        (*evaluate, "--tensor-parallel", "--device", "cpu"): "no device or device map",
    }.items():
        assert cli.main([*wrong]) == 2 and words in capsys.readouterr().err
