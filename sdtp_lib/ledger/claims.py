"""The claims of the paper, one by one: its number, what answers it here, and the command for its own setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import paper
from ..latency.files import PREFILL_FOLDER
from . import claim_readers as read
from . import counted_claims as counted
from .claim_readers import FULL, LOW, PRUNED, Reader

FEW_POINTS = 3.0  # loss on LongBench up to which SDTP counts as close to the full model
FAR_POINTS = 15.0  # gap from which random choice counts as clearly worse
LENGTHS = " ".join(map(str, paper.TABLE2))
PROFILE = (
    "`sdtp profile --mode end2end --config {config} --model mistral-7b --lengths {lengths} "
    "--output runs/latency_7b/results/latency_results_{config}.json`"
)
SWEEP = PROFILE.format(config="keep09", lengths=LENGTHS)
NOTEBOOK = "`sdtp reproduce --profile paper --only {}`"
END2END, PREFILL = ("latency_results_keep09",), (f"{PREFILL_FOLDER}/latency_results_keep09", "latency_results_keep09")


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        where, claim, paper: what the paper says, and where.
        command: what would test it in the paper's own setting.
        files: stems of result files that answer it; the first one there is read.
        read: the file's `data` (a latency file: the document) -> Finding, or None if it does not hold the answer.
        count: our answer where it is counted rather than measured.
    """

    where: str
    claim: str
    paper: str
    command: str
    files: tuple[str, ...] = ()
    read: Reader | None = None
    count: Callable[[], str] | None = None


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
    return f"{start:.2f} at layer {first}, {low:.2f} to {high:.2f} at layer {last} (read off)"


def _pairs(table: dict, row: str) -> str:
    return ", ".join(f"{model} {full:.2f} -> {pruned:.2f}" for model, (full, pruned) in table[row].items())


_SAID = paper.CLAIMS
_TABLE1, _SPEED = ("table1_longbench",), ("table1_speed",)
_SDTP_ROWS = ("original", "SDTP")

