"""The claims of the paper, one by one: its number, what answers it here, and the command for its own setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import paper
from ..latency.files import PREFILL_FOLDER
from . import counted_claims as counted
from . import quality_readers as quality
from . import real_readers as real
from . import saliency_readers as saliency
from . import speed_readers as speed
from .findings import Finding, Reader
from .quality_readers import CLOSE, FULL, LOW, PRUNED, RANDOM
from .real_readers import LOW_MODULE, MODULE, Arm

Source = tuple[str, Reader]  # stem of a result file, and what reads the claim's answer in it


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        where, claim, paper: what the paper says, and where.
        command: what would test it in the paper's own setting.
        sources: where answers are looked for; of one profile's files the first that holds an answer is taken.
        count: our answer where it is counted rather than measured.
        by_construction: whether it follows from the schedule, so that it can hold without any merit of the scores.
    """

    where: str
    claim: str
    paper: str
    command: str
    sources: tuple[Source, ...] = ()
    count: Callable[[], Finding] | None = None
    by_construction: bool = False


def notebook(number: str, profile: str = "paper") -> str:
    return f"`sdtp reproduce --profile {profile} --only {number}`"


def _t2(column: str, unit: str) -> str:
    """First and last row of Table 2."""
    rows = list(paper.TABLE2.values())
    return f"{rows[0][column]:.2f}{unit} at 4K to {rows[-1][column]:.2f}{unit} at 128K"


def _t2_flops(what: str) -> str:
    full, pruned = ([row[f"{what} TFLOPs {side}"] for row in paper.TABLE2.values()] for side in ("full", "SDTP"))
    saved = [100 * (1 - few / many) for few, many in zip(pruned, full, strict=True)]
    return f"{saved[0]:.1f}% at 4K to {saved[-1]:.1f}% at 128K"


def _t1(*methods: str, column: str = "AVG", unit: str = "") -> str:
    return ", ".join(f"{method} {paper.TABLE1[method][column]:.2f}{unit}" for method in methods)


def _figure2() -> str:
    (first, (start, _)), *_, (last, (low, high)) = paper.FIG2_SALIENT_SHARE.items()
    return f"{start:.0%} at layer {first}, {low:.0%} to {high:.0%} at layer {last} (read off)"


def _pairs(table: dict, row: str) -> str:
    return ", ".join(f"{model} {full:.2f} to {pruned:.2f}" for model, (full, pruned) in table[row].items())


def _ablation(where: str, table: dict, without: str, on: str, command: str, *stems: str, **said: str) -> Claim:
    """What losses are worth; the paper's number is `said`, or the mean of the table's columns."""
    ours, other = (sum(row.values()) / len(row) for row in (table[paper.ABLATIONS[0]], table[without]))
    losses = "ranking and MSE losses help" if "MSE" in without else "the ranking loss helps beside the MSE loss"
    return Claim(where, f"{losses} (paper: {on})", said.get("paper", f"{ours - other:+.2f} points"), command,
                 tuple((stem, quality.losses_help(without)) for stem in stems))  # fmt: skip


_SAID = paper.CLAIMS
_ALONE, _NEITHER = paper.ABLATIONS[1:]
_PREFILL_RUN, _END2END_RUN = notebook("04", "latency_7b"), notebook("05", "latency_7b")
_END2END, _PREFILL = "latency_results_keep09", f"{PREFILL_FOLDER}/latency_results_keep09"
_TABLE1, _METHODS = "table1_longbench", "methods"
_SEEDS, _TABLE5, _TABLE4 = "table5_seeds", "table5_loss_ablation", "table4_loss_ablation"
_T4, _T5 = {name: {"Avg": row["Avg"]} for name, row in paper.TABLE4.items()}, paper.TABLE5

