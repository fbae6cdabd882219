"""Several methods on the same records: what `bootstrap.table1` shows, and the differences from the full model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..pruning.schedule import PruningSchedule
from .answers import encode_record
from .bootstrap import summarise
from .llmlingua import Shorten
from .longbench import measure
from .methods import Pruners, make_pruning, read_row
from .paired_differences import paired_differences

TABLE1_METHODS = ("full", "sdtp", "sdtp-low", "random", "recency")


def compare(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    pruner: Pruners = None,
    methods: Sequence[str] = TABLE1_METHODS,
    schedules: Mapping[str, str | PruningSchedule] | None = None,
    shorten: Mapping[str, Shorten] | None = None,
    **options,
) -> dict[str, dict]:
    """Several methods on the same records, for `table1`: method -> what `summarise` gives.

    Where "full" is among the methods, every other one's summary says under `against_full` what `paired_differences`
    finds on the same samples.

    Args:
        records: LongBench records, of any number of datasets.
        pruner: see `make_scorer`.
        methods: names of METHODS, or those of the pruners; with what is behind them, see `methods.read_row`.
        schedules: method -> schedule, where it should be another one.
        shorten: further methods by name that shorten the records for the full model, as `llmlingua.at_budget` gives.
        options: of `measure`.

    Raises:
        ValueError: as `make_pruning`, before anything runs.
    """
    rows = {method: read_row(method) for method in methods}
    schedules = {method: row.schedule for method, row in rows.items()} | dict(schedules or {})
    for method, row in rows.items():
        make_pruning(model, row.method, schedules[method], pruner, pool=row.pool, tokenizer=tokenizer)
    found, samples = {}, {}
    for method, row in rows.items():
        found[method], samples[method] = measure(
            model, tokenizer, records, row.method, schedules[method], pruner, pool=row.pool, title=method, **options
        )
    for method, cut in (shorten or {}).items():
        found[method], samples[method] = _shortened(model, tokenizer, records, cut, method, **options)
    for method in found:
        if "full" in samples and method != "full":
            found[method]["against_full"] = paired_differences(samples["full"], samples[method], options.get("seed", 0))
    return found


def _shortened(
    model, tokenizer, records: Sequence[dict], shorten: Shorten, title: str, **options
) -> tuple[dict, list[dict]]:
    """As `measure`, on shortened records; the prompts count with the tokens that they had before."""
    short, _ = shorten(records)
    _, samples = measure(model, tokenizer, short, "full", "none", title=title, **options)
    asked = {name: options.get(name) for name in ("templates", "chat_template")}
    lengths = [len(encode_record(model, tokenizer, record, **asked)[1]) for record in records]
    samples = [{**sample, "prompt_tokens": length} for sample, length in zip(samples, lengths, strict=True)]
    return summarise(samples, options.get("seed", 0)), samples
