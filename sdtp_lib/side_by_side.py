"""Notebooks as independent jobs: several at a time on one machine, or a slice of them for a cluster's scheduler."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from . import paths
from .notebook_jobs import TIMED, Job
from .reproduce import NotebookFailed, execute


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
                profile = job.executed.parent.parent.name
                first = f"sdtp reproduce --profile {profile} --only {other.number}"
                raise ValueError(
                    f"{job.notebook.name} needs {other.notebook.name} of another shard; run `{first}` first"
                )
    needed = [other for job in jobs for other in job.needs(jobs)]
    return [replace(job, keep=job in needed) for job in chosen]


def run_side_by_side(jobs: Sequence[Job], count: int) -> None:
    """Run every job in a process of its own, at most `count` at a time; one that needs another comes after it.

    The machine's threads are divided among them. A notebook that times runs when no other does, on all threads.

    Raises:
        NotebookFailed: at the end, naming every notebook that failed and those that had needed one of them.
    """
    waiting, running, problems = list(jobs), {}, {}
    with tqdm(total=len(jobs), unit="notebook") as bar, ThreadPoolExecutor(count) as pool:
        while waiting or running:
            for job in list(waiting):
                before = job.needs(jobs)
                if lost := [other for other in before if other in problems]:
                    problems[job] = f"{job.notebook.name} was not run: it needs {lost[0].notebook.name}"
                    bar.update()
                elif _may_start(job, before, waiting, list(running.values()), count):
                    running[pool.submit(_run, job, _environment(job, count))] = job
                else:
                    continue
                waiting.remove(job)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, (digest, problem) = running.pop(future), future.result()
                if problem is None:
                    job.record(digest)
                else:
                    problems[job] = problem
                bar.update()
    if problems:
        raise NotebookFailed(f"{len(problems)} of {len(jobs)} notebooks failed: {'; '.join(problems.values())}")


def _may_start(job: Job, before: Sequence[Job], waiting: Sequence[Job], running: Sequence[Job], count: int) -> bool:
    if any(other in waiting or other in running for other in before):
        return False
    if job.number in TIMED or any(other.number in TIMED for other in running):
        return not running
    return len(running) < count


def _environment(job: Job, count: int) -> dict[str, str]:
    """Of the process of a job that runs beside `count - 1` others."""
    environment, threads = dict(os.environ), int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    if job.number not in TIMED:
        environment["OMP_NUM_THREADS"] = str(max(1, threads // count))
    environment["PYTHONPATH"] = os.pathsep.join([str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment


def _run(job: Job, environment: dict[str, str]) -> tuple[str, str | None]:
    """Execute one notebook; returns its digest and what went wrong, None if nothing did."""
    digest, task = job.digest(), [str(job.notebook), str(job.executed), job.parameters]
    process = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(task)], env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
    if process.returncode == 0:
        return digest, None
    lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
    said = lines[-1] if lines and process.returncode > 0 else f"exit status {process.returncode}"  # below 0: a signal
    return digest, said if job.notebook.name in said else f"{job.notebook.name} failed: {said}"


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