CLAIMS = (
    Claim(
        "Abstract", "most tokens of a prompt are pruned by the last layer", f"{_SAID['pruned %']}%", _END2END_RUN,
        ((_END2END, speed.tokens_pruned), (_PREFILL, speed.tokens_pruned)), counted.tokens_pruned, by_construction=True,
    ),
    Claim(
        "Abstract, Table 2", "fewer FLOPs in the prefill", _t2_flops("prefill"), _PREFILL_RUN,
        ((_METHODS, real.flops_saved), (_PREFILL, speed.flops_saved("flops")), (_END2END, speed.flops_saved("flops"))),
        counted.flops_saved, by_construction=True,
    ),
    Claim(
        "Abstract, Table 2", "fewer FLOPs end to end, 128 new tokens", _t2_flops("end2end"), _END2END_RUN,
        ((_END2END, speed.flops_saved("flops_end2end")),), lambda: counted.flops_saved(128), by_construction=True,
    ),
    Claim(
        "Text", "the pruning modules cost little", f"under {_SAID['module % of FLOPs']}% of the FLOPs", _PREFILL_RUN,
        count=counted.module_share, by_construction=True,
    ),
    Claim(
        "Table 1", "compression 1/tau", _t1("SDTP", "SDTP-low", column="1/tau"), notebook("06"),
        ((_TABLE1, quality.compression),), counted.compression, by_construction=True,
    ),
    Claim(
        "Table 2", "prefill is faster, the more so the longer the prompt", _t2("prefill x", "x"), _PREFILL_RUN,
        ((_PREFILL, speed.speedup("prefill")), (_END2END, speed.speedup("prefill"))),
    ),
    Claim(
        "Abstract, Table 2", "end to end is faster (128 new tokens), the more so the longer the prompt",
        _t2("end2end x", "x"), _END2END_RUN, ((_END2END, speed.speedup("total")),),
    ),
    Claim(
        "Abstract, Table 2", "less peak memory", _t2("memory saved %", "%"), _END2END_RUN,
        ((_PREFILL, speed.memory_saved), (_END2END, speed.memory_saved)),
    ),
    Claim(
        "Table 1", "prefill faster on a benchmark's prompts (paper: LongBench)",
        _t1("SDTP", "SDTP-low", column="prefill x", unit="x"),
        notebook("06"), (("table1_speed", speed.speed_on_prompts("prefill")),),
    ),
    Claim(
        "Table 1", "end to end faster on a benchmark's prompts (paper: LongBench)",
        _t1("SDTP", "SDTP-low", column="end2end x", unit="x"),
        notebook("06"), (("table1_speed", speed.speed_on_prompts("total")),),
    ),
    Claim(
        "Table 1", f"SDTP stays close to the full model (bar here: {CLOSE:g} points)", _t1("original", "SDTP"),
        notebook("06"),
        ((_METHODS, real.stays_close(MODULE, CLOSE)), (_TABLE1, quality.loses_at_most(FULL, PRUNED, CLOSE))),
    ),
    Claim(
        "Table 1", "SDTP-low loses less than SDTP", _t1("SDTP-low", "SDTP"), notebook("06"),
        ((_METHODS, real.is_better(LOW_MODULE, MODULE)), (_TABLE1, quality.beats(PRUNED, LOW))),
    ),
    Claim(
        "Text, Table 1", "SDTP-low loses little in every kind of task",
        "{:g} to {:g} points".format(*_SAID["SDTP-low loses"]), notebook("06"),
        ((_METHODS, real.stays_close(LOW_MODULE, _SAID["SDTP-low loses"][1])), (_TABLE1, quality.losses_by_category)),
    ),
    Claim(
        "Abstract, Table 1", "better on LongBench than LLMLingua-2", f"{_SAID['points above LLMLingua-2']:+} points",
        notebook("06"), ((_TABLE1, quality.beats("llmlingua2")),),
    ),
    Claim(
        "Table 3", f"eight 5-shot tasks survive pruning (bar: {CLOSE:g} points; real: one, toy: four, 0-shot)",
        _pairs(paper.TABLE3, "Avg"), notebook("07"), (("table3_downstream", quality.downstream),),
    ),
    _ablation("Text, Table 4", _T4, _NEITHER, "5-shot tasks", notebook("07"), _TABLE4),
    _ablation("Table 4", _T4, _ALONE, "5-shot tasks", notebook("07"), _TABLE4),
    _ablation("Text, Table 5", _T5, _NEITHER, "LongBench; real: one needle", notebook("02"), _SEEDS, _TABLE5,
              paper=f"up to {_SAID['losses worth, LongBench']:+} points"),
    _ablation("Table 5", _T5, _ALONE, "LongBench; real: one needle", notebook("02"), _SEEDS, _TABLE5),
    Claim(
        "Text, Table 6", f"no compound error with H2O keeping 40% of the cache (bar here: {quality.COMPOUND:g} points)",
        "WinoGrande {full:.2f}, H2O {H2O 40%:.2f}, both {SDTP + H2O 40%:.2f}".format(**paper.TABLE6["WinoGrande"]),
        notebook("08"), (("table6_kv_compression", quality.loses_at_most("h2o", "sdtp+h2o", quality.COMPOUND,
                          name="local", shown="the nearest keys and values alone")),),
    ),
    Claim(
        "Figure 1", "few tokens are salient, and fewer the deeper the layer", "heat map, Llama2-7B", notebook("01"),
        (("fig1_saliency_map", saliency.fewer_when_deeper),),
    ),
    Claim(
        "Figure 1", "a token redundant early stays redundant", "heat map, Llama2-7B", notebook("01"),
        (("fig1_saliency_map", saliency.stays_redundant),),
    ),
    Claim(
        "Figure 2", "the share of salient tokens falls with depth", _figure2(), notebook("01"),
        (("fig2_salient_share", saliency.salient_share),),
    ),
    Claim(
        "Figure 4", "early layers tolerate pruning least (one stage; in the paper WinoGrande)",
        ", ".join(f"{score} (r = {ratio})" for ratio, score in paper.FIG4_LAYER1.items()) + " at layer 1 (read off)",
        notebook("09"), (("fig4_single_cut", quality.early_cuts_hurt_most),),
    ),
    Claim(
        "Figure 5", f"accuracy is nearly flat in the number of stages (bar here: {quality.FLAT:g} points)",
        "1 to 7 stages, r = 0.9", notebook("09"), (("fig5_stages", quality.flat_in_stages),),
    ),
)  # fmt: skip

