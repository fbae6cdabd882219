"""REPRODUCTION.md: every claim of the paper beside what was measured here, and an honest status.

RESULT_FILES is the one table of which notebook writes which file. A file is `{"metadata": provenance.metadata(...),
"data": {...}}` with a Markdown table and, where it is drawn, a picture of the same stem; latency files have their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import paths, results
from ..latency.files import PREFILL_FOLDER
from .claims import CLAIMS, CONTROLS, Claim
from .multi_gpu_estimate import plan_section
from .question_claims import BEYOND

PROFILES = ("demo", "demo_full", "latency_cpu", "latency_7b", "paper")
ON_THE_DEMO = ("demo", "demo_full")  # profiles of the demo model, whose numbers are never the paper's
CLAIMS_TITLE, CONTROLS_TITLE = "Claims of the paper", "Controls that the paper does not show"
BEYOND_TITLE = "Beyond the paper: a pruner that reads the question"
NOT_RUN, MEASURED = "not run", "measured"
ON_DEMO = {True: "reproduced in kind on the demo", False: "not reproduced on the demo"}
CONTROL_ON_DEMO = {True: "holds on the demo", False: "does not hold on the demo"}


@dataclass(frozen=True)
class ResultFile:
    """A result file below a profile's results: the notebook that writes it, and the layout of its `data`."""

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
    f"{PREFILL_FOLDER}_float32/latency_results_{{baseline,keep09,keep07}}": ResultFile(
        "04", "latency.sweep, prefill"
    ),
    "table2_prefill": ResultFile("04", "Markdown alone, by tables.table2.latency_table"),
    "latency_results_{baseline,keep09,keep08,keep07}": ResultFile("05", "latency.sweep, end2end"),
    "table2_end2end": ResultFile("05", "Markdown alone, by tables.table2.latency_table"),
    "decode_steps": ResultFile("05", "[what costs.decode_steps.decode_steps gives]"),
    "chunk_costs": ResultFile("05", "[what costs.chunk_costs.chunk_costs gives]"),
    "peers": ResultFile("05", "what costs.same_budget.compare_peers gives"),
    "table1_longbench": ResultFile(
        "06", "{method: what evaluation.bootstrap.summarise gives}, by evaluation.compare.compare"
    ),
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

INTRODUCTION = """# Reproduction ledger

Written by `sdtp reproduce` and `make store`; do not edit. Paper: *Saliency-driven Dynamic Token Pruning for Large
Language Models*, arXiv 2504.04514v2.

**Numbers of the demo are never the paper's.** The demo is a small model trained on this project's own synthetic
texts, and its latency is that of a scaled-down random-weight model. It can show that an effect exists, not how
large it is in a 7B model. The status says which is which:

- *reproduced in kind on the demo*: the demo shows the effect, in the direction that the paper claims;
- *not reproduced on the demo*: it was measured there and does not show it;
- *measured*: on the model named in the row, or counted for its exact shape;
- *not run*: nobody has run it here; the last column is the command that would, where there is one yet.
"""

STORED = " (stored)"
MIXED = f"Rows marked *{STORED.strip()}* are the repository's, the others of the last run of their profile.\n"

DISAGREEMENTS = """## What does not add up in the paper

Nothing here was tuned to these.

- **FLOPs of Table 2.** They fit 16.092 GFLOP per token plus 393,209 FLOP per pair of tokens: a model without
  grouped queries, with embedding and head counted. Mistral-7B needs 13.96 + 0.26 GFLOP per token, and 2dL (causal)
  or 4dL (dense) times the square of the length. Only the ratios can be compared.
- **Layer numbers and 1/tau.** The text does not say whether layers count from 0 or 1. Ten stages from layer 4,
  every third, r = 0.9 on 32 layers give 1/tau = 1.53 counted from 0 (this project) and 1.58 counted from 1; Table 1
  prints 1.61. Five stages at 4, 9, 14, 19, 24 give the 1.32 printed for SDTP-low.
- **Two logits, one score.** Eq. 1 gives a keep and a drop logit, while the MSE and ranking losses need one number.
  Here the pruner has the keep logit alone and the drop logit is 0.
- **"Without ranking and MSE" (Tables 4 and 5)** cannot be Eq. 8 less two terms: with cross-entropy alone the mask
  learns to keep everything. That row needs a loss on the pruning rate, as in DynamicViT, wherever the supervision
  is off.
- **Table 5 against Table 1.** The SDTP rows of the two differ slightly, and not every difference printed with Table
  5 follows from its rows.
- **Noise in Table 3.** WSC is 36.54 = 38/104 in four cells, a constant answer; COPA, CB and WSC have standard
  errors of 4 to 7 points, more than most of their differences. No random choice of tokens is shown as a control.
- **Figure 5** ends at seven stages (48% of the tokens kept), so it does not show the ten stages used everywhere
  else.
- **Long rows of Table 2.** Mistral-7B-Instruct-v0.2 scores 49 at 64K and 13.8 at 128K on RULER: those rows say
  something about latency, nothing about answers.
"""


