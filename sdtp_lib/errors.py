"""How work ends that was asked for rightly: it failed, or was told to stop by Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Failed(RuntimeError):
    """Work that was begun and failed for a reason that is no bug; the message is one for users."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came; it ends a command as Ctrl-C does, but for the exit status."""


@contextmanager
def sigterm_stops() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`, so that what is to be put away or written is, as after Ctrl-C."""

    def stop(number, frame):
        raise Terminated

    with _handled({signal.SIGTERM: stop}):
        yield


@contextmanager
def stopping_waits() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM wait for the end of the block: for steps that must be done wholly or not at all."""
    came: list[int] = []
    try:
        with _handled(dict.fromkeys(STOPPING, lambda number, frame: came.append(number))):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


@contextmanager
def _handled(handlers: dict) -> Iterator[None]:
    """Other signal handlers inside; no change outside the main thread, which alone may handle signals."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()} if here else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set by Python