CONTROLS = (
    Claim(
        "Control", "random tokens at the same schedule do worse than SDTP's", "-", notebook("06"),
        ((_METHODS, real.is_better(MODULE, real.RANDOM)), (_TABLE1, quality.beats(RANDOM))),
    ),
    Claim(
        "Control", "the most recent tokens at the same schedule do worse than SDTP's", "-", notebook("06"),
        ((_METHODS, real.is_better(MODULE, Arm("recency"))), (_TABLE1, quality.beats("recency"))),
    ),
    Claim(
        "Control", "last-window attention at the same schedule does worse than SDTP", "-", notebook("06"),
        ((_METHODS, real.is_better(MODULE, Arm("attention"))), (_TABLE1, quality.beats("attention"))),
    ),
    Claim(
        "Control", "last-window attention does better than random tokens at the paper's schedule", "-", notebook("06"),
        ((_METHODS, real.is_better(Arm("attention"), real.RANDOM)), (_TABLE1, quality.beats(RANDOM, "attention"))),
    ),
    Claim(
        "Control", f"the oracle's tokens at the paper's schedule lose little (bar: {CLOSE:g} points)", "-",
        notebook("06"),
        ((_METHODS, real.stays_close(Arm("oracle"), CLOSE)), (_TABLE1, quality.loses_at_most(FULL, "oracle", CLOSE))),
    ),
    Claim(
        "Control", "the answer is read above the first cut, so the cut can fail", "-", notebook("01"),
        (("layer_of_reading", saliency.reads_late),),
    ),
    Claim(
        "Control", "the pruner ranks held-out tokens as their saliency does", "-", notebook("02"),
        (("pruner_training", saliency.ranks_held_out),),
    ),
    Claim(
        "Control", "fewer keys and values over all layers", "-", _END2END_RUN,
        ((_END2END, speed.kv_saved), (_PREFILL, speed.kv_saved)), counted.kv_saved, by_construction=True,
    ),
)  # fmt: skip
