"""Notebooks side by side and in slices: every one once, none before what it reads, and no failure stops the others."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import torch
from small_notebooks import outputs, small_repository, write_notebook

from sdtp_lib import cli, paths, results
from sdtp_lib.runner import job, reproduce
from sdtp_lib.runner import parallel_jobs as side_by_side
from sdtp_lib.runner.execution import NotebookFailed
from sdtp_lib.runner.job import WRITERS
from sdtp_lib.runner.profiles import plan

NUMBERS = [f"{number:02}" for number in range(1, 8)]
TIMED = [number for number in NUMBERS if number in job.TIMED]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Notebooks 01 to 07, of which 03 and 07 read what 02 writes; the ledger is a list."""
    ledger = small_repository(tmp_path, monkeypatch)
    for number in NUMBERS:
        write_notebook(tmp_path / "notebooks" / f"{number}_trial.ipynb", "factor", parameters="factor = 2\nfolder = ''")
        reads = "folder: ../runs/demo/results/training/pruners/SDTP\n" if number in ("03", "07") else ""
        (paths.PROFILES / "demo" / f"{number}.yaml").write_text(f"factor: 3\n{reads}")
    return tmp_path, ledger


class Runs:
    """Stands in for the processes: what started and ended in which order, and which notebooks are to fail."""

    def __init__(self):
        self.events, self.failing, self.lock, self.threads, self.gpus = [], set(), threading.Lock(), {}, {}

    def __call__(self, job, environment, children):
        with self.lock:
            self.events.append(("start", job.number))
        self.threads[job.number] = environment.get("OMP_NUM_THREADS")
        self.gpus[job.number] = environment.get("CUDA_VISIBLE_DEVICES")
        time.sleep(0.05)
        if job.number in self.failing:
            problem = f"{job.notebook.name} failed: no luck"
        else:
            problem = None
            results.write_text(job.executed, "{}")
        with self.lock:
            self.events.append(("end", job.number))
        return job.digest(), problem

    @property
    def started(self):
        return sorted(number for what, number in self.events if what == "start")

    def most_at_a_time(self):
        running = [0]
        for what, _ in self.events:
            running.append(running[-1] + (1 if what == "start" else -1))
        return max(running)


@pytest.fixture
def runs(monkeypatch):
    runs = Runs()
    monkeypatch.setattr(side_by_side, "_run", runs)
    return runs


def entries(root):
    return sorted(path.name for path in (root / "results" / "demo" / "notebooks" / "manifest").glob("*"))


@pytest.mark.parametrize("jobs, threads", [(2, "4"), (3, "2"), (20, "1")])
def test_all_run_once_and_none_before_what_it_reads(repository, runs, monkeypatch, jobs, threads):
    root, ledger = repository
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    done = reproduce.reproduce("demo", jobs=jobs)
    assert [path.name[:2] for path in done] == runs.started == NUMBERS and ledger == ["demo"]
    assert min(map(runs.events.index, [("start", "03"), ("start", "07")])) > runs.events.index(("end", "02"))
    assert 1 < runs.most_at_a_time() <= jobs
    assert runs.threads == {number: "8" if number in TIMED else threads for number in NUMBERS}
    assert entries(root) == [f"{number}_trial.json" for number in NUMBERS]
    runs.events.clear()
    reproduce.reproduce("demo", jobs=jobs, resume=True)
    assert not runs.events
    (root / "results" / "demo" / "notebooks" / "06_trial.ipynb").unlink()
    reproduce.reproduce("demo", jobs=jobs, resume=True)
    assert runs.started == ["06"]


def test_the_longest_are_begun_first(repository, runs, monkeypatch):
    monkeypatch.setattr(job, "LONGEST", ("07", "01"))
    reproduce.reproduce("demo", jobs=2)
    order = [number for what, number in runs.events if what == "start"]
    assert {*order[:2]} == {"01", "02"}  # 07 reads what 02 writes
    assert order.index("07") < order.index("03")


def test_nothing_runs_beside_a_notebook_that_times(repository, runs):
    reproduce.reproduce("demo", jobs=7)
    for number in TIMED:
        assert runs.events.index(("end", number)) == runs.events.index(("start", number)) + 1


