"""Peak resident memory of a prefill on a CPU, read in a fresh process: a used one keeps what earlier work left behind.

`python -m sdtp_lib.latency.memory TASK` is that process; TASK is JSON, and it prints one line of JSON per length.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from .. import paths
from ..errors import Failed
from ..models import loading as models
from ..models.dtypes import resolve_dtype
from ..models.named_schedules import resolve_schedule
from ..pruning.context import TokenPruning
from ..pruning.schedule import PRESET_NAMES, is_name
from .chunked_mlp import check_tokens, chunked_mlp
from .timing import timed_run

CLEAR = Path("/proc/self/clear_refs")  # Linux: writing 5 sets the high-water mark back to what is resident now
STATUS = Path("/proc/self/status")
# A peak of tensors, as the GPU's allocator tells it: freed blocks go back at once (glibc), and oneDNN keeps none of the
# kernels that it compiles for every length a layer sees, which for a small model weigh more than what pruning saves.
SETTINGS = {"MALLOC_MMAP_THRESHOLD_": "131072", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0", "LRU_CACHE_CAPACITY": "1"}
WARMUP_TOKENS = 64  # so that code and weights that are read on first use count as loaded


def resident_peaks(
    model: str | os.PathLike,
    config: str,
    lengths: Sequence[int],
    dtype: str = "auto",
    pruner: str | os.PathLike | None = None,
    revision: str | None = None,
    new_tokens: int = 1,
    seed: int = 0,
    chunk: int | None = None,
    any_model: bool = False,
) -> dict[int, dict]:
    """Most memory that a fresh process on the CPU, with as many threads as this one, holds during each prefill.

    The process loads the model once, then takes the lengths in ascending order; batch 1, logits of the last token only.
    Freed memory is given back, and the high-water mark reset, before each: building the model does not count.

    Args:
        model, dtype, pruner, revision, any_model: see `models.load_model` and `models.load_pruner`.
        config: a schedule, see `Plan`; `none` is the full model.
        lengths: of the prompts, in tokens; the prompts are seeded random ids.
        new_tokens: generated after the prompt; the first comes from the prefill itself.
        seed: of prompts and random weights.
        chunk: tokens for `chunked_mlp`; None leaves the MLPs whole.

    Returns:
        length -> `loaded_bytes` (resident before any prompt, model and pruner included), `peak_bytes` (high-water mark)
        and `kv_bytes` (cache after the prefill). Where the system has no such mark (macOS) all three are None and
        `reason` says so; where memory ran out, peak and cache are None and `error` says so, also for longer prompts.

    Raises:
        ValueError: for a bad argument that can be told before a process is started.
        Failed: if the process fails for another reason than memory; the message is its last line on stderr.
    """
    if not is_name(config):
        raise ValueError(f"unknown config {config!r}; known: {', '.join(PRESET_NAMES)}")
    dtype = resolve_dtype(dtype, "cpu")
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths must be 1 token or more, got {list(lengths)}")
    if new_tokens < 1:
        raise ValueError(f"new_tokens must be 1 or more, got {new_tokens}")
    if chunk is not None:
        check_tokens(chunk)
    lengths = sorted(set(lengths))
    found = {length: {"loaded_bytes": None, "peak_bytes": None, "kv_bytes": None} for length in lengths}
    if reason := unreadable():
        return {length: {**row, "reason": reason} for length, row in found.items()}
    task = dict(
        model=os.fspath(model), config=config, lengths=lengths, dtype=dtype, revision=revision, new_tokens=new_tokens,
        pruner=None if pruner is None else os.fspath(pruner), seed=seed, chunk=chunk, threads=torch.get_num_threads(),
        **({"any_model": True} if any_model else {}),
    )  # fmt: skip
    with tqdm(total=len(lengths), unit="length", desc=f"resident memory, {config}") as bar, _fresh(task) as rows:
        left = list(lengths)
        for row in rows:
            if "length" in row:
                left.remove(row["length"])
                found[row.pop("length")].update(row)
                bar.update()
            elif "error" in row:
                found[left[0]].update(row)
                for length in left[1:]:
                    found[length]["error"] = f"not run: the process was killed at {left[0]} tokens"
            else:
                for length in left:
                    found[length].update(row)
    return found


def unreadable() -> str | None:
    """Why a process here cannot read its own peak, or None if it can."""
    try:
        CLEAR.open("w").close()
        return None if "VmHWM:" in STATUS.read_text() else f"peak resident memory cannot be read: {STATUS} has no VmHWM"
    except OSError as error:
        return f"peak resident memory cannot be read: {error.filename}: {error.strerror}"


@contextmanager
def _fresh(task: dict) -> Iterator[Iterator[dict]]:
    """The rows that a process for this task prints, as it prints them; leaving the block ends it."""
    command = [sys.executable, "-m", __spec__.name, json.dumps(task)]
    places = [str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with TemporaryFile() as errors:  # no pipe: a full one would halt the process
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            env={**os.environ, **SETTINGS, "PYTHONPATH": os.pathsep.join(places)},
        )  # fmt: skip
        try:
            yield _rows(process, errors)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _rows(process: subprocess.Popen, errors: BinaryIO) -> Iterator[dict]:
    """What the process prints; at last, if it was killed, a row with an `error`."""
    for line in process.stdout:
        yield json.loads(line)
    status = process.wait()
    if status == -signal.SIGKILL:
        yield {"error": "killed, most likely out of memory"}
    elif status:
        errors.seek(0)
        lines = errors.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing on stderr")
        raise Failed(f"the fresh process that reads peak memory failed with status {status}: {said}")


def _measure(task: dict) -> None:
    """What the fresh process does: load, then one length after the other."""
    rows, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)  # whatever else is printed, also below Python, must not get between the rows
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this process goes, not its parent
    torch.set_num_threads(task["threads"])
    model, _ = models.load_model(task["model"], task["dtype"], "cpu", task["revision"], task["seed"])
    schedule = resolve_schedule(task["config"], model, task["pruner"])
    with ExitStack() as stack:
        if schedule.layers:
            pruner = models.load_pruner(task["pruner"], model, schedule, task["seed"], task.get("any_model", False))
            stack.enter_context(TokenPruning(schedule, pruner)(model))
        if task["chunk"]:
            stack.enter_context(chunked_mlp(model, task["chunk"]))
        _prefill(model, WARMUP_TOKENS, task)
        _trim()
        print(json.dumps({"loaded_bytes": _status("VmRSS")}), file=rows, flush=True)
        for length in task["lengths"]:
            _trim()
            CLEAR.write_text("5")
            try:
                row = {"kv_bytes": _prefill(model, length, task), "peak_bytes": _status("VmHWM")}
            except (MemoryError, RuntimeError) as error:
                if "memory" not in repr(error).lower():  # torch raises a RuntimeError for that too
                    raise
                row = {"error": ": ".join([type(error).__name__, *str(error).splitlines()[:1]])}
            print(json.dumps({"length": length, **row}), file=rows, flush=True)


def _prefill(model: PreTrainedModel, length: int, task: dict) -> int:
    """Run it; returns the bytes of its cache."""
    generator = torch.Generator().manual_seed(task["seed"])
    ids = torch.randint(model.config.vocab_size, (1, length), generator=generator)
    return timed_run(model, ids, task["new_tokens"]).kv_bytes


def _trim() -> None:
    """Give freed memory back to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _status(key: str) -> int:
    """A size in bytes from the status of this process."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    _measure(json.loads(sys.argv[1]))
