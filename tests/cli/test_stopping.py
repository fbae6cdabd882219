"""Work that is stopped, or runs out of disk or memory: nothing half-written is left, and it goes on from there."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from errno import ENOSPC

import pytest
import torch
from helpers import tiny_model
from small_records import small_model, small_tokenizer, write_records
from training.test_trainer import trainer, write_marks

from sdtp_lib import PruningSchedule, cli, results
from sdtp_lib.errors import sigterm_stops
from sdtp_lib.latency import sweep_plan as plan
from sdtp_lib.models import loading
from sdtp_lib.training import saliency
from sdtp_lib.training import trainer as training
from sdtp_lib.training.marks import load_marks
from sdtp_lib.training.trainer import CHECKPOINT_FILE, HISTORY_FILE

TRAINED = ("pruner.safetensors", "pruner_config.json", HISTORY_FILE)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a small model, prompts with answers, marks, records and a prompt."""
    home = tmp_path_factory.mktemp("home")
    small_model().save_pretrained(home / "model")
    small_tokenizer().save_pretrained(home / "model")
    rows = [{"instruction": f"Say {i}", "context": "so " * (20 + i), "response": f"It is {i}."} for i in range(10)]
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_records(home / "records")
    (home / "prompt.txt").write_text("Who asked? " * 20)
    assert cli.main(["mark", *options(home, "mark"), "--output", str(home / "marks")]) == 0
    return home


def options(home, command):
    """Of a short run of a command on the model; all but its output."""
    model = ["--model", str(home / "model"), "--device", "cpu"]
    return {
        "mark": [*model, "--data", str(home / "pairs.jsonl"), "--num-samples", "10"],
        "train": [*model, "--marks", str(home / "marks"), "--epochs", "1"],
        "profile": ["--model", str(home / "model"), "--dtype", "float32", "--mode", "prefill", "--config", "none",
                    "--lengths", "40", "64", "--repeats", "1", "--device", "cpu"],
        "evaluate": [*model, "--dtype", "float32", "--tasks", "singledoc_qa", "--method", "random", "--limit", "2",
                     "--data", str(home / "records"), "--batch-size", "1"],
        "explore": [*model, "--prompt-file", str(home / "prompt.txt"), "--pruner", str(home / "pruner"),
                    "--new-tokens", "2"],
        "demo": [*model, "--prompt-file", str(home / "prompt.txt"), "--new-tokens", "2", "--repeats", "1"],
    }[command]  # fmt: skip


def call(*arguments):
    return cli.main([str(argument) for argument in arguments])


