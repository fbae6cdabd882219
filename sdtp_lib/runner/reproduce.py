"""Run the notebooks headless, with the parameters of a profile, and write the ledger; into `runs/<profile>`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from .. import paths, results
from ..models.code_version import NOTEBOOK
from ..scorers.token_pruner import positive
from . import storing
from .execution import OFFLINE, NotebookFailed, execute, kernel_environment
from .job import Job
from .needs import check_needs
from .parallel_jobs import run_side_by_side, take_shard
from .profiles import plan


def reproduce(
    profile: str = "demo",
    only: str | None = None,
    resume: bool = False,
    jobs: int = 1,
    shard: str | None = None,
    store: bool = False,
    model: str | None = None,
) -> list[Path]:
    """Execute the notebooks of a profile, then write the ledger.

    Args:
        profile: name of a folder of `notebooks/profiles`.
        only: number of the one notebook to run, such as `04`.
        resume: skip notebooks that are done, see `Job.is_done`; otherwise all are run.
        jobs: so many notebooks at a time, see `runner.parallel_jobs.run_side_by_side`.
        shard: `i/n` for a slice of the notebooks, see `runner.parallel_jobs.take_shard`.
        store: once all notebooks passed, renew what the repository stores of the profile, see `runner.storing`.
        model: name, folder or file of the model to load in every notebook, whatever the profile names.

    Returns:
        The executed copies.

    Raises:
        ValueError: for an unknown profile, number, parameter or shard, `jobs` below 1, a damaged profile file, or, with
            `store`, as `runner.storing.begin`; before anything is run.
        FileNotFoundError: if there are no notebooks, or the profile has no file for the one asked for, or for any; or
            as `runner.needs.check_needs`.
        OSError: if results or figures could not be written; before anything is run.
        NotebookFailed: if a notebook raises an error; the ones after it are not run. With several jobs, a shard or a
            grid all that can run do, and the ledger is written, before it is raised.
        Failed: as `runner.storing.publish`.
    """
    positive("jobs", jobs)
    chosen = plan(profile, only, model)
    check_needs(chosen)
    if shard is not None and only is not None and len(chosen) == 1:
        raise ValueError("--only names one notebook, of which there is no shard")
    chosen = chosen if shard is None else take_shard(chosen, shard)
    if store and shard is not None:
        raise ValueError("--store takes no --shard")
    apart = jobs > 1 or shard is not None or len({job.notebook for job in chosen}) < len(chosen)
    for folder in (paths.results(profile), paths.figures(profile)):
        results.check_output(folder, folder=True)
    results.check_output(paths.ledger(profile))
    if store:
        storing.begin(profile, only, resume, model)
    else:
        storing.abandon(profile)
    todo = [job for job in chosen if not ((resume or job.keep) and job.is_done())]
    for job in todo:
        job.forget()
    with kernel_environment(OFFLINE if profile.startswith("demo") else {}):
        try:
            if apart:
                run_side_by_side(todo, jobs)
            else:
                _run_in_order(todo)
        except NotebookFailed as failed:
            if apart:
                try:
                    _write_up(profile, paths.results(profile))
                except (ValueError, OSError) as error:
                    raise NotebookFailed(f"{failed}; and then {error}") from failed
            raise
    _write_up(profile, paths.results(profile))
    if store:
        storing.publish(profile, chosen)
        _write_up(profile, paths.stored(paths.RESULTS, profile), stored=True)
    return [job.executed for job in chosen]


def where(profile: str, store: bool = False) -> str:
    """What to tell the user at the end of a run, in one line: where all of it is."""
    if store:
        return f"stored, to be committed: results/{profile}, figures/{profile}, results/{paths.LEDGER}"
    folders = paths.ledger(profile), paths.results(profile), paths.figures(profile)
    ledger, numbers, pictures = (os.path.relpath(folder) for folder in folders)
    return f"{ledger} says what came out; tables and executed notebooks are in {numbers}, figures in {pictures}"


def _write_up(profile: str, folder: Path, **options) -> None:
    """What is made of all the results in a profile's folder: the table of a sweep's points, and the ledger."""
    from ..latency.sweep_points import FOLDER, TABLE, write_points
    from ..ledger.ledger import write_ledger

    write_ledger(profile, **options)
    if any((folder / FOLDER).glob("*.json")):
        write_points(folder / FOLDER, folder / TABLE)


def _run_in_order(jobs: Sequence[Job]) -> None:
    with tqdm(jobs, unit="notebook") as bar:
        for job in bar:
            bar.set_description(job.executed.stem)
            digest, os.environ[NOTEBOOK] = job.digest(), job.notebook_digest()
            execute(job.notebook, job.executed, job.parameters)
            job.record(digest)
