"""Several methods on the same records: what `summary.table1` shows, and the differences from the full model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..baselines import make_scorer
from ..schedule import PruningSchedule
from ..scorers import Scorer
from .longbench import measure
from .paired import paired_differences

TABLE1_METHODS = ("full", "sdtp", "sdtp-low", "random", "recency")


def compare(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    pruner: Scorer | None = None,
    methods: Sequence[str] = TABLE1_METHODS,
    schedules: Mapping[str, str | PruningSchedule] | None = None,
    **options,
) -> dict[str, dict]:
    """Several methods on the same records, for `table1`: method -> what `summarise` gives.

    Where "full" is among the methods, every other one's summary says under `against_full` what `paired_differences`
    finds on the same samples.

    Args:
        records: LongBench records, of any number of datasets.
        methods: names of METHODS; with `-low` behind them under the `low` preset instead of `paper`.
        schedules: method -> schedule, where it should be another one.
        options: of `measure`.

    Raises:
        ValueError: for an unknown method, before anything runs.
    """
    for method in methods:
        make_scorer(preset_of(method)[0], pruner)
    found, samples = {}, {}
    for method in methods:
        name, preset = preset_of(method)
        schedule = (schedules or {}).get(method, preset)
        found[method], samples[method] = measure(
            model, tokenizer, records, name, schedule, pruner, title=method, **options
        )
    for method in methods:
        if "full" in samples and method != "full":
            found[method]["against_full"] = paired_differences(samples["full"], samples[method], options.get("seed", 0))
    return found


def preset_of(method: str) -> tuple[str, str]:
    """A row's method and the name of its schedule: ("sdtp", "low") of "sdtp-low", ("sdtp", "paper") of "sdtp"."""
    return method.removesuffix("-low"), "low" if method.endswith("-low") else "paper"
