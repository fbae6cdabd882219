"""How commands end: one line and an exit status for every error, for every wrong value of every option."""

import argparse
import errno
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdtp_lib import cli, errors
from sdtp_lib.cli import endings
from sdtp_lib.cli import options as cli_options
from sdtp_lib.models import loading as models
from sdtp_lib.scorers.files import FILES
from sdtp_lib.training import saliency
from sdtp_lib.training import trainer as training

COMMANDS = {
    "demo": ["--output", "out.html"],
    "mark": ["--output", "out"],
    "train": ["--marks", "marks", "--output", "out"],
    "profile": ["--mode", "prefill", "--config", "keep09", "--output", "out.json"],
    "evaluate": ["--tasks", "longbench_mini", "--method", "random", "--output", "out.json"],
    "explore": ["--prompt-file", "prompt.txt", "--output", "out.html"],
    "report": ["--baseline", "a", "--sdtp09", "b", "--sdtp08", "c", "--sdtp07", "d", "--mode", "prefill",
               "--output", "out.md"],
    "reproduce": [],
}  # fmt: skip


def options_of(command):
    parsers = cli.build_parser()._subparsers._group_actions[0].choices
    return [action for action in parsers[command]._actions if not isinstance(action, argparse._HelpAction)]


def is_number(action):
    return action.type is int


NUMBERS = [(name, action.option_strings[0]) for name in COMMANDS for action in options_of(name) if is_number(action)]
CHOICES = [(name, action.option_strings[0]) for name in COMMANDS for action in options_of(name) if action.choices]
WRITTEN = [(name, option) for name in COMMANDS for option in ("--output", "--html")
           if any(option in action.option_strings for action in options_of(name))]  # fmt: skip


@pytest.fixture
def nothing_loads(monkeypatch, tmp_path):
    """In an empty folder, where loading a model is a mistake."""

    def load(*_, **__):
        raise AssertionError("a model was loaded before the refusal")

    for module in (models, saliency, training):
        monkeypatch.setattr(module, "load_model", load)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments, capsys):
    """(exit status, stderr) of a command, however it ends."""
    try:
        status = cli.main(arguments)
    except SystemExit as stop:
        status = stop.code
    return status, capsys.readouterr().err


def check_refused(arguments, words, capsys, folder=None):
    status, said = run(arguments, capsys)
    assert status == 2 and said.startswith("sdtp: error: ") and said.count("\n") == 1 and said.endswith("\n"), said
    assert all(word in said for word in words), said
    assert folder is None or not list(folder.iterdir()), "nothing is written before the refusal"


def test_every_option_that_is_a_number_has_its_range():
    assert {option.removeprefix("--").replace("-", "_") for _, option in NUMBERS} == cli_options.SMALLEST.keys()
    assert len(NUMBERS) > 15 and len(CHOICES) > 10 and len(WRITTEN) == 8


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    which=st.sampled_from(NUMBERS),
    value=st.one_of(
        st.sampled_from(["-1", "nan", "inf", "", " ", "1.5", "1e3", "0x10", "one", "--", str(10**30), str(2**63)]),
        st.integers(max_value=-1).map(str),
        st.integers(min_value=2**32).map(str),
        st.floats().map(str),
        st.text(st.characters(categories=["L", "P"]), max_size=5),
    ),
)
def test_wrong_numbers_name_the_option(nothing_loads, capsys, which, value):
    command, option = which
    check_refused([command, *COMMANDS[command], option, value], [option], capsys, nothing_loads)


@pytest.mark.parametrize("command, option", NUMBERS)
def test_what_is_one_too_small_or_too_large_names_the_option(nothing_loads, capsys, command, option):
    smallest = cli_options.SMALLEST[option.removeprefix("--").replace("-", "_")]
    for value in (smallest - 1, 2**32, 10**30):
        words = f"{option} must be a whole number from {smallest} to {2**32 - 1}, got {value}"
        check_refused([command, *COMMANDS[command], option, str(value)], [words], capsys, nothing_loads)


@pytest.mark.parametrize("command, option", CHOICES)
def test_an_unknown_name_lists_the_known_ones(nothing_loads, capsys, command, option):
    known = next(action.choices for action in options_of(command) if option in action.option_strings)
    for wrong in ("nothing", "", "KEEP09"):
        check_refused([command, *COMMANDS[command], option, wrong], [option, *known], capsys, nothing_loads)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["evaluate", "--tasks", "nothing"], ["nothing", "longbench_mini"]),
        (["evaluate", "--method", "nothing"], ["nothing", "random"]),
        (["train", "--kind", "nothing"], ["nothing", "mlp"]),
        (["explore", "--compare", "nothing"], ["nothing", "random"]),
        (["reproduce", "--profile", "nothing"], ["nothing", "demo"]),
        (["reproduce", "--only", "99"], ["99", "01"]),
        (["profile", "--config", "nothing"], ["nothing", "keep09"]),
    ],
)
def test_names_that_the_library_knows_are_listed(nothing_loads, capsys, arguments, words):
    (nothing_loads / "prompt.txt").write_text("a prompt")
    check_refused([arguments[0], *COMMANDS[arguments[0]], *arguments[1:]], words, capsys)
    assert [file.name for file in nothing_loads.iterdir()] == ["prompt.txt"]