@contextmanager
def failing_write(number):
    """The `number`-th write of the library puts half of it on the disk and finds no more room."""
    count = 0

    class File:
        def __init__(self, *arguments, **options):
            self.file = open(*arguments, **options)

        def write(self, content):
            nonlocal count
            count += 1
            if count == number:
                self.file.write(content[: len(content) // 2])
                raise OSError(ENOSPC, "No space left on device")
            return self.file.write(content)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "open", File, raising=False)
        yield lambda: count


def check_whole(folder):
    """Every file can be read, and there is none but those."""
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        assert path.suffix in (".json", ".jsonl", ".safetensors", ".html", ".md"), f"{path} was left behind"
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".jsonl":
            assert path.read_text().endswith("\n") and [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("command", ["mark", "train", "profile", "evaluate", "explore", "demo"])
def test_a_disk_that_is_full_at_any_write_is_told_and_leaves_nothing_half_written(home, tmp_path, capsys, command):
    """Also: once there is room, the work goes on from what was written."""
    if command == "explore":
        pruner = training.new_pruner(32, PruningSchedule.preset("keep07", 6), training.Recipe())
        pruner.save_pretrained(home / "pruner")
    names = {"mark": "out", "train": "out", "explore": "out.html", "demo": "out.html"}
    name, writes = names.get(command, "out.json"), 0
    while True:
        writes += 1
        output = tmp_path / str(writes) / name
        output.parent.mkdir()
        with failing_write(writes) as count:
            status = call(command, *options(home, command), "--output", output)
        said = capsys.readouterr().err.splitlines()
        if count() < writes:
            assert status == 0 and writes > 2
            break
        assert status == 1 and said[-1].startswith("sdtp: error: ") and "No space left on device" in said[-1], said
        assert len([line for line in said if line.startswith("sdtp: ")]) == 1 and str(output.stem) in said[-1]
        check_whole(output.parent)
        again = ["--resume"] if command in ("train", "profile", "evaluate") else []
        assert call(command, *options(home, command), "--output", output, *again) == 0
        check_whole(output.parent)
        capsys.readouterr()
    last = sorted(path.relative_to(output.parent) for path in output.parent.rglob("*"))
    first = tmp_path / "1"
    assert last == sorted(path.relative_to(first) for path in first.rglob("*"))
    if command == "mark":
        assert load_marks(first / name).digest == load_marks(home / "marks").digest
    if command == "train":
        assert all((first / name / file).read_bytes() == (output / file).read_bytes() for file in TRAINED)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(model, marks, folder of an undisturbed training, its history); twelve steps."""
    model = tiny_model("demo")
    model.name_or_path = "toy"
    marks = write_marks(model, tmp_path_factory.mktemp("toy"))
    straight = tmp_path_factory.mktemp("straight")
    return model, marks, straight, trainer(model, marks, straight).run()


def stop_at(run, patch, where, number, signum):
    """The `number`-th time, from 0, that the training comes to `where`, the signal arrives."""
    left = [number]

    def arrive(*_):
        left[0] -= 1
        if left[0] == -1:
            signal.raise_signal(signum)

    if where == "backward":
        next(iter(run.pruner.parameters())).register_hook(arrive)
    elif where == "updated":  # the weights are new, the history does not say so yet
        run.optimizer.register_step_post_hook(arrive)
    else:
        owner, name = {"forward": (run.objective, "forward"), "written": (os, "fsync"), "renamed": (os, "replace"),
                       "end": (training, "held_out_correlation")}[where]  # fmt: skip
        real = getattr(owner, name)
        patch.setattr(owner, name, lambda *given: (real(*given), arrive())[0])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "where, number, done",
    [
        ("forward", 0, 0), ("forward", 1, 1), ("forward", 7, 7), ("forward", 11, 11),
        ("backward", 0, 0), ("backward", 5, 5),
        ("updated", 0, 1), ("updated", 4, 5), ("updated", 11, 12),
        ("written", 0, 5), ("written", 1, 5), ("renamed", 0, 5), ("renamed", 3, 10),
        ("end", 0, 12), ("written", 6, 12), ("renamed", 5, 12),
    ],
)  # fmt: skip
def test_training_stopped_anywhere_goes_on_to_the_very_same_result(toy, tmp_path, where, number, done, signum):
    """`done` steps; a checkpoint at every fifth is there as well, and is written anew."""
    model, marks, straight, history = toy
    run = trainer(model, marks, tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt), sigterm_stops():
        stop_at(run, patch, where, number, signum)
        run.run(save_every=5)
    assert not list(tmp_path.glob(".*")), "something half-written was left"
    assert (tmp_path / CHECKPOINT_FILE).is_file() == (done > 0)
    resumed = trainer(model, marks, tmp_path)
    if done:
        resumed.load()
        assert resumed.history == history[:done]
        assert (tmp_path / HISTORY_FILE).read_text().count("\n") == done
    assert trainer(model, marks, tmp_path).run(resume=True) == history
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in straight.iterdir())
    assert all((tmp_path / name).read_bytes() == (straight / name).read_bytes() for name in TRAINED)


def test_a_second_ctrl_c_does_not_wait_for_the_checkpoint(toy, tmp_path, monkeypatch):
    model, marks, _, _ = toy
    run = trainer(model, marks, tmp_path)
    stop_at(run, monkeypatch, "forward", 2, signal.SIGINT)
    monkeypatch.setattr(os, "fsync", lambda number: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing, status", [((), 0), ((64,), 1), ((40, 64), 1)])
def test_a_profile_with_a_failed_length_is_no_success(home, tmp_path, capsys, monkeypatch, failing, status):
    """What was measured is shown and kept, the failure too, and a resumed run tries again."""
    real = plan.timed_run

    def scarce(model, ids, new_tokens):
        if ids.shape[1] in failing:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return real(model, ids, new_tokens)

    with monkeypatch.context() as patch:
        patch.setattr(plan, "timed_run", scarce)
        assert call("profile", *options(home, "profile"), "--output", tmp_path / "out.json") == status
        said = capsys.readouterr()
        assert "64 tokens" in said.out and "40 tokens" in said.out
        if failing:
            problem = f"{failing[0]} tokens: OutOfMemoryError: CUDA out of memory"
            line = f"{len(failing)} of 2 lengths failed, {problem}; {tmp_path / 'out.json'} has what was measured"
            said, _, again = said.err.splitlines()[-1].partition("; to go on: ")
            assert said == f"sdtp: error: {line}" and again.startswith("sdtp profile ") and again.endswith(" --resume")
        rows = json.loads((tmp_path / "out.json").read_text())["results"]
        assert {length for length, row in rows.items() if "error" in row} == {*map(str, failing)}
        assert call("profile", *options(home, "profile")) == status  # nothing is written either
    assert call("profile", *options(home, "profile"), "--output", tmp_path / "out.json", "--resume") == 0
    assert not any("error" in row for row in json.loads((tmp_path / "out.json").read_text())["results"].values())


@pytest.mark.parametrize("command", ["mark", "train", "evaluate", "explore", "demo"])
def test_too_little_memory_is_told_in_one_line(home, tmp_path, capsys, monkeypatch, command):
    def scarce(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    for module in (loading, saliency, training):
        monkeypatch.setattr(module, "load_model", scarce)
    base = [word for word in options(home, command) if word not in ("--pruner", str(home / "pruner"))]
    assert call(command, *base, "--output", tmp_path / "out") == 1
    assert capsys.readouterr().err == "sdtp: error: out of memory: CUDA out of memory. Tried to allocate\n"
    assert not list(tmp_path.iterdir())


def stopped_process(arguments, pattern, signum):
    """(exit status, last line on stderr) of a command that gets a signal when `pattern` shows on stderr."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TQDM_MININTERVAL": "0"}
    environment.pop("TQDM_DISABLE", None)
    command = [sys.executable, "-m", "sdtp_lib.cli", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
    said, sent = "", False
    while part := os.read(process.stderr.fileno(), 4096).decode(errors="replace"):
        said += part
        if not sent and re.search(pattern, said):
            process.send_signal(signum)
            sent = True
    process.stderr.close()
    assert sent, said
    return process.wait(), said.replace("\r", "\n").splitlines()[-1]


@pytest.mark.slow
def test_a_training_stopped_again_and_again_ends_as_one_that_was_not(home, tmp_path):
    command = ["train", *options(home, "train"), "--epochs", "60"]
    assert call(*command, "--output", tmp_path / "straight") == 0
    run, steps = [*command, "--output", tmp_path / "parts"], [0]
    for step, signum, status in ((1, signal.SIGINT, 130), (30, signal.SIGTERM, 143), (70, signal.SIGINT, 130)):
        found, line = stopped_process(run, rf"train: .* ({step}|{step + 1}|{step + 2}|{step + 3})/180", signum)
        assert found == status and line.endswith(" --resume") and "; to go on: sdtp train " in line
        assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [CHECKPOINT_FILE, HISTORY_FILE]
        steps.append((tmp_path / "parts" / HISTORY_FILE).read_text().count("\n"))
        assert steps[-2] < steps[-1] < 180
        run = [*command, "--output", tmp_path / "parts", "--resume"]
    assert call(*run) == 0
    for name in TRAINED:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, pattern", [("mark", "Load|mark:"), ("profile", "latency: "), ("evaluate", "samples: ")]
)
def test_other_commands_stopped_go_on_as_well(home, tmp_path, command, pattern):
    output = tmp_path / ("out" if command == "mark" else "out.json")
    run = [command, *options(home, command), "--output", output]
    found, line = stopped_process(run, pattern, signal.SIGINT)
    assert found == 130 and line.startswith("sdtp: interrupted; to go on: sdtp ")
    check_whole(tmp_path)
    assert cli.main(shlex.split(line.partition("; to go on: sdtp ")[2])) == 0
    check_whole(tmp_path)