def write_ledger(profile: str = "demo", stored: bool = False) -> Path:
    """Write the ledger from the result files of every profile that has some.

    Args:
        profile: whose run it is; its rows come first.
        stored: write results/REPRODUCTION.md, from what the repository stores alone.

    Returns:
        The ledger's path.

    Raises:
        ValueError: for an unknown profile, or naming a result file that is damaged or not laid out as expected.
    """
    tables = ledger_tables(profile, stored)
    counts = Counter(row["Status"] for row, _ in tables[CLAIMS_TITLE])
    summary = ", ".join(f"{counts[status]} {status}" for status in (*ON_DEMO.values(), MEASURED, NOT_RUN))
    behind = [file for rows in tables.values() for _, file in rows if file]
    mixed = not stored and any(file.is_relative_to(paths.stored(paths.RESULTS)) for file in behind)
    parts = [INTRODUCTION, *([MIXED] if mixed else []), f"The rows of the first table: {summary}.\n"]
    for title, rows in tables.items():
        parts.append(f"## {title}\n\n{results.markdown_table([row for row, _ in rows])}\n")
    parts += [f"## What runs it in the paper's own setting\n\n{_commands()}\n", plan_section(), DISAGREEMENTS]
    path = paths.stored(paths.RESULTS) / paths.LEDGER if stored else paths.ledger(profile)
    results.write_text(path, "\n".join(parts))
    return path


def check_profile(profile: str) -> None:
    """Raise ValueError unless the profile is one of PROFILES or a user has added it to the folder of profiles."""
    if profile not in PROFILES and not (paths.PROFILES / profile).is_dir():
        raise ValueError(f"unknown profile {profile!r}; known: {', '.join(PROFILES)}")


def ledger_tables(profile: str = "demo", stored: bool = False) -> dict[str, list[tuple[dict, Path | None]]]:
    """The ledger's tables by title: each row, and the result file that answered it (None: counted, or not run).

    Args:
        profile, stored: see `write_ledger`; a file of a profile's last run goes before the stored one.

    Raises:
        ValueError: see `write_ledger`.
    """
    check_profile(profile)
    others = [other for other in PROFILES if other != profile]
    profiles = [*PROFILES, *({profile} - {*PROFILES})] if stored else [profile, *others]
    tables = {CLAIMS_TITLE: (CLAIMS, ON_DEMO), CONTROLS_TITLE: (CONTROLS, CONTROL_ON_DEMO),
              BEYOND_TITLE: (BEYOND, CONTROL_ON_DEMO)}  # fmt: skip
    return {
        title: [row for claim in claims for row in _rows(claim, profiles, on_demo, stored)]
        for title, (claims, on_demo) in tables.items()
    }


def _rows(
    claim: Claim, profiles: Sequence[str], on_demo: Mapping[bool, str], stored: bool
) -> list[tuple[dict, Path | None]]:
    """One row for every profile that has measured the claim, or a single one that says what would."""
    found = [row for profile in profiles if (row := _finding(claim, profile, on_demo, stored))]
    if claim.count is not None:
        found.append((claim.count(), "Mistral-7B's shape, counted", MEASURED, None))
    found = found or [(None, None, NOT_RUN, None)]
    columns = ("Where", "Claim", "Paper", "Ours", "Model and machine", "Status", "Command if not run")
    said = (claim.where, claim.claim, claim.paper)
    return [
        (dict(zip(columns, (*said, *row, claim.command if row[-1] == NOT_RUN else None), strict=True)), file)
        for *row, file in found
    ]


def _finding(
    claim: Claim, profile: str, on_demo: Mapping[bool, str], stored: bool
) -> tuple[str, str, str, Path] | None:
    """(ours, model and machine, status, file) from the first of the claim's files that holds the answer."""
    home = paths.stored(paths.RESULTS, profile)
    for name in (f"{stem}.json" for stem in claim.files):
        path = home / name if stored else paths.find_results(profile, name)
        if path is None or not path.is_file():
            continue
        document = results.read_json(path)
        try:
            metadata = document["metadata"]
            finding = claim.read(document if "results" in document else document["data"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"result file {path} is not laid out as expected, {reason}") from None
        if finding is not None:
            machine = ", ".join(str(metadata[key]) for key in ("model", "dtype", "device") if metadata.get(key))
            machine += STORED if not stored and path.is_relative_to(home) else ""
            return finding.text, machine, on_demo[finding.holds] if profile in ON_THE_DEMO else MEASURED, path
    return None


def _commands() -> str:
    """Every command once, with what it answers."""
    places: dict[str, dict[str, None]] = {}
    for claim in CLAIMS:
        places.setdefault(claim.command, {})[claim.where] = None
    return "\n".join(f"- {'; '.join(where)}: {command}" for command, where in places.items())
