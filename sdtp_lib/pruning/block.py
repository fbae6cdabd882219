"""Whether a `with pruning(model)` block is open, and which threads are at work in it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

NAME = "sdtp_block"  # on a cache, from its first cut on: the block that it is in
LEFT = "the TokenPruning block was left while the model was still in use; leave it when all that runs inside has ended"


class Block:
    """One `with` block.

    Copies of what refers to it refer to the very same block; a pickled one wakes up closed.
    """

    def __init__(self, open: bool = True):
        self.open = open
        self._passes: Counter[threading.Thread] = Counter()  # decoder passes under way; a scorer may run one within one
        self._calls: Counter[threading.Thread] = Counter()  # calls of `generate` whose first pass is still to come
        self._changed = threading.Condition()

    def __deepcopy__(self, memo: dict) -> Block:
        return self

    def __reduce__(self) -> tuple:
        return Block, (False,)

    def check(self) -> None:
        """Raise ValueError once the block was left."""
        if not self.open:
            raise ValueError(LEFT)

    @property
    def in_pass(self) -> bool:
        """Whether this thread is inside a pass of the decoder."""
        return self._passes[threading.current_thread()] > 0

    @contextmanager
    def a_pass(self) -> Iterator[None]:
        """A pass of the decoder in this thread; ValueError once the block was left."""
        with self._counted(self._passes):
            self._drop(self._calls)
            yield

    @contextmanager
    def a_call(self) -> Iterator[None]:
        """A call of `generate` in this thread; ValueError once the block was left."""
        with self._counted(self._calls):
            yield

    def close(self) -> None:
        """Let nothing further begin, and wait for other threads' passes: without its hooks one would go on wrong.

        A call that came before is waited for too, until it finds out, at its first pass, that it came too late.
        """
        here = threading.current_thread()
        with self._changed:
            self.open = False
            self._changed.wait_for(lambda: not ({*+self._passes} | {*+self._calls}) - {here})

    @contextmanager
    def _counted(self, threads: Counter[threading.Thread]) -> Iterator[None]:
        with self._changed:
            self.check()
            threads[threading.current_thread()] += 1
        try:
            yield
        finally:
            self._drop(threads)

    def _drop(self, threads: Counter[threading.Thread]) -> None:
        with self._changed:
            threads.subtract([threading.current_thread()])
            threads += Counter()  # without those at 0 or below
            self._changed.notify_all()
