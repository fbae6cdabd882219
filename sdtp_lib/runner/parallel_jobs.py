"""Notebooks as independent jobs: several at a time on one machine, or a slice of them for a cluster's scheduler."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from .. import paths
from ..errors import sigterm_stops
from ..models.code_version import NOTEBOOK
from .execution import NotebookFailed, execute
from .job import TIMED, Job


def take_shard(jobs: Sequence[Job], shard: str) -> list[Job]:
    """Slice i of n, as `i/n`: every n-th job, so that the slices are the same in every call and make up all.

    A job that others need and that is done stays as it is, in its own slice too: other slices may be reading its files.

    Raises:
        ValueError: for another form, i outside 1 to n, or a job that needs one of another slice that is not done yet.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    index, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= index <= count:
        raise ValueError(f"shard must be i/n with i from 1 to n, got {shard!r}")
    chosen = list(jobs[index - 1 :: count])
    for job in chosen:
        for other in job.needs(jobs):
            if other not in chosen and not other.is_done():
                first = f"sdtp reproduce --profile {job.profile} --only {other.number}"
                raise ValueError(
                    f"{job.notebook.name} needs {other.notebook.name} of another shard; run `{first}` first"
                )
    needed = [other for job in jobs for other in job.needs(jobs)]
    return [replace(job, keep=job in needed) for job in chosen]


class Children:
    """Processes that end when this one is told to."""

    def __init__(self):
        self.alive, self.ended, self.lock = set(), False, threading.Lock()

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        """(exit status, stderr) of a process, once it is done; it is not started after the end."""
        with self.lock:
            if self.ended:
                return -signal.SIGTERM, ""
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True,
            )  # fmt: skip
            self.alive.add(process)
        _, errors = process.communicate()
        with self.lock:
            self.alive.remove(process)
        return process.returncode, errors

    def end(self) -> None:
        """Tell all of them to end, and start no more."""
        with self.lock:
            self.ended = True
            for process in self.alive:
                process.terminate()

    @contextmanager
    def ended_with_this(self) -> Iterator[None]:
        """Inside, SIGTERM ends this process as Ctrl-C does; the others end when an exception leaves the block."""
        with sigterm_stops():
            try:
                yield
            except BaseException:
                self.end()
                raise


def run_side_by_side(jobs: Sequence[Job], count: int) -> None:
    """Run every job in a process of its own, at most `count` at a time; one that needs another comes after it.

    The machine's threads and GPUs are divided among them. A notebook that times runs when no other does, on all of
    them, unless each process has a GPU of its own. If this process is told to end, it ends the others first.

    Raises:
        NotebookFailed: at the end, naming every notebook that failed and those that had needed one of them.
    """
    waiting, running, problems = sorted(jobs, key=Job.turn), {}, {}
    count = max(1, min(count, len(jobs)))  # who asks for more shares the machine among those that there are
    shares, children = gpu_shares(count), Children()
    free, apart = list(range(count)), len({*shares} - {None}) == count
    with tqdm(total=len(jobs), unit="notebook") as bar, ThreadPoolExecutor(count) as pool, children.ended_with_this():
        while waiting or running:
            for job in list(waiting):
                before, others = job.needs(jobs), [other for other, _ in running.values()]
                alone = job.number in TIMED and not apart
                blocked = any(other in waiting or other in others for other in before)
                blocked |= any(alone or (other.number in TIMED and not apart) for other in others)
                if lost := [other for other in before if other in problems]:
                    problems[job] = f"{job.executed.name} was not run: it needs {lost[0].executed.name}"
                    bar.update()
                elif free and not blocked:
                    slot = free.pop(0)
                    environment = _environment(None if alone else shares[slot], 1 if alone else count)
                    running[pool.submit(_run, job, environment, children)] = job, slot
                else:
                    continue
                waiting.remove(job)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                (job, slot), (digest, problem) = running.pop(future), future.result()
                free.append(slot)
                if problem is None:
                    job.record(digest)
                else:
                    problems[job] = problem
                bar.update()
    if problems:
        raise NotebookFailed(f"{len(problems)} of {len(jobs)} notebooks failed: {'; '.join(problems.values())}")


def gpu_shares(count: int) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES for each of `count` processes; None where there is no GPU to share.

    With more processes than GPUs some of them share one.
    """
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(there)))).split(",")[:there]
    return [",".join(gpus[slot::count] or [gpus[slot % there]]) if gpus else None for slot in range(count)]


def _environment(gpus: str | None, count: int) -> dict[str, str]:
    """Of a process that runs beside `count - 1` others; `gpus` None leaves those that this process sees."""
    environment, threads = dict(os.environ), int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    if count > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, threads // count))
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    environment["PYTHONPATH"] = os.pathsep.join([str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment


def _run(job: Job, environment: dict[str, str], children: Children) -> tuple[str, str | None]:
    """Execute one notebook; returns its digest and what went wrong, None if nothing did."""
    environment = {**environment, NOTEBOOK: job.notebook_digest()}
    digest, task = job.digest(), [str(job.notebook), str(job.executed), job.parameters]
    status, errors = children.run([sys.executable, "-m", __name__, json.dumps(task)], environment)
    if status == 0:
        return digest, None
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = lines[-1] if lines and status > 0 else f"exit status {status}"  # below 0: a signal
    name = job.executed.name
    return digest, said if name in said else f"{name} failed: {said}"


def _main(task: str) -> int:
    notebook, executed, parameters = json.loads(task)
    try:
        execute(Path(notebook), Path(executed), parameters)
    except NotebookFailed as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
