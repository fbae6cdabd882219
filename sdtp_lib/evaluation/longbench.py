"""A model on tasks (LongBench, the embedded ones, real ones) under one method: what `sdtp evaluate` runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import results
from ..data.chat import uses_template, warn_of_other_template
from ..data.tasks import expand_tasks
from ..models import provenance
from ..models.dtypes import resolve_dtype
from ..models.loading import check_pruner_named, load_pruner, load_with_tokenizer
from ..models.named_schedules import default_schedule, resolve_schedule
from ..models.placement import check_placement
from ..models.workers import Workers
from ..pruning.schedule import PruningSchedule
from ..scorers.pooling import Pool, pool_of
from ..scorers.token_pruner import check_seed
from ..text_files import check_apart
from .answers import check_batch_size, score_records, used_template
from .bootstrap import summarise
from .methods import Pruners, check_names, make_pruning
from .prompts import TEMPLATE_FILE, load_templates
from .sample_files import run_settings
from .sample_parts import open_samples
from .task_records import TaskRecords, records_digest


def evaluate(
    tasks: str | Sequence[str] = "longbench_mini",
    method: str = "sdtp",
    schedule: str | PruningSchedule | None = None,
    limit: int | None = 50,
    model: str | os.PathLike | None = None,
    pruner: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    *,
    batch_size: int = 8,
    seed: int = 0,
    data: str | os.PathLike | None = None,
    tokens: int | None = None,
    positions: str = "original",
    pool: Pool | None = None,
    window: int | None = None,
    chat_template: bool | None = None,
    dtype: str = "auto",
    device: str | torch.device | None = None,
    revision: str | None = None,
    profile: str | None = None,
    resume: bool = False,
    device_map: str | Mapping[str, int | str] | None = None,
    tensor_parallel: bool = False,
    any_model: bool = False,
) -> dict:
    """Score a model on tasks under one method: what `sdtp evaluate` runs.

    Under `accelerate launch` or torchrun the processes share the records, or with `tensor_parallel` the model; each
    returns the whole result.

    Args:
        tasks: `longbench_mini`, `longbench_dense`, `longbench`, dataset names, or several of them (see `expand_tasks`).
        method: `full` (no pruning), `sdtp` (the trained pruner), a name of `BASELINES`, or `oracle`.
        schedule: a schedule or its name, see `models.named_schedules.resolve_schedule`; None: the pruner's own, else
            the paper's. Without effect for `full`.
        limit: records per dataset; None takes all.
        model: `demo` (default), a folder, or a Hub name; see `load_model`.
        pruner, any_model: folder of the trained pruner, see `load_pruner`; the demo model has its own.
        output: JSON file to write; every sample goes to `<stem>.samples.jsonl` beside it as soon as its batch is done.
        seed: of the random scorer and of the bootstrap.
        data, tokens: where the records come from, and how long a prompt is, see `TaskRecords`; by default
            LongBench-mini is embedded, LongBench comes from the Hub, and real tasks are made of Python's documentation.
        positions: see `TokenPruning`.
        pool: see `make_pruning`.
        window: see `make_scorer`.
        chat_template: whether prompts go into the model's chat template, but for few-shot and code tasks, as LongBench
            does it; None: if the model has one. Its digest is recorded if any prompt went into it.
        revision: commit of the model on the Hub.
        profile: recorded with the result.
        resume: go on with the samples of an interrupted run of the same code and settings, instead of starting afresh;
            tasks and limit may differ, as samples are looked up one by one.
        device_map: lays the model over several devices, see `load_model`; not with several processes.
        tensor_parallel: splits the model over the processes, see `load_model`.

    Returns:
        What `summarise` gives, and `metadata`.

    Raises:
        ValueError: for an unknown task, method, schedule or model, `limit` or `batch_size` below 1, a `pool` or
            `window` that is none or that the method cannot take, bad records, a chat template that is asked for and not
            there, or `resume` without an output or with samples of other settings.
        FileNotFoundError: if data, model or pruner are not there. Nothing is written in either case.
    """
    check_placement(device_map, device, tensor_parallel)
    workers = Workers.of_launch(device, together=tensor_parallel)
    if device_map is not None and workers.count > 1:
        raise ValueError(
            "several processes cannot each lay the model over all devices; start one, or drop the device map"
        )
    names = expand_tasks(tasks)
    check_names(method, schedule, pruner, pool, window)
    if output is not None:
        results.check_output(output)
        results.check_output(Path(output).with_name(f"{Path(output).stem}.samples.jsonl"))
    elif resume:
        raise ValueError("resume needs an output, beside which the samples of the interrupted run are")
    check_batch_size(batch_size)
    check_seed(seed)
    if output is not None and data is not None:
        for written in (Path(output), Path(output).with_name(f"{Path(output).stem}.samples.jsonl")):
            check_apart(written, data, Path(data, TEMPLATE_FILE), *(Path(data, f"{name}.jsonl") for name in names))
    templates = load_templates(data)
    asked = TaskRecords(names, data, limit, tokens)
    model = "demo" if model is None else model
    if method == "sdtp":
        check_pruner_named(pruner, model)
    device = None if tensor_parallel else workers.device(device)
    dtype = workers.on_main(lambda: resolve_dtype(dtype, device))  # one for all processes
    loaded, tokenizer = load_with_tokenizer(model, dtype, device, revision, device_map, tensor_parallel)
    if schedule is None:
        schedule = default_schedule(loaded, pruner) if pruner is not None or method == "sdtp" else "paper"
    resolved = resolve_schedule("none" if method == "full" else schedule, loaded, pruner)
    scorer = load_pruner(pruner, loaded, resolved, seed, any_model) if method == "sdtp" else None
    chat = uses_template(tokenizer, chat_template)
    options = {
        "batch_size": batch_size, "seed": seed, "positions": positions, "pool": pool, "window": window,
        "templates": templates, "chat_template": chat, "workers": workers,
    }  # fmt: skip
    records = asked.build(loaded, tokenizer, templates, chat)
    if output is not None:
        options |= {"folder": Path(output).parent, "title": f"{Path(output).stem}.samples", "resume": resume}
        if not resume and workers.main:  # or a run that is killed would leave an old result beside new samples
            Path(output).unlink(missing_ok=True)
    summary, _ = measure(loaded, tokenizer, records, method, resolved, scorer, **options)
    summary["metadata"] = provenance.metadata(
        schedule=resolved, profile=profile, model=loaded, dtype=dtype, pruner=scorer, seeds={"seed": seed}, repeats=1,
        method=method, tasks=names, limit=limit, tokens=asked.tokens, batch_size=batch_size, positions=positions,
        pool=pool_of(scorer) if pool is None else pool, **({} if window is None else {"window": window}),
        records_digest=records_digest(records),
        chat_template=used_template(tokenizer, records, chat),
        **asked.origin,
    )  # fmt: skip
    if workers.count > 1:
        summary["metadata"]["tensor_parallel" if tensor_parallel else "workers"] = workers.count
    if output is not None:
        workers.on_main(lambda: results.write_json(output, summary))
    return summary


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: Sequence[dict], method: str,
    schedule: str | PruningSchedule = "paper", pruner: Pruners = None, *, seed: int = 0,
    positions: str = "original", pool: Pool | None = None, window: int | None = None, chat_template: bool | None = None,
    folder: str | os.PathLike | None = None, resume: bool = True,
    title: str | None = None, workers: Workers | None = None, **options,
) -> tuple[dict, list[dict]]:  # fmt: skip
    """One method on loaded records: (what `summarise` gives, the samples of `score_records`).

    Args:
        pruner: see `make_scorer`.
        pool: see `make_pruning`.
        window: see `make_scorer`.
        chat_template: see `evaluate`; a pruner that was trained on other prompts is warned of; where only some of the
            records go into the template, by those.
        folder: where each sample is written as soon as its batch is done, to `<title>.jsonl`; a run that was killed
            goes on there.
        resume: False starts that file anew, as after a change of the code, which the file cannot notice.
        title: what to call the run; by default its method.
        workers: the processes that share the records, see `score_records`; each of them gets the whole result.
        options: `batch_size` and `templates` of `score_records`.

    Raises:
        ValueError: for an unknown method or schedule, `sdtp` without a pruner, or a file in `folder` of other settings.
    """
    pruning = make_pruning(model, method, schedule, pruner, seed, positions, pool, tokenizer, window)
    file, title = None, title or method
    workers, template = workers or Workers(), used_template(tokenizer, records, chat_template)
    if workers.main and pruning:
        warn_of_other_template(pruning.scorer, template)
    if folder is not None:
        used, scorer = (pruning.schedule, pruning.scorer) if pruning else (resolve_schedule("none", model), None)
        settings = run_settings(model, method, used, scorer, seed=seed, positions=positions)
        if workers.together:  # each holds a part of the model, whose weights say which model it is
            settings["fingerprint"] = ".".join(workers.of_all(settings["fingerprint"]))
        file = open_samples(Path(folder) / f"{title}.jsonl", settings, resume, workers)
    options |= {"chat_template": chat_template, "title": title, "file": file, "workers": workers}
    samples = score_records(model, tokenizer, records, pruning, **options)
    return summarise(samples, seed), samples
