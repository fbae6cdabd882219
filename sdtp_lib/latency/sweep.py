"""Prefill and end-to-end latency of the full and the pruned model, side by side in one session (Table 2)."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from .. import paths, results
from ..models import loading as models
from ..models import provenance
from ..models.dtypes import resolve_dtype
from ..models.named_schedules import resolve_schedule, tuned_name
from ..models.placement import check_placement
from ..models.workers import Workers
from ..options import MODES
from ..pruning.context import TokenPruning
from ..pruning.schedule import PRESET_NAMES, PruningSchedule
from ..pruning.scoring import Scorer, check_scorer
from .files import read_latency
from .record import NOTES, latency_record, latency_table
from .sweep_memory import read_memory
from .sweep_plan import Plan, alternate
from .timing import Run

BASELINE = "none"
RESUME_KEYS = (
    "mode",
    "config",
    "seed",
    "repeats",
    "new_tokens",
    "threads",
    "chunk",
    "decode",
    "tensor_parallel",
)  # besides those of every result file


def profile(
    mode: str,
    config: str | None,
    lengths: Sequence[int],
    model: str = "scaled-mistral",
    pruner: str | os.PathLike | None = None,
    dtype: str = "auto",
    output: str | os.PathLike | None = None,
    device: str | None = None,
    revision: str | None = None,
    memory: bool = False,
    device_map: str | Mapping[str, int | str] | None = None,
    tensor_parallel: bool = False,
    any_model: bool = False,
    **options,
) -> dict:
    """Time one schedule, or with `config="none"` the full model alone; a result file is written where it is named.

    Args:
        mode, config, lengths, options: see `Plan`; config None: the schedule that the pruner was tuned for first.
        model, dtype, device, revision, device_map, tensor_parallel: see `models.load_model`. Of the processes that
            share a model the main one writes; seconds are its own, bytes those of all. A length that fails ends them,
            as it may have failed in one of them alone; the lengths before it are written.
        pruner, any_model: folder of a trained pruner, see `models.load_pruner`; a shape needs none.
        memory: on a CPU, read peak memory too, in fresh processes (`resident_peaks`); a GPU's sweep reads it anyway.
        output: result file, rewritten after each length; None writes none.

    Returns:
        The document: `{"metadata": ..., "results": {"4096": ...}}`.

    Raises:
        ValueError: for a bad argument, a pruner that does not fit or was trained on other weights, or a file that
            `resume` cannot continue.
        FileNotFoundError: for a missing model or pruner folder.
        OSError: for an output that cannot be written. None of these leaves a file behind.
    """
    config = tuned_name(pruner) if config is None else config
    plan = Plan(mode, [config], lengths, **options)
    if output is not None:
        _stored(Path(output), plan.resume, config)
    elif plan.resume:
        raise ValueError("resume needs an output, the file that the interrupted run wrote")
    if memory and (device_map is not None or tensor_parallel):
        raise ValueError(
            "peak memory of fresh processes is read on one CPU, not with a device map or several processes"
        )
    if config != BASELINE or pruner is not None:
        models.check_pruner_named(pruner, model)
    check_placement(device_map, device, tensor_parallel)
    workers = Workers.of_launch(together=True) if tensor_parallel else Workers()
    dtype = workers.on_main(lambda: resolve_dtype(dtype, device))  # one for all processes
    loaded, _ = models.load_model(model, dtype, device, revision, plan.seed, device_map, tensor_parallel)
    if workers.main:
        print(provenance.line(loaded))
    schedule = resolve_schedule(config, loaded, pruner)
    scorer = models.load_pruner(pruner, loaded, schedule, plan.seed, any_model) if schedule.layers else None
    same = dict(model=model, dtype=dtype, pruner=pruner, revision=revision, any_model=any_model) if memory else None
    files = {config: None if output is None else Path(output)}
    return _run(loaded, scorer, plan, {config: schedule}, files, same, workers)[config]


def sweep(
    model: PreTrainedModel,
    pruner: Scorer,
    configs: Sequence[str] = ("keep09", "keep08", "keep07"),
    lengths: Sequence[int] = (512, 1024, 2048),
    mode: str = "end2end",
    folder: str | os.PathLike | None = None,
    memory: Mapping | None = None,
    **options,
) -> dict[str, dict]:
    """Time several schedules against one shared baseline, all of them taking turns within each repeat.

    Writes `latency_results_baseline.json` and a `latency_results_<config>.json` for each config into `folder`.

    Args:
        model, pruner: loaded ones, see `models.load_model` and `models.load_pruner`.
        configs, lengths, mode, options: see `Plan`.
        folder: by default the results of the profile that `profile_name` names; with neither nothing is written.
        memory: on a CPU, read peak memory too: the `model`, `dtype`, `pruner` and `revision` by which a fresh process
            can load the same ones (`resident_peaks`).

    Returns:
        config -> document as written; the baseline's is under `none`.

    Raises:
        ValueError: as `profile`, before anything is written.
    """
    plan = Plan(mode, configs, lengths, **options)
    if folder is None and plan.profile_name is not None:
        folder = paths.results(plan.profile_name)
    files = {config: None if folder is None else Path(folder) / file_name(config) for config in (BASELINE, *configs)}
    schedules = {config: resolve_schedule(config, model) for config in configs}
    return _run(model, pruner, plan, schedules, files, memory, Workers())


def file_name(config: str) -> str:
    """What the results of a config are called in a profile's folder."""
    return f"latency_results_{'baseline' if config == BASELINE else config}.json"