@pytest.mark.parametrize(
    "visible, there, count, shares",
    [
        ("", 0, 2, [None, None]),
        ("0,1", 1, 2, ["0", "0"]),
        ("0", 1, 2, ["0", "0"]),
        ("0,3", 2, 2, ["0", "3"]),
        ("GPU-a,GPU-b,GPU-c", 3, 2, ["GPU-a,GPU-c", "GPU-b"]),
        ("0,1", 2, 3, ["0", "1", "0"]),
        (None, 4, 2, ["0,2", "1,3"]),
    ],
)
def test_gpus_are_dealt_out(monkeypatch, visible, there, count, shares):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert side_by_side.gpu_shares(count) == shares


def test_who_times_on_a_gpu_of_its_own_needs_not_be_alone(repository, runs, monkeypatch):
    monkeypatch.setattr(side_by_side, "gpu_shares", lambda count: [str(gpu) for gpu in range(count)])
    reproduce.reproduce("demo", jobs=3)
    assert runs.most_at_a_time() == 3 and {*runs.gpus.values()} == {"0", "1", "2"} and runs.started == NUMBERS
    at = {number: [runs.events.index((what, number)) for what in ("start", "end")] for number in NUMBERS}
    pairs = [(at[one], at[other]) for one in TIMED for other in NUMBERS if other != one]
    assert any(one[0] < other[1] and other[0] < one[1] for one, other in pairs)  # the last begun may have nobody left


