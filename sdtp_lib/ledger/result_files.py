"""RESULT_FILES, the one table of which notebook writes which file.

A file is `{"metadata": provenance.metadata(...), "data": {...}}` with a Markdown table and, where it is drawn, a
picture of the same stem; latency files have their own layout.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..latency.files import PREFILL_FOLDER


@dataclass(frozen=True)
class ResultFile:
    """A result file below a profile's results: the notebook that writes it, or none, and the layout of its `data`."""

    notebook: str
    data: str


RESULT_FILES = {
    "fig1_saliency_map": ResultFile(
        "01", "{tokens: [text], layers: [int], saliency: [[float] per token] per layer, not negative}"
    ),
    "fig2_salient_share": ResultFile("01", "{layers: [int], share: [0 to 1 per layer]}"),
    "layer_of_reading": ResultFile(
        "01",
        "{layers: [int], accuracy: [0 to 100, context hidden from that layer on], baseline: float, local_layers: int}",
    ),
    "pruner_training": ResultFile(
        "02",
        "{terms: {step: [int], <term>: [float]}, stages: {step: [int], <layer>: [float]}, "
        "rank_correlation: {layer: float}}",
    ),
    "table5_loss_ablation": ResultFile(
        "02", "{<name in paper.ABLATIONS>: {rank_correlation: {layer: float}, average: LongBench-mini or null}}"
    ),
    "table5_seeds": ResultFile(
        "02", "{<name in paper.ABLATIONS>: {averages: [0 to 100 per seed], rank_correlation: [per seed]}}"
    ),
    "inspect_pruning": ResultFile(
        "03", "{tokens: [text], last_layer: [int per token], kv_lengths: [int per layer], scheduled: [int per layer]}"
    ),
    "prune_log": ResultFile("03", "prune_log.jsonl, by TokenPruning(log=...)"),
    f"{PREFILL_FOLDER}/latency_results_{{baseline,keep09,keep08,keep07}}": ResultFile("04", "latency.sweep, prefill"),
    f"{PREFILL_FOLDER}/hook_costs": ResultFile("04", "{<side>: what costs.hook_costs.hook_overhead gives}"),
    f"{PREFILL_FOLDER}/attention_work": ResultFile("04", "{<length>: what costs.causal_work.attention_work gives}"),
    f"{PREFILL_FOLDER}_float32/latency_results_{{baseline,keep09,keep07}}": ResultFile("04", "latency.sweep, prefill"),
    "table2_prefill": ResultFile("04", "Markdown alone, by tables.table2.latency_table"),
    "latency_results_{baseline,keep09,keep08,keep07}": ResultFile("05", "latency.sweep, end2end"),
    "table2_end2end": ResultFile("05", "Markdown alone, by tables.table2.latency_table"),
    "decode_steps": ResultFile("05", "[what costs.decode_steps.decode_steps gives]"),
    "chunk_costs": ResultFile("05", "[what costs.chunk_costs.chunk_costs gives]"),
    "peers": ResultFile("05", "what costs.same_budget.compare_peers gives"),
    "table1_longbench": ResultFile(
        "06", "{method: what evaluation.bootstrap.summarise gives}, by evaluation.compare.compare"
    ),
    "methods": ResultFile("", "[what experiments.real.methods.compare_methods gives], of files of `sdtp evaluate`"),
    "tuned/methods": ResultFile("", "as methods, of the schedules that are shipped for the model"),
    "tuned/latency_results_{free,fast}": ResultFile("", "latency.sweep, prefill, by `sdtp profile --pruner tuned`"),
    "tried": ResultFile("", "[what experiments.real.tried.try_ways gives]"),
    "evidence": ResultFile("", "{curves, ranking: [what experiments.real.evidence.kept_evidence gives]}"),
    "table1_speed": ResultFile("06", "what experiments.table1_speed.speed gives"),
    "table3_downstream": ResultFile("07", "what experiments.table3_downstream.downstream gives"),
    "table4_loss_ablation": ResultFile("07", "what experiments.table4_losses.loss_ablation gives"),
    "table6_kv_compression": ResultFile("08", "what experiments.table6_kv_compression.score_compressed gives"),
    "{fig4_single_cut,fig5_stages,quality_flops}": ResultFile(
        "09", "{full: 0 to 100, points: [what experiments.schedule_quality.quality gives]}"
    ),
    "positions": ResultFile("09", "[what experiments.schedule_quality.quality gives]"),
    "question_designs": ResultFile("10", "{<design>: what experiments.question_designs.compare_designs gives}"),
    "{question_curves,question_pooled,question_presets}": ResultFile(
        "10", "{<documents>: what experiments.question_aware.curve gives}"
    ),
    "question_schedules": ResultFile("10", "{<FLOP ratio>: [what experiments.schedule_search.search gives]}"),
    "question_twice": ResultFile("10", "[what experiments.second_question.second_question gives]"),
    "question_costs": ResultFile("10", "[what costs.question_costs.module_costs gives]"),
    "sweep": ResultFile("11", "Markdown alone, by latency.sweep_points.write_points, of the latency files in points/"),
    "pruner_ablation": ResultFile(
        "09", "{<variation>: {averages: [0 to 100 per seed], rank_correlation: [mean over stages, per seed]}}"
    ),
}