def _run(
    model: PreTrainedModel, pruner: Scorer | None, plan: Plan, schedules: Mapping[str, PruningSchedule],
    files: dict[str, Path | None], memory: Mapping | None, workers: Workers,
) -> dict[str, dict]:  # fmt: skip
    """Time every length that is not done yet; all files are rewritten after each. Then memory, where asked for."""
    schedules = {BASELINE: resolve_schedule(BASELINE, model), **schedules}
    for schedule in schedules.values():
        check_scorer(pruner, model.config.hidden_size, schedule.layers)
    sides = {name: TokenPruning(schedule, pruner) if schedule.layers else None for name, schedule in schedules.items()}
    split = {"tensor_parallel": workers.count} if workers.count > 1 else {}
    documents = workers.on_main(lambda: {
        name: _document(path, {**_metadata(model, pruner, plan, name, schedules[name]), **split}, plan.resume)
        for name, path in files.items()
    })  # fmt: skip
    done = set.intersection(*({n for n, row in d["results"].items() if "error" not in row} for d in documents.values()))
    todo = [length for length in dict.fromkeys(plan.lengths) if str(length) not in done]
    runs_left = len(todo) * len(sides) * (plan.repeats + 1)
    with workers.bar(total=runs_left, unit="run", desc=f"{plan.mode} latency") as bar:
        for length in todo:
            bar.set_postfix_str(f"{length} tokens")
            try:
                runs = _bytes_of_all(alternate(model, sides, length, plan, bar), workers)
                records = {
                    name: latency_record(model.config, schedules[name], runs[BASELINE], runs[name]) for name in files
                }
            except Exception as error:  # a length that does not fit the memory must not cost the others
                if workers.count > 1:  # where it may fit the other processes, which would go on alone
                    raise
                message = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
                records = {name: {"error": message} for name in files}
            _free(model.device)
            for name in files:
                merged = {**documents[name]["results"], str(length): records[name]}
                documents[name]["results"] = dict(sorted(merged.items(), key=lambda item: int(item[0])))
            if workers.main:  # the table first: a full disk shall not hide it
                tqdm.write(latency_table(length, records))
                for name, path in files.items():
                    if path is not None:
                        results.write_json(path, documents[name])
    if memory and model.device.type == "cpu":
        read_memory(documents, files, {**memory, "seed": plan.seed, "chunk": plan.chunk})
    return documents


def _bytes_of_all(runs: dict[str, list[Run]], workers: Workers) -> dict[str, list[Run]]:
    """The runs with the bytes of all processes that hold the model between them; each process saw its own."""
    held = [(run.kv_bytes, run.peak_bytes) for each in runs.values() for run in each]
    sums = iter([[None if None in parts else sum(parts) for parts in zip(*of_run, strict=True)]
                 for of_run in zip(*workers.of_all(held), strict=True)])  # fmt: skip
    return {name: [replace(run, kv_bytes=kv, peak_bytes=peak) for run, (kv, peak) in zip(each, sums, strict=False)]
            for name, each in runs.items()}  # fmt: skip


def _metadata(
    model: PreTrainedModel, pruner: Scorer | None, plan: Plan, config: str, schedule: PruningSchedule
) -> dict:
    return provenance.metadata(
        profile=plan.profile_name,
        model=model,
        schedule=schedule,
        pruner=pruner if schedule.layers else None,
        mode=plan.mode,
        config=config,
        seed=plan.seed,
        repeats=plan.repeats,
        new_tokens=plan.new_tokens,
        chunk=plan.chunk,
        decode=plan.decode,
        notes=NOTES,
    )


def _document(path: Path | None, metadata: dict, resume: bool) -> dict:
    """An empty document, or the one to continue."""
    document = None if path is None else _stored(path, resume, metadata["config"])
    if document is None:
        return {"metadata": metadata, "results": {}}
    named = ("pruner",) if "pruner" in document["metadata"] else ()  # older files do not name theirs
    results.check_resumable(document["metadata"], metadata, (*results.RESUME_KEYS, *RESUME_KEYS, *named))
    return document


def _stored(path: Path, resume: bool, config: str) -> dict | None:
    """The document to continue, if there is one; refuses a file that cannot be written, or continued by any run."""
    results.check_output(path)
    if not (resume and path.exists()):
        return None
    try:
        return read_latency(path, (*PRESET_NAMES, config), MODES[0])
    except ValueError as error:
        raise ValueError(f"cannot resume: {error}; delete it to start over") from None


def _free(device: torch.device) -> None:
    """Give the memory of a length back, also of one that failed."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