def test_who_times_on_a_shared_gpu_is_alone_and_has_all_gpus(repository, runs, monkeypatch):
    monkeypatch.setattr(side_by_side, "gpu_shares", lambda count: ["0", "1", "0"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    reproduce.reproduce("demo", jobs=3)
    for number in TIMED:
        assert runs.events.index(("end", number)) == runs.events.index(("start", number)) + 1
        assert runs.gpus[number] == "0,1"
    assert {runs.gpus[number] for number in ("01", "02", "03", "07")} <= {"0", "1"}


def test_a_failure_stops_only_what_needs_it_and_all_are_named(repository, runs):
    root, ledger = repository
    runs.failing = {"02", "05"}
    with pytest.raises(NotebookFailed) as caught:
        reproduce.reproduce("demo", jobs=2)
    said = str(caught.value)
    assert said.startswith("4 of 7 notebooks failed: ") and "02_trial.ipynb failed: no luck" in said
    assert "05_trial.ipynb failed: no luck" in said and "03_trial.ipynb was not run: it needs 02_trial.ipynb" in said
    assert runs.started == ["01", "02", "04", "05", "06"] and ledger == ["demo"]
    assert entries(root) == ["01_trial.json", "04_trial.json", "06_trial.json"]
    runs.failing, runs.events = set(), []
    reproduce.reproduce("demo", jobs=2, resume=True)
    assert runs.started == ["02", "03", "05", "07"] and len(entries(root)) == 7


@pytest.mark.parametrize("count", range(1, 10))
def test_shards_are_disjoint_and_complete(repository, runs, count):
    root, ledger = repository
    reproduce.reproduce("demo", only="02", jobs=2)  # what others need comes first
    slices = []
    for index in range(1, count + 1):
        runs.events.clear()
        done = reproduce.reproduce("demo", shard=f"{index}/{count}")
        assert set(runs.started) == {path.name[:2] for path in done} - {"02"}  # 02 is done, and others read its files
        slices.append([path.name[:2] for path in done])
    assert sorted(sum(slices, [])) == NUMBERS
    assert max(map(len, slices)) - min(map(len, slices)) <= 1
    assert len(entries(root)) == 7 and ledger == ["demo"] * (count + 1)


def test_a_shard_says_what_has_to_run_first(repository, runs):
    with pytest.raises(ValueError, match="03_trial.ipynb needs 02_trial.ipynb of another shard; .*--only 02` first"):
        reproduce.reproduce("demo", shard="1/2")
    reproduce.reproduce("demo", shard="1/1")
    assert runs.started == NUMBERS


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1/0", "1/-3", "1", "a/b", "1/2/3", ""])
def test_other_shards_are_refused(repository, runs, capsys, shard):
    assert cli.main(["reproduce", "--shard", shard]) == 2
    assert "shard must be i/n with i from 1 to n" in capsys.readouterr().err and not runs.events


@pytest.mark.parametrize(
    "options, message", [(["--jobs", "0"], "jobs must be"), (["--only", "01", "--shard", "1/2"], "no shard")]
)
def test_other_bad_options_are_refused(repository, runs, capsys, options, message):
    root, ledger = repository
    assert cli.main(["reproduce", *options]) == 2
    assert message in capsys.readouterr().err and not runs.events and not ledger and not (root / "results").exists()


def test_the_project_s_own_profiles_state_what_they_need(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    for profile, wanted in {
        "demo": [],
        "demo_full": ["07"],
        "sweep_7b": [],
        "paper": ["03", "04", "05", "06", "07", "08", "09", "11"],
    }.items():
        jobs = plan(profile)
        assert [job.number for job in jobs if job.needs(jobs)] == wanted
        assert {other.number for job in jobs for other in job.needs(jobs)} <= {"02"}


def test_every_writer_s_folder_is_named_in_a_profile():
    said = [path.read_text() for path in paths.PROFILES.glob("*/*.yaml")]
    for folder, number in WRITERS.items():
        assert any(f"{folder}" in text and f"written by notebook {number}" in text for text in said)


@pytest.mark.slow
def test_notebooks_run_in_processes_of_their_own(repository, capsys):
    root, ledger = repository
    for number in NUMBERS[3:]:
        (paths.PROFILES / "demo" / f"{number}.yaml").unlink()
    show = "import os\nprint(factor, os.environ['OMP_NUM_THREADS'], os.path.basename(os.getcwd()))"
    for number in ("02", "03"):
        write_notebook(root / "notebooks" / f"{number}_trial.ipynb", show, parameters="factor = 2\nfolder = ''")
    write_notebook(root / "notebooks" / "01_trial.ipynb", "1 / 0", parameters="factor = 2")
    assert cli.main(["reproduce", "--jobs", "2"]) == cli.FAILED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("sdtp: error: 1 of 3 notebooks failed: notebook 01_trial.ipynb failed: ZeroDivisionError")
    folder = root / "results" / "demo" / "notebooks"
    assert [outputs(folder / f"{number}_trial.ipynb") for number in ("02", "03")] == ["3 1 notebooks\n"] * 2
    assert entries(root) == ["02_trial.json", "03_trial.json"] and ledger == ["demo"]
    assert not list(folder.glob("*.partial")) and "ZeroDivisionError" in (folder / "01_trial.ipynb").read_text()


@pytest.mark.parametrize(
    "code, words", [("import os; os.kill(os.getpid(), 9)", "exit status -9"), ("1 / 0", "ZeroDiv")]
)
def test_a_process_that_dies_is_named(repository, monkeypatch, tmp_path, code, words):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}'\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(NotebookFailed, match=f"1 of 1 notebooks failed: 01_trial.ipynb failed: {words}"):
        reproduce.reproduce("demo", only="01", jobs=2)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["SIGTERM", "SIGINT"])
def test_what_ends_the_command_ends_its_notebooks(repository, word):
    """Processes and their kernels; what they leave is no result."""
    root, _ = repository
    for number in NUMBERS:
        (paths.PROFILES / "demo" / f"{number}.yaml").unlink(missing_ok=number not in ("01", "02"))
    for number in ("01", "02"):
        source = f"open('{root}/begun{number}', 'w').close()\nimport time\ntime.sleep(300)"
        write_notebook(root / "notebooks" / f"{number}_trial.ipynb", source, parameters="factor = 2")
        (paths.PROFILES / "demo" / f"{number}.yaml").write_text("factor: 3\n")
    code = (
        "import pathlib, sys\nfrom sdtp_lib import cli, paths\nroot = pathlib.Path(sys.argv[1])\n"
        "paths.NOTEBOOKS, paths.PROFILES = root / 'notebooks', root / 'notebooks' / 'profiles'\n"
        "sys.exit(cli.main(['reproduce', '--jobs', '2']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, root], env={**os.environ, "PYTHONPATH": str(paths.ROOT)})
    try:
        _until(lambda: all((root / f"begun{number}").exists() for number in ("01", "02")))
        others = psutil.Process(process.pid).children(recursive=True)
        assert len(others) >= 4  # two notebooks, two kernels
        process.send_signal(getattr(signal, word))
        assert process.wait(60) == {"SIGTERM": 143, "SIGINT": 130}[word]
        _until(lambda: not [other for other in others if other.is_running() and other.status() != "zombie"])
        assert not entries(root)
    finally:
        process.kill()


def _until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.mark.slow
def test_the_job_of_a_process_reports_in_one_line(tmp_path):
    """A process that could not even start its notebook."""
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT)}
    task = f'["{tmp_path}/no.ipynb", "{tmp_path}/copy.ipynb", {{}}]'
    command = [sys.executable, "-m", "sdtp_lib.runner.parallel_jobs", task]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "no.ipynb failed" in done.stderr.splitlines()[-1]
