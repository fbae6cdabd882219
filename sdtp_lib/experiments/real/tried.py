"""Ways to cut a real model's prompts at equal FLOPs, tried on records that evaluate nothing: the loss of the answer.

`python -m sdtp_lib.experiments.real.tried results/smollm2 --profile smollm2 --model smollm2-135m --work FOLDER` writes
`tried.json` and `tried.md`; losses are kept in the working folder as they come, and not taken twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ... import results
from ...data.samples import Sample
from ...evaluation.answers import encode_record, in_chat
from ...evaluation.methods import make_scorer, read_row
from ...evaluation.paired_differences import difference_cell
from ...evaluation.prompts import encode_answer
from ...latency.flop_estimates import flop_ratio
from ...markdown import Markdown
from ...models.loading import load_pruner, load_with_tokenizer
from ...models.shipped_pruners import DESIGNS
from ...pruning.context import TokenPruning
from ...pruning.schedule import PruningSchedule
from ...results import markdown_table
from ...scorers.pooling import SENTENCES, Pool, pooled, pooling
from ...scorers.sentences import sentence_ends
from ..result_file import write
from ..schedule_search import LOCAL, gentlest, last_tokens
from ..tuning.loss_file import LossFile
from .full_passes import SEED, TASKS, study_parser, tuning_records


@dataclass(frozen=True)
class Way:
    """One way to cut.

    Attributes:
        score: a method, or one of `DESIGNS` that is shipped for the model.
        pool: how its scores are pooled.
        ratio: FLOPs full / pruned; the last cut keeps as many tokens as that allows.
        layers: of the cuts.
        earlier: keep ratios of all cuts but the last.
        local: see `schedule_search.last_tokens`.
    """

    score: str
    pool: Pool
    ratio: float
    layers: tuple[int, ...]
    earlier: tuple[float, ...] = ()
    local: int | None = None

    def schedule(self, layers: int, config: PretrainedConfig, tokens: int) -> PruningSchedule:
        """Its cuts on a model of `layers` layers, FLOPs counted at prompts of `tokens` tokens.

        Raises:
            ValueError: if the earlier cuts leave too many tokens for its FLOP ratio.
        """
        def cut(last: float) -> PruningSchedule:
            return PruningSchedule(self.layers, (*self.earlier, round(last, 3)), **last_tokens(self.local))

        schedule = gentlest(cut, self.ratio, layers, config, tokens, least=0.001)
        if schedule is None:
            after = f"no last cut of {self.layers} after {self.earlier}"
            raise ValueError(f"{after} reaches a FLOP ratio of {self.ratio:g}")
        return schedule


FREE, FAST, FASTEST = 1.63, 2.25, 3.0
AT = ((15,), (8,), (7,))  # where each of the three ratios is cut by default: SmolLM2-135M reads at these layers


def ways(
    free: Sequence[int], fast: Sequence[int], fastest: Sequence[int], only: tuple[str, Pool] | None = None
) -> tuple[Way, ...]:
    """Each score at every FLOP ratio at the same single cuts; then in two cuts, and with a tenth of all left uncut.

    Args:
        free, fast, fastest: layers of the single cuts of each ratio; what has two cuts has them at the first of each.
        only: a score and its pooling, whose single cuts are all that is tried.
    """
    single = [(ratio, layer) for ratio, layers in ((FREE, free), (FAST, fast), (FASTEST, fastest)) for layer in layers]
    if only:
        return tuple(Way(*only, ratio, (layer,), local=LOCAL) for ratio, layer in single)
    scores = (("strongest", SENTENCES), ("strongest", 13), ("attention", 7))
    fast_then_free, fastest_then_free = (fast[0], free[0]), (fastest[0], free[0])
    return (
        *(Way(*score, ratio, (layer,), local=LOCAL) for score, (ratio, layer) in product(scores, single)),
        Way("strongest", SENTENCES, FREE, free[:1]),
        Way("attention", 7, FREE, free[:1]),
        Way("strongest", SENTENCES, FAST, fast_then_free, (0.5,), LOCAL),
        Way("strongest", 13, FAST, fast_then_free, (0.5,), LOCAL),
        Way("attention", 7, FAST, fast_then_free, (0.5,), LOCAL),
        Way("strongest", SENTENCES, FASTEST, fastest_then_free, (0.2,), LOCAL),
        Way("attention", 7, FASTEST, fastest_then_free, (0.2,), LOCAL),
    )


def try_ways(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: Mapping[str, Sequence[dict]],
    some_ways: Sequence[Way], tokens: int, work: Path,
) -> list[dict[str, Any]]:  # fmt: skip
    """Each way on each task's records, beside the full model.

    Args:
        records: task -> records.
        some_ways: to try.
        tokens: of their prompts, at which FLOPs are counted.
        work: folder of the losses.

    Returns:
        The full model's row, then the others, by FLOPs and loss: `score`, `pool`, `asked` (the FLOP ratio), `schedule`,
        `flops` (full / pruned, counted) and for each task `nll` (nats per token of the answer, mean), `n` and, but for
        the full model, `above` (the paired difference to it: `difference`, `ci95`, `verdict`).
    """
    layers, config, ends = model.config.num_hidden_layers, model.config, sentence_ends(tokenizer)
    samples = {task: [as_sample(model, tokenizer, record) for record in some] for task, some in records.items()}
    losses = LossFile(work / "losses.jsonl")

    def of(name: str, pruning: TokenPruning | None) -> dict[str, list[float]]:
        every = {task: losses.take(model, {name: pruning}, some, f"{name}, {task}") for task, some in samples.items()}
        return {task: found[name] for task, found in every.items()}

    full, rows = of("full", None), []
    for way in some_ways:
        schedule = way.schedule(layers, config, tokens)
        scorer = pooled(_scorer(way.score, model, schedule), way.pool, ends)
        found = of(f"{way.score}{pooling(way.pool)}, {schedule}", TokenPruning(schedule, scorer))
        row = {"score": way.score, "pool": way.pool, "asked": way.ratio, "schedule": schedule.to_dict()}
        row["flops"] = round(flop_ratio(schedule, layers, config, tokens), 3)
        rows.append(row | {task: _cell(found[task], full[task]) for task in records})
    rows.sort(key=lambda row: (row["asked"], sum(row[task]["above"]["difference"] for task in records)))
    first = {"score": "full", "pool": 1, "asked": 1.0, "schedule": None, "flops": 1.0}
    return [first | {task: _cell(full[task]) for task in records}, *rows]


def tried_table(rows: Sequence[Mapping[str, Any]]) -> Markdown:
    """The rows as a table: cuts, and the loss above the full model's."""
    table = [
        {"full / pruned FLOPs": f"{row['flops']:.2f}", "score": f"{row['score']}{pooling(row['pool'])}",
         "cuts": cuts(row["schedule"]), **{f"NLL, {task}": _shown(row[task]) for task in TASKS}}
        for row in rows
    ]  # fmt: skip
    return Markdown(markdown_table(table))


