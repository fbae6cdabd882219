"""Table 2: the latency files of a sweep as one table, and the longest prompt timed beside the paper's shortest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import paper as paper_numbers
from ..latency.files import PREFILL_FOLDER, series
from ..latency.sweep import sweep
from ..markdown import Markdown, paper_ours
from ..models.loading import load_model, load_pruner
from ..models.named_schedules import resolve_schedule
from ..plots.style import save_figures
from ..plots.sweep import latency, limit_share, speedup
from ..tables.table2 import latency_table
from .stored import stored_or_swept


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


def draw(documents: Mapping[str, dict], part: str, profile: str) -> Markdown:
    """Seconds, speedups and their share of the estimate of a sweep, drawn into the profile's figures.

    Args:
        documents: schedule -> latency document.
        part: `prefill`, or `total` for end to end.
    """
    stem = f"table2_{'prefill' if part == 'prefill' else 'end2end'}"
    drawn = {"latency": latency, "speedup": speedup, "limit_share": limit_share}
    return save_figures(profile, {f"{stem}_{name}": figure(documents, part) for name, figure in drawn.items()})


def said_of_cache(documents: Mapping[str, dict]) -> Markdown:
    """How much of all layers' keys each schedule saves; hardly another share at another length."""
    said = []
    for name, document in documents.items():
        saved = [f"{share:.0%}" for share in series(document, "kv_reduction").values()]
        ends = saved[:1] if len({*saved}) == 1 else [min(saved), max(saved)]
        said += [f"{name} {' to '.join(ends)}"] if saved else []
    return Markdown(f"Saved of the keys and values of all layers, read from the cache: {', '.join(said)}.")


def other_format(
    source: str | None, configs: Sequence[str], lengths: Sequence[int], profile: str, model_name: str, dtype: str,
    revision: str | None = None, pruner: str | None = None, seed: int = 0, repeats: int = 1,
) -> dict[str, dict]:  # fmt: skip
    """The prefill's sweep in another number format: schedule -> latency document.

    Args:
        source: profile whose stored sweep is shown; None times it now.
        model_name, revision, pruner: see `models.loading`.
        repeats: timed runs of each side.
    """

    def run(folder: Path) -> None:
        model, _ = load_model(model_name, dtype=dtype, revision=revision)
        scorer = load_pruner(pruner, model, resolve_schedule(configs[0], model))
        sweep(model, scorer, configs, lengths, mode="prefill", folder=folder, repeats=repeats, seed=seed,
              profile_name=profile)  # fmt: skip

    return stored_or_swept(source, configs, f"{PREFILL_FOLDER}_{dtype}", profile, run)
