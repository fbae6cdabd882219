"""Which code makes a result: the repository's commit, and digests of the library and of a notebook."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Collection
from typing import Any

from .. import paths

# The runner takes these before it begins and hands them to the notebooks: files that are written meanwhile change
# nothing.
CODE, NOTEBOOK = "SDTP_CODE_VERSION", "SDTP_NOTEBOOK_DIGEST"


def code_version() -> dict[str, Any]:
    """`commit`, whether the library is `modified` since, `code_digest`; in a runner's notebook `notebook_digest` too.

    Commit and `modified` are None outside a checkout.
    """
    given, notebook = os.environ.get(CODE), os.environ.get(NOTEBOOK)
    found = json.loads(given) if given else {**_commit(), "code_digest": code_digest()}
    return {**found, **({"notebook_digest": notebook} if notebook else {})}


def code_digest(parts: Collection[str] = (".",)) -> str:
    """SHA-256 of the library's modules, of which a commit would not tell what was changed since.

    Args:
        parts: rooms and files that count, by their path in the library; by default all.

    Raises:
        FileNotFoundError: if one of them is not there.
    """
    digest, files = hashlib.sha256(), set()
    for place in (paths.PACKAGE / part for part in parts):
        if not place.exists():
            raise FileNotFoundError(f"the library has no {place}")
        files |= {place} if place.is_file() else {*place.rglob("*.py")}
    for file in sorted(files):
        digest.update(file.relative_to(paths.PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def git(*arguments: str, given: str | None = None, fine: Collection[int] = (0,)) -> str:
    """What git says about the repository.

    Args:
        given: its standard input.
        fine: exit statuses that are no failure.

    Raises:
        ValueError: outside a checkout; an installed copy must not be told of a repository around it.
        OSError, subprocess.CalledProcessError: if git is missing, or refuses.
    """
    if not (paths.ROOT / ".git").exists():
        raise ValueError(f"{paths.ROOT} is no git checkout")
    command = ["git", "-C", str(paths.ROOT), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode not in fine:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout.rstrip("\n")


def _commit() -> dict[str, Any]:
    try:
        modified = bool(git("status", "--porcelain", "--", paths.PACKAGE.name))
        return {"commit": git("rev-parse", "HEAD"), "modified": modified}
    except (ValueError, OSError, subprocess.CalledProcessError):
        return {"commit": None, "modified": None}
