"""The experiments of the notebooks: a loaded model in, the data of one result file out (see ledger.RESULT_FILES)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import paper_numbers, results
from .baselines import RecencyScorer
from .data import longbench_records
from .evaluation.answers import score_records
from .evaluation.compare import compare
from .evaluation.longbench import resolve_schedule, source_of
from .evaluation.metrics import expand_tasks
from .evaluation.prompts import build_prompt
from .paper_numbers import ABLATIONS, CATEGORIES
from .pruning import TokenPruning
from .report import Markdown, latency_table, paper_ours
from .saliency import salient_share, token_saliency, training_pairs
from .samples import Batch, Sample, encode_pairs
from .schedule import PruningSchedule
from .scorers import Scorer
from .survival import last_layers

HIDE = 1e-9  # a keep ratio that leaves the forced tokens alone


def records_of(tasks: str | Sequence[str], limit: int | None, source: str | None = None) -> list[dict]:
    """LongBench records of some tasks, at most `limit` of each; `source` None: the embedded set or the Hub's copy."""
    names = expand_tasks(tasks)
    return [record for name in names for record in longbench_records(name, source_of(name, source), limit)]


def mark_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    count: int,
    data: str = "demo",
    seed: int = 0,
    max_tokens: int = 1100,
) -> list[Sample]:
    """`count` prompts of a corpus with their saliency at every layer, (layers, prompt_tokens) each."""
    marked, layers = [], range(model.config.num_hidden_layers)
    pairs = training_pairs(data, 8 * count, seed)
    for sample in tqdm(encode_pairs(pairs, tokenizer, max_tokens, count), desc="mark", unit="prompt"):
        batch = Batch.of([sample], device=model.device)
        saliency = token_saliency(model, batch.input_ids, batch.attention_mask, batch.answer_mask, layers)[0]
        marked.append(replace(sample, saliency=saliency[:, batch.prompt_mask[0]].cpu()))
    return marked


def saliency_example(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> dict:
    """Fig. 1's data of one marked prompt: token texts, layers and saliency (layers, tokens)."""
    tokens = tokenizer.convert_ids_to_tokens(sample.input_ids[: sample.prompt_tokens].tolist())
    return {"tokens": tokens, "layers": list(range(len(sample.saliency))), "saliency": sample.saliency.tolist()}


def salient_shares(samples: Sequence[Sample], threshold: float = 0.1) -> dict:
    """Fig. 2's data: per layer the mean share of tokens above `threshold` of the layer's maximum."""
    share = torch.stack([salient_share(sample.saliency, threshold) for sample in samples]).mean(0)
    return {"layers": list(range(len(share))), "share": share.tolist()}


def layer_of_reading(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str], limit: int
) -> dict:
    """Score (0 to 100) when the whole context is hidden from layer l on, for every l but 0.

    Hiding is a stage at l that keeps the question alone: where the score is as good as the full model's, the answer has
    been read below l.
    """
    records = records_of(tasks, limit)
    tail = max(
        len(tokenizer(build_prompt(r))["input_ids"]) - len(tokenizer(r["context"])["input_ids"]) for r in records
    )
    layers, accuracy = list(range(1, model.config.num_hidden_layers)), []
    for layer in layers:
        schedule = PruningSchedule((layer,), HIDE, sink_tokens=0, local_ratio=0.0, min_local_tokens=tail)
        samples = score_records(
            model, tokenizer, records, TokenPruning(schedule, RecencyScorer()), title=f"layer {layer}"
        )
        accuracy.append(100 * sum(sample["score"] for sample in samples) / len(samples))
    full = score_records(model, tokenizer, records, title="full")
    types = getattr(model.config, "layer_types", None) or []
    return {
        "layers": layers, "accuracy": accuracy, "baseline": 100 * sum(s["score"] for s in full) / len(full),
        "local_layers": sum(kind == "sliding_attention" for kind in types), "hidden_from_the_end": tail,
    }  # fmt: skip