def refused_outputs(command, folder):
    """Outputs that cannot be: of the wrong kind, below a file, where no file can be made."""
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to("nowhere")
    a_folder = command in ("mark", "train")
    yield "file" if a_folder else "folder", "is a file; give a folder" if a_folder else "is a folder; give a file name"
    yield "file/below", "is a file"
    yield "dangling/below", "is a file"
    yield "/proc/sdtp/out", "cannot be written"
    yield "x" * 300, "File name too long"
    yield f"{'y' * 300}/out", "File name too long"
    yield "\0", "null"
    if not a_folder:
        yield "/dev/null", "is no regular file"
        yield "", "is a folder"


@pytest.mark.parametrize("command, option", WRITTEN)
def test_an_output_that_cannot_be_is_found_before_anything_is_loaded(nothing_loads, capsys, command, option):
    base = [] if option == "--html" else COMMANDS[command]
    for output, words in refused_outputs(command, nothing_loads):
        before = sorted(nothing_loads.rglob("*"))
        check_refused([command, *base, option, output], [words], capsys)
        assert sorted(nothing_loads.rglob("*")) == before and (nothing_loads / "file").read_text() == "mine"


@pytest.mark.parametrize("command, option", [*WRITTEN, ("reproduce", None)])
@pytest.mark.parametrize("number, status", [(errno.EROFS, 2), (errno.EACCES, 2), (errno.ENOSPC, 1), (errno.EDQUOT, 1)])
def test_a_folder_that_takes_no_file_is_found_before_anything_is_loaded(
    nothing_loads, capsys, monkeypatch, command, option, number, status
):
    """The superuser may write to a read-only folder, so the system's refusal is played."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("sdtp_lib.results.open", refuse, raising=False)
    base = [] if option == "--html" else COMMANDS[command]
    found, said = run([command, *base, *([option, "new/out"] if option else [])], capsys)
    assert found == status and said.count("\n") == 1
    assert said.startswith("sdtp: error: output ") and f"cannot be written: {os.strerror(number)}" in said
    assert not list(nothing_loads.iterdir())


@pytest.mark.parametrize("name", [*FILES, training.HISTORY_FILE, training.CHECKPOINT_FILE])
def test_a_file_of_a_folder_that_cannot_be_written_is_found_as_early(nothing_loads, capsys, name):
    (nothing_loads / "out" / name).mkdir(parents=True)
    check_refused(["train", *COMMANDS["train"]], [f"out/{name} is a folder"], capsys)


def test_an_output_that_is_the_input_is_refused(nothing_loads, capsys):
    (nothing_loads / "mine").write_text("a prompt")
    (nothing_loads / "link").symlink_to("mine")
    for name in ("mine", "link", "./mine"):
        for command in ("demo", "explore"):
            check_refused([command, "--prompt-file", "mine", "--output", name], ["is the input mine"], capsys)
        report = [*COMMANDS["report"][:6], "--sdtp07", "mine", "--mode", "prefill", "--output", name]
        check_refused(["report", *report], ["is the input mine"], capsys)
    assert (nothing_loads / "mine").read_text() == "a prompt"


def test_the_samples_beside_a_result_are_tried_too(nothing_loads, capsys):
    (nothing_loads / "out.samples.jsonl").mkdir()
    check_refused(["evaluate", *COMMANDS["evaluate"]], ["out.samples.jsonl is a folder"], capsys)


@pytest.mark.parametrize(
    "error, status, line",
    [
        (ValueError("no such\nthing"), 2, "error: no such thing"),
        (FileNotFoundError("no such thing"), 2, "error: no such thing"),
        (FileNotFoundError(2, "No such file", "a.json"), 2, "error: No such file: a.json"),
        (PermissionError(13, "Permission denied", "a.json"), 2, "error: Permission denied: a.json"),
        (OSError(errno.ENOSPC, "No space left", "a.json"), 1, "error: No space left: a.json"),
        (OSError(errno.EDQUOT, "Quota exceeded"), 1, "error: Quota exceeded"),
        (errors.Failed("2 of 3 lengths failed"), 1, "error: 2 of 3 lengths failed"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), 1, "error: out of memory: CUDA out of memory. Tried"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1,
         "error: out of memory: DefaultCPUAllocator: can't allocate memory"),
        (MemoryError(), 1, "error: out of memory"),
        (ModuleNotFoundError("No module named 'kvpress'", name="kvpress"), 1,
         "error: this needs the Python package kvpress, which is not installed"),
        (ImportError("no name 'x'"), 1, "error: ImportError: no name 'x' (SDTP_DEBUG=1 shows where)"),
        (KeyError("a"), 1, "error: KeyError: 'a' (SDTP_DEBUG=1 shows where)"),
        (AssertionError(), 1, "error: AssertionError (SDTP_DEBUG=1 shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (errors.Terminated(), 143, "terminated"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", COMMANDS)
def test_every_error_ends_every_command_in_one_line(monkeypatch, capsys, command, error, status, line):
    def fail(**_):
        raise error

    monkeypatch.setattr(cli, f"_{command}", fail)
    found, said = run([command, *COMMANDS[command]], capsys)
    said, _, go_on = said.removesuffix("\n").partition("; to go on: ")
    assert (found, said) == (status, f"sdtp: {line}")
    can = command in ("mark", "train", "profile", "evaluate", "reproduce")
    unfinished = isinstance(error, errors.Failed | KeyboardInterrupt)
    assert bool(go_on) == (can and (unfinished or getattr(error, "errno", None) in endings.EXHAUSTED))


@pytest.mark.parametrize(
    "arguments, go_on",
    [
        (["mark", "--output", "my marks"], "sdtp mark --output 'my marks'"),
        (["train", "--marks", "m", "--output", "p"], "sdtp train --marks m --output p --resume"),
        (["train", "--marks", "m", "--output", "p", "--resume"], "sdtp train --marks m --output p --resume"),
        (["profile", *COMMANDS["profile"]], "sdtp profile --mode prefill --config keep09 --output out.json --resume"),
        (["profile", "--mode", "prefill", "--config", "none"], None),  # nothing was written
        (["evaluate", "--tasks", "qa", "--method", "full"], None),
        (["evaluate", "--tasks", "qa", "--method", "full", "--output", "a.json"],
         "sdtp evaluate --tasks qa --method full --output a.json --resume"),
        (["reproduce"], "sdtp reproduce --resume"),
        (["report", *COMMANDS["report"]], None),
        (["explore", *COMMANDS["explore"]], None),
        (["demo"], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "number, status, word", [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_stopped_command_says_how_to_go_on(monkeypatch, capsys, arguments, go_on, number, status, word):
    handlers = [signal.getsignal(each) for each in errors.STOPPING]
    monkeypatch.setattr(cli, f"_{arguments[0]}", lambda **_: signal.raise_signal(number))
    found, said = run(arguments, capsys)
    assert (found, said) == (status, f"sdtp: {word}" + (f"; to go on: {go_on}" if go_on else "") + "\n")
    assert handlers == [signal.getsignal(each) for each in errors.STOPPING]


def test_of_several_processes_the_main_one_says_that_they_were_stopped(monkeypatch, capsys):
    def stop(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_train", stop)
    for rank in ("1", "0"):
        for name, value in {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, value)
        said = f"the same launch of `sdtp train {' '.join(COMMANDS['train'])} --resume`"
        found = run(["train", *COMMANDS["train"]], capsys)
        assert found == (130, f"sdtp: interrupted; to go on: {said}\n" if rank == "0" else "")


def test_stopping_waits_for_what_must_be_done_wholly():
    done = []
    for number, error in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, errors.Terminated)):
        with errors.sigterm_stops(), pytest.raises(error):
            with errors.stopping_waits():
                signal.raise_signal(number)
                done.append(number)
            done.append("not reached")
    assert done == [signal.SIGINT, signal.SIGTERM]


def test_what_was_printed_in_vain_is_no_success():
    """Python itself would find out after the command, and end with status 120."""
    code = "import sys, sdtp_lib.cli as c; c._report = lambda **_: print('a table'); sys.exit(c.main())"
    command = [sys.executable, "-c", code, "report"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "sdtp: error: No space left on device\n")
    code = code.replace("print('a table')", "print('a table\\n' * 100000)")
    command[2], pipes = code, dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, **pipes)
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("sdtp: error: Broken pipe\n", 1)
    process.stderr.close()


SIDE = {"prefill_latency_seconds": 1.0}


def latency_file(path, **records):
    path.write_text(json.dumps({"metadata": {"config": "none"}, "results": records}))
    return path


@pytest.mark.parametrize(
    "results, words",
    [
        ({"long": {}}, 'field results: found "long", wanted a length in tokens'),
        ({"64": 3}, "field results.64: found 3, wanted a JSON object"),
        ({"64": {"baseline": SIDE, "speedup": {"prefill": "2"}}}, 'field results.64.speedup.prefill: found "2"'),
        ({"64": {"baseline": {**SIDE, "total_latency_seconds": "2"}}}, "field results.64.baseline.total_latency"),
    ],
)
def test_a_damaged_latency_file_is_named_with_its_field(tmp_path, monkeypatch, capsys, results, words):
    monkeypatch.chdir(tmp_path)
    latency_file(tmp_path / "a.json", **results)
    options = [word for method in ("baseline", "sdtp09", "sdtp08", "sdtp07") for word in (f"--{method}", "a.json")]
    check_refused(["report", *options, "--mode", "prefill", "--output", "o.md"], ["a.json", words], capsys)
    again = ["--output", "a.json", "--resume"]
    check_refused(["profile", "--mode", "prefill", "--config", "none", *again], ["cannot resume", words], capsys)


@pytest.mark.parametrize("name, words", [("kvpress", "the Python package kvpress"), ("sdtp_lib.no", "SDTP_DEBUG")])
def test_a_missing_package_is_named_and_a_missing_part_of_this_one_is_a_bug(name, words):
    assert words in endings.message(ModuleNotFoundError(f"No module named {name!r}", name=name))
