"""What `sdtp tune` runs: both stages of the paper and a search of schedules, for a model and prompts of one's own."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data.chat import template_digest, uses_template
from ...data.pairs import CORPORA, training_pairs
from ...data.samples import Sample, encode_pairs
from ...models.code_version import code_digest
from ...models.dtypes import dtype_name
from ...models.identity import fingerprint
from ...models.loading import SHAPES, check_reads_text, load_with_tokenizer
from ...models.names import label, local_path
from ...pruning.schedule import PruningSchedule
from ...scorers.attention_pruner import UNTRAINED, AttentionPruner
from ...scorers.bm25 import BM25Scorer
from ...scorers.token_pruner import TokenPruner, check_seed, positive
from ...scorers.tuned_card import measured_table, scored_by, verdict
from ...scorers.use import USE, use
from ...text_files import check_apart
from ...training.saliency import tokenizer_digest
from ...training.simulated_pruning import check_trainable
from .candidates import Candidate, best_score, layers_of, schedules_for, search, ways_of
from .effort import FULL, QUICK, Effort
from .loss_file import LossFile
from .measurement import measure, sides_of
from .modules import cut_down, mark_part, train_modules
from .places import by_layer, look
from .record_file import TUNING, begin, check_free, end, finished, samples_digest
from .splits import split

SPARE = 3  # times the prompts wanted are drawn: some are too long, documents stay together
SHOWN = 6  # candidates of each FLOP ratio that are recorded
LOSSES_FILE = "losses.jsonl"


def tune(
    model: str | os.PathLike,
    data: str | os.PathLike,
    flop_ratio: Sequence[float],
    output: str | os.PathLike,
    *,
    quick: bool = False,
    resume: bool = False,
    seed: int = 0,
    max_tokens: int = 2048,
    chat_template: bool | None = None,
    dtype: str = "float32",
    device: str | None = None,
    revision: str | None = None,
) -> dict[str, Any]:
    """Train a pruner for a model, search schedules for it, measure both on held-out prompts, and write one folder.

    Args:
        model: see `models.load_model`; `dtype`, `device` and `revision` go there.
        data: prompts with answers, see `training.saliency.mark`.
        flop_ratio: FLOPs full / pruned of the prefill that schedules are searched for, each above 1, counted on this
            model at the data's median length; the first is the folder's default.
        output: gets pruner, schedules and model card, together at the end; until then unfinished work, in `work`.
        quick: QUICK in place of FULL: fewer prompts, epochs and candidates.
        resume: go on with the unfinished work of the very same tuning.
        seed: of the split, of the modules and their training.
        max_tokens: longer prompts with their answers are passed over.
        chat_template: see `training.saliency.mark`.

    Returns:
        The pruner's record: beside what `sdtp train` records its `use` (see `scorers.use`), `tuning` (settings and
        the split), `places` (ratio -> what one cut at each layer loses), `searched` (ratio -> the best candidates) and
        `measured`, see `measurement.measure`.

    Raises:
        ValueError, FileNotFoundError: for an unknown name, a number out of range, bad records or too few, a ratio that
            no schedule reaches, an output that holds something else; before anything is written.
        OSError: for an output that cannot be written, before a model is loaded.
    """
    ratios, output, effort = check_ratios(flop_ratio), Path(output), QUICK if quick else FULL
    check_seed(seed)
    positive("max_tokens", max_tokens)
    check_apart(output, None if data in CORPORA else data, None if model in SHAPES else local_path(model))
    check_free(output, resume)
    check_reads_text(model, "there is nothing to tune")
    pairs = training_pairs(data, SPARE * sum(effort.wanted.values()), seed)
    network, tokenizer = load_with_tokenizer(model, dtype, device, revision)
    parts, documents = split_pairs(pairs, tokenizer, max_tokens, chat_template, effort, seed)
    samples = [sample for part in parts.values() for sample in part]
    tokens = round(median(sample.prompt_tokens for sample in samples))
    check_trainable(network.dtype)
    schedules = {ratio: schedules_for(network, ratio, tokens, effort) for ratio in ratios}
    chat = template_digest(tokenizer, uses_template(tokenizer, chat_template))
    about = {
        "model": label(network.name_or_path), "fingerprint": fingerprint(network), "data": label(data),
        "data_digest": samples_digest(samples), "flop_ratios": ratios, "quick": quick, "seed": seed,
        "max_tokens": max_tokens, "dtype": dtype_name(network), "chat_template": chat,
        "tokenizer": tokenizer_digest(tokenizer), "device": network.device.type, "code_digest": code_digest(),
        "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__,
        "prompts": {name: len(part) for name, part in parts.items()}, "documents": documents, "median_tokens": tokens,
    }  # fmt: skip
    if (record := finished(output, about)) is None:
        work = begin(output, about)
        pruner = _tuned(network, parts, schedules, effort, about, BM25Scorer.of(tokenizer), work)
        pruner.save_pretrained(output)
        record = pruner.record
    end(output)
    return record


def report(record: Mapping[str, Any], output: str | os.PathLike) -> str:
    """What `tune` found, for a terminal."""
    table, names = measured_table(record["measured"]), ", ".join(record[USE]["schedules"])
    scored = f"{output}: {scored_by(record)}; schedules {names}; to be named by --pruner."
    return "\n\n".join([table, verdict(record), scored])


def check_ratios(ratios: Sequence[float]) -> list[float]:
    """The FLOP ratios asked for; ValueError unless there are some, all different, finite and above 1."""
    if not ratios or not all(1 < ratio < math.inf for ratio in ratios) or len({*ratios}) < len(ratios):
        raise ValueError(f"--flop-ratio takes different numbers above 1, got {' '.join(f'{x:g}' for x in ratios)}")
    return [*map(float, ratios)]


def split_pairs(
    pairs: Sequence[dict], tokenizer: PreTrainedTokenizerBase, max_tokens: int, chat_template: bool | None,
    effort: Effort, seed: int,
) -> tuple[dict[str, list[Sample]], int]:  # fmt: skip
    """(part -> its samples, how many documents they are about).

    Raises:
        ValueError: as `encode_pairs` and `split`.
    """
    pairs = pairs[: SPARE * sum(effort.wanted.values())]
    documents = {str(pair["id"]): pair["document"] for pair in pairs if "document" in pair}
    samples = encode_pairs(pairs, tokenizer, max_tokens, None, chat_template, warn=True)
    parts = split(samples, documents, effort.wanted, seed)
    taken = [sample for part in parts.values() for sample in part]
    return parts, len({documents.get(sample.id, sample.id) for sample in taken})


def _tuned(
    model: PreTrainedModel, parts: Mapping[str, Sequence[Sample]],
    schedules: Mapping[float, Mapping[str, PruningSchedule]], effort: Effort, about: dict, words: BM25Scorer,
    work: Path,
) -> TokenPruner:  # fmt: skip
    """The pruner to write, with its record.

    Args:
        words: what it is held to; it knows which tokens end a sentence.
    """
    losses, tokens, ends = LossFile(work / LOSSES_FILE), about["median_tokens"], words.ends
    places = look(model, parts["search"], [*schedules], tokens, effort, ends, losses)
    schedules = {
        ratio: {**each, **{place.place: place.schedule for place in places[ratio][: effort.places]}}
        for ratio, each in schedules.items()
    }
    preset = PruningSchedule.preset("paper", model.config.num_hidden_layers)
    layers = sorted(layers_of(schedules) | {*preset.layers})
    named = ("model", "fingerprint", "dtype", "tokenizer", "data", "seed", "max_tokens", "chat_template")
    marks = mark_part(model, parts["train"], layers, {name: about[name] for name in named}, work / "marks")
    scorers = train_modules(model, marks, effort.epochs, about["seed"], work)
    scorers |= {name: AttentionPruner(model.config.hidden_size, layers, **how) for name, how in UNTRAINED.items()}
    ways = ways_of(scorers, ends)
    found = {
        ratio: search(model, parts["search"], ways, ratio, each, effort, losses)
        for ratio, each in schedules.items()
    }  # fmt: skip
    chosen = best_score(found)
    sides = sides_of(model, chosen, found, ways, words)
    rows = measure(model, parts["held_out"], sides, tokens, effort.repeats, losses)
    return _pruner(chosen, found, scorers, {"places": by_layer(places), "measured": rows}, about, ends)


def _pruner(
    chosen: Mapping[float, Candidate], found: Mapping[float, Sequence[Candidate]], scorers: Mapping[str, TokenPruner],
    more: dict, about: dict, ends: tuple[int, ...],
) -> TokenPruner:  # fmt: skip
    """What was chosen, cut down to the layers that it needs, with the record that its card shows, `more` in it."""
    first, named = next(iter(chosen.values())), {f"{ratio:g}": each.schedule for ratio, each in chosen.items()}
    pruner, record = scorers[first.score], {name: about[name] for name in ("model", "fingerprint", "chat_template")}
    record |= {name: value for name, value in pruner.record.items() if name not in ("schedule", "marks")}
    record |= {"score": first.score, TUNING: about, USE: use(named, first.pool, ends)}
    record["searched"] = {f"{ratio:g}": [row.to_dict() for row in each[:SHOWN]] for ratio, each in found.items()}
    layers = {layer for schedule in named.values() for layer in schedule.layers}
    return cut_down(pruner, sorted(layers), {**record, **more})
