"""`make store`: the only way into `results/<profile>` and `figures/<profile>`, from a tree without changes.

The notebooks run into `runs/<profile>` as always. Once all of them passed, the files that they made are copied, those
that git ignores left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import paths, results
from ..errors import Failed
from ..latency.files import lookup
from ..models.code_version import code_version, git
from .job import Job

MARKER = "store.json"  # in the folder of the run while it is made to be stored; what was made since is newer
KINDS = (paths.RESULTS, paths.FIGURES)


def begin(profile: str, only: str | None, resume: bool, model: str | None = None) -> None:
    """Make the run's folder ready: a whole run begins with an empty one.

    Args:
        only, resume, model: as `reproduce`.

    Raises:
        ValueError: outside a checkout; if anything differs from the commit; if results are to go elsewhere; if there is
            no such run to resume, or it began at another commit or with another model.
    """
    if moved := [variable for kind, variable in paths.MOVED.items() if paths.moved_to(kind)]:
        raise ValueError(f"results are stored in the repository; unset {moved[0]}")
    if found := _changes():
        raise ValueError(f"results are stored from a tree without changes; commit or undo first: {found}")
    marker, now = paths.run(profile) / MARKER, {"commit": code_version()["commit"], "only": only, "model": model}
    if resume:
        if not marker.is_file():
            raise ValueError(f"there is no unfinished store of {profile} to resume")
        results.check_resumable(results.read_json(marker), now, [*now])
        return
    if only is None and marker.parent.exists():
        shutil.rmtree(marker.parent)
    results.write_json(marker, now)


def abandon(profile: str) -> None:
    """Before a run that is not to be stored: what it writes must not be taken for a part of one that is."""
    (paths.run(profile) / MARKER).unlink(missing_ok=True)


def publish(profile: str, jobs: Sequence[Job]) -> None:
    """Copy what the run made to where the repository stores it, all of it or nothing.

    After a whole run, what is stored and was not made again is removed, but for what no notebook made: result files
    that say nothing of one, and the files that are called after them. The table of a sweep's points is left out: it
    is made of all that are stored, see `runner.reproduce`.

    Args:
        jobs: of the run, all of them done.

    Raises:
        Failed: if the tree has changes now or had some while a notebook ran, or is at another commit now.
    """
    marker = paths.run(profile) / MARKER
    if found := _changes():  # a commit would leave the run without the one that it may go on at
        raise Failed(f"nothing was stored yet: undo (not commit) what was changed while the notebooks ran: {found}")
    if code_version()["commit"] != results.read_json(marker)["commit"]:
        raise Failed("nothing was stored: the repository went to another commit while the notebooks ran")
    if changed := [job.executed.name for job in jobs if not job.is_done()]:
        raise Failed(f"nothing was stored: the code changed while {changed[0]} ran")
    made = {target: file for kind in KINDS for file, target in _made(profile, kind, marker)}
    ignored = _names(git("check-ignore", "-z", "--stdin", given="\0".join(map(_name, made)), fine=(0, 1)))
    made = {target: file for target, file in made.items() if _name(target) not in ignored}
    results.write_files({target: file.read_bytes() for target, file in made.items()})
    if results.read_json(marker)["only"] is None:
        tracked = _names(git("ls-files", "-z", "--", *(_name(paths.stored(kind, profile)) for kind in KINDS)))
        stems = [Path(name).stem for name in tracked if _is_made_otherwise(paths.ROOT / name)]
        for name in tracked - {*map(_name, made)}:
            if not any(re.match(rf"{re.escape(stem)}[._]", Path(name).name) for stem in stems):
                (paths.ROOT / name).unlink(missing_ok=True)
    marker.unlink()


def _made(profile: str, kind: str, marker: Path) -> Iterator[tuple[Path, Path]]:
    """Each file of a kind that the run made, and where it is stored."""
    from ..latency.sweep_points import TABLE

    home, since = paths.run(profile) / kind, marker.stat().st_mtime_ns
    for file in sorted(home.rglob("*")):
        if file.is_file() and file.stat().st_mtime_ns >= since and file.name != TABLE:
            yield file, paths.stored(kind, profile) / file.relative_to(home)


def _is_made_otherwise(file: Path) -> bool:
    """Whether a stored file is a result that was made by a command, on a GPU for instance, and not by a notebook."""
    if file.suffix != ".json" or not file.is_file():
        return False
    about = lookup(results.read_json(file), "metadata")
    return isinstance(about, dict) and "code_digest" in about and "notebook_digest" not in about


def _name(file: Path) -> str:
    """As git calls it."""
    return file.relative_to(paths.ROOT).as_posix()


def _names(said: str) -> set[str]:
    return {*filter(None, said.split("\0"))}


def _changes() -> str | None:
    """What differs from the commit, if anything does: the first of it.

    Raises:
        ValueError: outside a checkout, or if git does not answer.
    """
    try:
        changed = git("status", "--porcelain").splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"git says nothing about {paths.ROOT}, so nothing is stored: {error}") from None
    return changed[0] + (f" and {len(changed) - 1} more" if len(changed) > 1 else "") if changed else None