def curves(history: Sequence[dict], layers: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Loss curves of a training history: by term (summed over stages), and of the stages (MSE + ranking) by layer."""
    terms = [name for name in ("mse", "rank", "cls", "rate", "distill") if any(name in row for row in history)]
    total = {name: [_total(row.get(name)) for row in history] for name in terms}
    index = pd.Index([row["step"] for row in history], name="step")
    stages = [
        [sum(row[name][i] for name in ("mse", "rank") if name in row) for i in range(len(layers))] for row in history
    ]
    return pd.DataFrame(total, index=index, dtype=float), pd.DataFrame(stages, index=index, columns=list(layers))


def columns(frame: pd.DataFrame) -> dict[str, list]:
    """A table as JSON: column -> values, the index first; None where a value is missing."""
    frame = frame.reset_index()
    return {str(name): frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame}


def _total(value: float | list[float] | None) -> float | None:
    return sum(value) if isinstance(value, list) else value


def inspect_prompt(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, pruner: Scorer, schedule: str,
    log: str | os.PathLike, new_tokens: int = 24,
) -> dict:  # fmt: skip
    """What pruning does to one prompt: texts, the last layer of every token, KV lengths, and both answers.

    Args:
        text: the prompt.
        log: JSONL file of the prune log; written anew.
    """
    inputs = tokenizer(text, return_tensors="pt").to(model.device)
    tokens, stages = inputs["input_ids"].shape[1], resolve_schedule(schedule, model)
    partial = Path(f"{log}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    options = {"max_new_tokens": new_tokens, "do_sample": False}
    try:
        with torch.inference_mode():
            full = model.generate(**inputs, **options)
            with TokenPruning(stages, pruner, log=partial)(model) as trace:
                pruned = model.generate(**inputs, **options)
        os.replace(partial, log)
    finally:
        partial.unlink(missing_ok=True)
    layers = model.config.num_hidden_layers
    return {
        "tokens": tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()),
        "last_layer": last_layers(trace.kept_positions, tokens, layers),
        "kv_lengths": trace.kv_lengths, "scheduled": stages.lengths(tokens, layers),
        "answers": {name: tokenizer.decode(out[0, tokens:], skip_special_tokens=True).strip()
                    for name, out in {"full": full, "pruned": pruned}.items()},
    }  # fmt: skip


def log_table(rows: Sequence[dict]) -> Markdown:
    """The prune log of one prompt as a table."""
    columns = ("layer", "tokens_before", "k", "kept", "pruned", "ratio", "ties_decided")
    return Markdown(results.markdown_table([{name: row[name] for name in columns} for row in rows]))


def longbench(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: str, source: str | None, limit: int | None,
    pruner: Scorer, methods: Sequence[str], **options,
) -> dict[str, dict]:  # fmt: skip
    """Table 1's data: method -> summary, on the same records; `source` None: the embedded set or the Hub's copy.

    Args:
        options: of `evaluation.compare.compare`.
    """
    return compare(model, tokenizer, records_of(tasks, limit, source), pruner, methods, **options)


def losses_against_paper(found: dict[str, dict]) -> Markdown:
    """Points lost against the full model, by category and on average: the paper's and ours."""
    rows = []
    for method in (name for name in found if name != "full"):
        theirs = paper_numbers.TABLE1.get(paper_numbers.TABLE1_NAMES.get(method))
        for column in (*CATEGORIES, "AVG"):
            both = (found[name] for name in ("full", method))
            full, ours = (row["average"] if column == "AVG" else row["categories"][column]["score"] for row in both)
            paper = theirs[column] - paper_numbers.TABLE1["original"][column] if theirs else None
            rows.append((f"{method}, {column}", paper, ours - full))
    return paper_ours(rows)


def ablation_against_paper(found: dict[str, dict]) -> Markdown:
    """Points lost by leaving losses out, on average over LongBench's categories: Table 5's and ours."""
    full = ABLATIONS[0]
    mean = {name: sum(row.values()) / len(row) for name, row in paper_numbers.TABLE5.items()}
    rows = [(name, mean[name] - mean[full], found[name]["average"] - found[full]["average"]) for name in ABLATIONS[1:]]
    return paper_ours(rows)


def latency_report(folder: Path, mode: str, lengths: Sequence[int], output: Path) -> Markdown:
    """Table 2 of the four latency files in `folder`, written to `output` and shown."""
    files = [folder / f"latency_results_{name}.json" for name in ("baseline", "keep09", "keep08", "keep07")]
    latency_table(*files, mode=mode, lengths=lengths, output=output)
    return Markdown(output.read_text())


def speedup_against_paper(document: dict, mode: str) -> Markdown:
    """The longest prompt timed here beside the paper's shortest: speedups, FLOPs saved, and the KV cache's."""
    length, ours = max(
        ((int(n), row) for n, row in document["results"].items() if "error" not in row), key=lambda x: x[0]
    )
    shortest = min(paper_numbers.TABLE2)
    theirs = paper_numbers.TABLE2[shortest]
    saved = 1 - theirs["prefill TFLOPs SDTP"] / theirs["prefill TFLOPs full"]
    rows = [
        ("prompt tokens", shortest, length, 0),
        ("prefill speedup", theirs["prefill x"], ours["speedup"]["prefill"]),
        ("prefill FLOPs saved", saved, 1 - ours["flops"]["ratio"]),
    ]
    if mode == "end2end":
        rows.append(("end-to-end speedup", theirs["end2end x"], ours["speedup"]["total"]))
        rows.append(("KV cache saved, all layers", None, ours["kv_reduction"]))
    return paper_ours(rows)


def write(data: dict, path: str | os.PathLike, model: PreTrainedModel, profile: str, **details) -> None:
    """A result file `{"metadata", "data"}`, whole or not at all."""
    results.write_json(path, {"metadata": results.metadata(profile=profile, model=model, **details), "data": data})
