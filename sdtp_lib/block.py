"""Whether a `with pruning(model)` block is open, and which threads are inside a forward pass of it."""

from __future__ import annotations

import threading

LEFT = "the TokenPruning block was left while the model was still in use; leave it when all that runs inside has ended"


class Block:
    """One `with` block.

    Copies of what refers to it refer to the very same block; a pickled one wakes up closed.
    """

    def __init__(self, open: bool = True):
        self.open = open
        self._running: set[threading.Thread] = set()
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
    def here(self) -> bool:
        """Whether what this thread does now is inside: the block is open, or waits for this thread's pass to end."""
        return self.open or threading.current_thread() in self._running

    def begin_pass(self) -> None:
        """This thread starts a forward pass; ValueError once the block was left."""
        with self._changed:
            self.check()
            self._running.add(threading.current_thread())

    def end_pass(self) -> None:
        """This thread's forward pass has ended, well or not."""
        with self._changed:
            self._running.discard(threading.current_thread())
            self._changed.notify_all()

    def close(self) -> None:
        """Let no further pass begin, and wait for those of other threads, which need their hooks to the end."""
        with self._changed:
            self.open = False
            here = threading.current_thread()
            while any(thread.is_alive() for thread in self._running if thread is not here):
                self._changed.wait(timeout=0.1)  # a thread may die without a word
