"""Whether the harness wrote its results: it logs what hinders it, and goes on as if nothing had happened."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import Failed

LOGGERS = ("lm_eval.loggers.evaluation_tracker", "lm_eval._cli.run")  # those that say so
FAILURES = ("Could not", "Logging to")  # how they begin


@contextmanager
def saving(output: str | None) -> Iterator[None]:
    """Look after a run that writes to `output`, the harness's `--output_path`; None writes nothing.

    Raises:
        Failed: at the end, if results or samples were not written, or not handed on as asked; what was written
            in part is deleted.
    """
    watch, before = _Watch(), _files(output)
    loggers = [(logging.getLogger(name), logging.getLogger(name).level) for name in LOGGERS]
    for logger, _ in loggers:
        logger.addHandler(watch)
        logger.setLevel(logging.INFO)  # or LMEVAL_LOG_LEVEL=ERROR would hide the reason
    try:
        yield
    finally:
        for logger, level in loggers:
            logger.removeHandler(watch)
            logger.setLevel(level)
    written = _files(output) - before
    if watch.failures or output is not None and not any(path.suffix == ".json" for path in written):
        for path in [path for path in written if not _is_whole(path)]:
            path.unlink()
        reasons = "; ".join(watch.failures) or "the harness wrote no file"
        raise Failed(f"results were not written to {output}: {reasons}")


class _Watch(logging.Handler):
    """Keeps what was logged of failures, each with the line that follows it, which holds the reason."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.failures: list[str] = []
        self._reason_follows = False

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if self._reason_follows:
            self.failures[-1] += f" ({text})"
        is_failure = text.startswith(FAILURES)
        self._reason_follows = is_failure and record.levelno >= logging.WARNING
        if is_failure:
            self.failures.append(text)


def _files(output: str | None) -> set[Path]:
    """Results and samples where a run puts them."""
    if output is None:
        return set()
    path = Path(output)
    if path.suffix == ".json":
        return {*path.parent.glob(f"{path.stem}_*.json"), *path.parent.glob("samples_*.jsonl")}
    return {*path.glob("*/results_*.json"), *path.glob("*/samples_*.jsonl")}


def _is_whole(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
        for row in text.split("\n")[:-1] if path.suffix == ".jsonl" else [text]:
            json.loads(row)
    except ValueError:
        return False
    return path.suffix == ".json" or text.endswith("\n")