def cuts(schedule: Mapping[str, Any] | None) -> str:
    """A schedule's cuts in words: `layer 8 to 50%, layer 15 to 36%; 48 last tokens stay`."""
    if schedule is None:
        return "none"
    plain = PruningSchedule(**schedule)
    shares = {layer: ratio for layer, ratio in zip(plain.layers, plain.ratios, strict=True) if ratio < 1}
    each = ", ".join(f"layer {layer} to {ratio:.0%}" for layer, ratio in shares.items())
    return each if plain.local_ratio else f"{each}; {plain.min_local_tokens} last tokens stay"


def as_sample(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, record: dict) -> Sample:
    """A record with its right answer, as token ids in the form in which it is evaluated."""
    text, ids, _ = encode_record(model, tokenizer, record)
    answer = encode_answer(tokenizer, record, text, in_chat(tokenizer, record))
    return Sample(record["_id"], torch.tensor([*ids, *answer]), len(ids))


def _scorer(name: str, model: PreTrainedModel, schedule: PruningSchedule):
    return load_pruner(name, model, schedule) if name in DESIGNS else make_scorer(name)


def _cell(losses: Sequence[float], full: Sequence[float] | None = None) -> dict[str, Any]:
    cell = {"nll": round(sum(losses) / len(losses), 4), "n": len(losses)}
    if full is not None:
        found = difference_cell([[own - other for own, other in zip(losses, full, strict=True)]])
        cell["above"] = {key: found[key] for key in ("difference", "ci95", "verdict")}
    return cell


def _shown(cell: Mapping[str, Any]) -> str:
    if "above" not in cell:
        return f"{cell['nll']:.2f}"
    low, high = cell["above"]["ci95"]
    return f"{cell['nll']:.2f}; {cell['above']['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _layers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _score(text: str) -> tuple[str, Pool]:
    row = read_row(text)
    return row.method, row.pool or 1


def main() -> None:
    parser = study_parser("Try ways to cut a real model's prompts.", "tried", 12)
    places = "layers of the single cuts at the gentlest FLOP ratio, the middle and the hardest; one or more, as 7,3"
    parser.add_argument("--at", type=_layers, nargs=3, metavar="LAYERS", default=AT, help=places)
    only = "try the single cuts of this score and pooling alone, such as strongest-sentences"
    parser.add_argument("--only", type=_score, default=None, metavar="SCORE", help=only)
    given = parser.parse_args()
    model, tokenizer = load_with_tokenizer(given.model, "float32")
    asked = {"source": given.source, "tokens": given.tokens, "limit": given.limit}
    records = {task: tuning_records(model, tokenizer, task, **asked) for task in TASKS}
    work = Path(given.work)
    work.mkdir(parents=True, exist_ok=True)
    rows = try_ways(model, tokenizer, records, ways(*given.at, given.only), given.tokens, work)
    about = {"tokens": given.tokens, "limit": given.limit, "source": given.source, "seeds": {"records": SEED}}
    write(rows, Path(given.output, "tried.json"), model, given.profile, **about)
    which = f"{given.limit} records of each task that evaluate nothing, at {given.tokens:,} tokens"
    head = f"# Ways to cut, tried on {which}\n\n"
    results.write_text(os.path.join(given.output, "tried.md"), f"{head}{tried_table(rows)}\n")


if __name__ == "__main__":
    main()
