"""Peak resident memory: what the fresh process says, and what is said when it cannot."""

import json
import os
import subprocess
import sys

import pytest
import torch
from helpers import tiny_model, tiny_pruner

from sdtp_lib import PruningSchedule
from sdtp_lib.latency import flops, memory
from sdtp_lib.latency.memory import resident_peaks

ROW = {"loaded_bytes": None, "peak_bytes": None, "kv_bytes": None}
LOADED = """echo '{"loaded_bytes": 100}'"""
DONE = """echo '{"length": 8, "kv_bytes": 3, "peak_bytes": 150}'"""


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Lets a shell script stand for the fresh process; it writes its task and its id into files."""
    monkeypatch.setattr(memory, "unreadable", lambda: None)

    def install(*lines):
        script = tmp_path / "process"
        start = [
            "#!/bin/sh",
            f"echo $$ > {tmp_path}/id",
            f'echo "$3" > {tmp_path}/task',
            f'echo "$1 $2" > {tmp_path}/how',
        ]
        script.write_text("\n".join([*start, *lines]))
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        return tmp_path

    return install


@pytest.fixture
def no_process(monkeypatch):
    def start(*args, **kwargs):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", start)


def test_rows_of_the_process_come_back(process):
    more = """echo '{"length": 20, "kv_bytes": 4, "peak_bytes": 170}'"""
    noise = "head -c 1000000 /dev/zero | tr '\\0' x >&2"  # more than a pipe holds
    folder = process(noise, LOADED, DONE, more)
    found = resident_peaks("demo", "keep09", [20, 8, 20], "float32", new_tokens=2, seed=3, chunk=16)
    assert found == {
        8: {"loaded_bytes": 100, "peak_bytes": 150, "kv_bytes": 3},
        20: {"loaded_bytes": 100, "peak_bytes": 170, "kv_bytes": 4},
    }
    assert (folder / "how").read_text().split() == ["-m", "sdtp_lib.latency.memory"]
    assert json.loads((folder / "task").read_text()) == {
        "model": "demo", "config": "keep09", "lengths": [8, 20], "dtype": "float32", "revision": None, "new_tokens": 2,
        "pruner": None, "seed": 3, "chunk": 16, "threads": torch.get_num_threads(),
    }  # fmt: skip


def test_the_process_is_told_what_auto_stands_for(process, monkeypatch):
    monkeypatch.setattr(memory, "resolve_dtype", lambda name, device: {("auto", "cpu"): "float16"}[name, device])
    folder = process(LOADED, DONE)
    resident_peaks("demo", "none", [8])
    assert json.loads((folder / "task").read_text())["dtype"] == "float16"


def test_a_killed_process_leaves_the_lengths_it_finished(process):
    process(LOADED, DONE, "kill -KILL $$")
    found = resident_peaks("demo", "none", [8, 20, 30])
    assert found[8] == {"loaded_bytes": 100, "peak_bytes": 150, "kv_bytes": 3}
    assert found[20] == {**ROW, "loaded_bytes": 100, "error": "killed, most likely out of memory"}
    assert found[30] == {**ROW, "loaded_bytes": 100, "error": "not run: the process was killed at 20 tokens"}


def test_a_process_killed_while_it_loads(process):
    process("kill -KILL $$")
    assert resident_peaks("demo", "none", [8])[8] == {**ROW, "error": "killed, most likely out of memory"}


@pytest.mark.parametrize("end", ["exit 1", "kill -SEGV $$"])
def test_any_other_failure_is_an_error_that_says_why(process, end):
    process(LOADED, DONE, "echo Traceback >&2", "echo 'ValueError: no such thing' >&2", "echo >&2", end)
    with pytest.raises(RuntimeError, match="fresh process .* failed with status -?1+: ValueError: no such thing$"):
        resident_peaks("demo", "none", [8, 20])


def test_an_interrupt_leaves_no_process_behind(process, monkeypatch):
    folder = process(LOADED, DONE, "exec sleep 60")

    def interrupt(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(memory.tqdm, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        resident_peaks("demo", "none", [8, 20])
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "id").read_text()), 0)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(config="keep1"), "unknown config 'keep1'; known: paper"),
        (dict(dtype="int8"), "unknown dtype 'int8'"),
        (dict(lengths=[]), "lengths must be 1 token or more"),
        (dict(lengths=[8, 0]), "lengths must be 1 token or more"),
        (dict(new_tokens=0), "new_tokens must be 1 or more"),
        (dict(chunk=0), "tokens must be a whole number of 1 or more"),
    ],
)
def test_bad_arguments_start_no_process(no_process, change, message):
    with pytest.raises(ValueError, match=message):
        resident_peaks(**{"model": "demo", "config": "none", "lengths": [8], **change})


def test_without_a_mark_to_read_there_is_a_reason_and_no_number(no_process, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "proc" / "clear_refs")
    (row,) = resident_peaks("demo", "none", [8]).values()
    assert "clear_refs: No such file or directory" in row.pop("reason") and row == ROW
    other = tmp_path / "status"
    other.write_text("VmRSS: 5 kB\n")
    monkeypatch.setattr(memory, "CLEAR", other)
    monkeypatch.setattr(memory, "STATUS", other)
    assert "no VmHWM" in memory.unreadable()


@pytest.mark.slow
def test_a_real_process_reads_a_saved_model(tmp_path):
    if memory.unreadable():
        pytest.skip(memory.unreadable())
    model = tiny_model("mistral", layers=6)
    model.save_pretrained(tmp_path / "model")
    schedule = PruningSchedule.preset("keep09", 6)
    tiny_pruner(schedule.layers).save_pretrained(tmp_path / "pruner")
    lengths, options = (3000, 200, 10**14), dict(dtype="float32", pruner=tmp_path / "pruner")
    full, pruned = (resident_peaks(tmp_path / "model", config, lengths, **options) for config in ("none", "keep09"))
    for found, cut in ((full, PruningSchedule(())), (pruned, schedule)):
        assert list(found) == [200, 3000, 10**14]
        for length in lengths[:2]:
            row = found[length]
            assert row["kv_bytes"] == flops.kv_bytes(model.config, cut.lengths(length, 6), torch.float32)
            assert 5e7 < row["loaded_bytes"] < row["peak_bytes"] < 4e9
        assert found[3000]["peak_bytes"] - found[200]["peak_bytes"] > 5e5
        assert found[10**14]["peak_bytes"] is None and "memory" in found[10**14]["error"]
    with pytest.raises(RuntimeError, match="FileNotFoundError: model folder .*gone does not exist"):
        resident_peaks(tmp_path / "gone", "none", [8])
