"""How a command ends: the exit status and the one line of every error. SDTP_DEBUG=1 shows the traceback as well."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback

from ..errors import Failed, Terminated
from ..launcher import is_main

BAD_INPUT, FAILED, INTERRUPTED, TERMINATED = 2, 1, 130, 143
DEBUG = "SDTP_DEBUG"
# The machine has no more of it: nothing in the input is wrong.
EXHAUSTED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EPIPE}
NO_MEMORY = re.compile("out of memory|allocate memory", re.IGNORECASE)  # torch on a GPU, and on a CPU
LONGEST = 300  # characters of a message that was not written for users


def status(error: BaseException) -> int:
    """The exit status of a command that this error ended."""
    if isinstance(error, KeyboardInterrupt):
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    return BAD_INPUT if isinstance(error, (ValueError, OSError)) and not _exhausted(error) else FAILED


def message(error: BaseException) -> str:
    """What to tell the user, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, Terminated) else "interrupted"
    if isinstance(error, OSError) and error.strerror:
        return ": ".join([" ".join(error.strerror.split()), *([str(error.filename)] if error.filename else [])])
    if isinstance(error, (ValueError, OSError, Failed)):
        return text or type(error).__name__
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        return ": ".join(["out of memory", *([text[:LONGEST]] if text else [])])
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith(__package__.partition(".")[0]):
        return f"this needs the Python package {error.name}, which is not installed"
    named = ": ".join(filter(None, [type(error).__name__, text[:LONGEST]]))
    return f"{named} ({DEBUG}=1 shows where)"


def _exhausted(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in EXHAUSTED


def complain(error: BaseException, go_on: str | None = None) -> int:
    """Write the line to stderr; returns the exit status.

    Args:
        go_on: command that goes on with what was begun, told where that is worth a try.
    """
    stopped = isinstance(error, KeyboardInterrupt)
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if is_main() or not stopped:
        where = "" if is_main() else "one of the other processes: "
        line = f"sdtp: {message(error)}" if stopped else f"sdtp: error: {where}{message(error)}"
        unfinished = stopped or isinstance(error, Failed) or _exhausted(error)
        line = f"{line}; to go on: {go_on}" if go_on and unfinished else line
        print(line if not _bar_is_open() else f"\n{line}", file=sys.stderr)
    return status(error)


def _bar_is_open() -> bool:
    """Whether the last line on the screen is a progress bar that nobody closed, as it was interrupted in its making."""
    bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
    return any(True for _ in bars)


def flush() -> None:
    """Write out what was printed, as Python would do later and then could only complain about.

    Raises:
        OSError: if it cannot be written; what is left of it is dropped.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