CLAIMS = (
    Claim(
        "Abstract", "most tokens of a prompt are pruned by the last layer", f"{_SAID['pruned %']}%", SWEEP, END2END,
        read.tokens_pruned,
    ),
    Claim(
        "Abstract", "fewer FLOPs", "{}% to {}%".format(*_SAID["FLOPs saved %"]), SWEEP, END2END,
        read.flops_saved("flops"), counted.flops_saved,
    ),
    Claim(
        "Abstract", "faster end to end, 128 new tokens", f"up to {_SAID['end2end x']}x", SWEEP, END2END,
        read.speedup("total", grows=False),
    ),
    Claim("Abstract", "less peak memory", f"up to {_SAID['memory saved %']}%", SWEEP, END2END, read.memory_saved),
    Claim(
        "Abstract, Table 1", "better on LongBench than LLMLingua-2", f"{_SAID['points above LLMLingua-2']:+} points",
        NOTEBOOK.format("06"), _TABLE1, read.averages(PRUNED, "llmlingua2", lambda pruned, other: pruned > other),
    ),
    Claim(
        "Text", "the pruning modules cost little", f"under {_SAID['module % of FLOPs']}% of the FLOPs", SWEEP,
        count=counted.module_share,
    ),
    Claim(
        "Figure 1", "few tokens are salient, and fewer the deeper the layer", "heat map, Llama2-7B",
        NOTEBOOK.format("01"), ("fig1_saliency_map",), read.fewer_when_deeper,
    ),
    Claim(
        "Figure 1", "a token redundant early stays redundant", "heat map, Llama2-7B", NOTEBOOK.format("01"),
        ("fig1_saliency_map",), read.stays_redundant,
    ),
    Claim(
        "Figure 2", "the share of salient tokens falls with depth",
        _figure2(), NOTEBOOK.format("01"), ("fig2_salient_share",), read.salient_share,
    ),
    Claim(
        "Table 1", f"SDTP stays close to the full model on LongBench (bar here: {FEW_POINTS:g} points)",
        _t1(*_SDTP_ROWS), NOTEBOOK.format("06"), _TABLE1,
        read.averages(FULL, PRUNED, lambda full, pruned: full - pruned <= FEW_POINTS),
    ),
    Claim(
        "Table 1", "SDTP-low loses less than SDTP", _t1("SDTP-low", "SDTP"), NOTEBOOK.format("06"), _TABLE1,
        read.averages(LOW, PRUNED, lambda low, pruned: low >= pruned),
    ),
    Claim(
        "Text, Table 1", "SDTP-low loses little in every category",
        "{:g} to {:g} points".format(*_SAID["SDTP-low loses"]), NOTEBOOK.format("06"), _TABLE1,
        read.losses_by_category(LOW),
    ),
    Claim(
        "Table 1", "compression 1/tau", _t1("SDTP", "SDTP-low", column="1/tau"), NOTEBOOK.format("06"), _TABLE1,
        read.compression, counted.compression,
    ),
    Claim(
        "Table 1", "prefill faster on LongBench's prompts", _t1("SDTP", "SDTP-low", column="prefill x", unit="x"),
        NOTEBOOK.format("06"), _SPEED, read.speed_on_prompts("prefill"),
    ),
    Claim(
        "Table 1", "end to end faster on LongBench's prompts", _t1("SDTP", "SDTP-low", column="end2end x", unit="x"),
        NOTEBOOK.format("06"), _SPEED, read.speed_on_prompts("total"),
    ),
    Claim(
        "Table 2", "prefill is faster, the more so the longer the prompt", _t2("prefill x", "x"), SWEEP, PREFILL,
        read.speedup("prefill", grows=True),
    ),
    Claim(
        "Table 2", "end to end is faster, the more so the longer the prompt", _t2("end2end x", "x"), SWEEP, END2END,
        read.speedup("total", grows=True),
    ),
    Claim(
        "Table 2", "FLOPs saved in the prefill", _t2_flops("prefill"), SWEEP, PREFILL, read.flops_saved("flops"),
        counted.flops_saved,
    ),
    Claim(
        "Table 2", "FLOPs saved end to end, 128 new tokens", _t2_flops("end2end"), SWEEP, END2END,
        read.flops_saved("flops_end2end"), lambda: counted.flops_saved(new_tokens=128),
    ),
    Claim("Table 2", "peak memory saved", _t2("memory saved %", "%"), SWEEP, END2END, read.memory_saved),
    Claim(
        "Table 3", f"eight 5-shot tasks survive pruning, mean (bar here: {FEW_POINTS:g} points; demo: four of its own)",
        _pairs(paper.TABLE3, "Avg"), NOTEBOOK.format("07"), ("table3_downstream",),
        read.downstream(lambda full, pruned: full - pruned <= FEW_POINTS),
    ),
    Claim(
        "Text, Table 4", "ranking and MSE losses help on 5-shot tasks (demo: four of its own, 0-shot)",
        f"{_SAID['losses worth, 5-shot']:+} points",
        NOTEBOOK.format("07"), ("table4_loss_ablation",), read.ablation,
    ),
    Claim(
        "Text, Table 5", "ranking and MSE losses help on LongBench",
        f"up to {_SAID['losses worth, LongBench']:+} points", NOTEBOOK.format("02"), ("table5_loss_ablation",),
        read.ablation,
    ),
    Claim(
        "Text, Table 6", "no compound error with H2O keeping 40% of the cache (bar here: 2 points)",
        "WinoGrande {full:.2f}, H2O {H2O 40%:.2f}, both {SDTP + H2O 40%:.2f}".format(**paper.TABLE6["WinoGrande"]),
        NOTEBOOK.format("08"), ("table6_kv_compression",),
        read.averages("h2o", "sdtp+h2o", lambda alone, both: alone - both <= 2.0),
    ),
    Claim(
        "Figure 4", "early layers tolerate pruning least (one stage, WinoGrande; here LongBench-mini)",
        ", ".join(f"{score} (r = {ratio})" for ratio, score in paper.FIG4_LAYER1.items()) + " at layer 1 (read off)",
        NOTEBOOK.format("09"), ("fig4_single_cut",), read.early_cuts_hurt_most,
    ),
    Claim(
        "Figure 5", f"accuracy is nearly flat in the number of stages (bar here: {read.FLAT:g} points)",
        "1 to 7 stages, r = 0.9", NOTEBOOK.format("09"), ("fig5_stages",), read.flat_in_stages,
    ),
)  # fmt: skip

CONTROLS = (
    Claim(
        "Control", f"random tokens at the same schedule do clearly worse (bar: {FAR_POINTS:g} points)", "-",
        NOTEBOOK.format("06"), _TABLE1, read.averages(PRUNED, "random", lambda a, b: a - b >= FAR_POINTS),
    ),
    Claim(
        "Control", "the most recent tokens at the same schedule do worse", "-", NOTEBOOK.format("06"), _TABLE1,
        read.averages(PRUNED, "recency", lambda a, b: a > b),
    ),
    Claim(
        "Control", "the answer is read above the first cut, so the cut can fail", "-", NOTEBOOK.format("01"),
        ("layer_of_reading",), read.reads_late,
    ),
    Claim(
        "Control", "the pruner ranks held-out tokens as their saliency does", "-", NOTEBOOK.format("02"),
        ("pruner_training",), read.ranks_held_out,
    ),
    Claim("Control", "keys and values saved over all layers, from the cache", "-", SWEEP, END2END, read.kv_saved),
)  # fmt: skip
