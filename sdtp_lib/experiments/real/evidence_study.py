"""The study of evidence as it is stored: which scores keep it at one cut, and at which layers they see it at all.

`python -m sdtp_lib.experiments.real.evidence_study results/smollm2 --profile smollm2 --model smollm2-135m --work WORK`
writes `evidence.json` and `evidence.md`; the full passes are kept in the working folder, and not made twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ... import results
from ...models.loading import load_with_tokenizer
from ..result_file import write
from .evidence import (
    LATER,
    ORACLE,
    PLAIN,
    RATIOS,
    SHIPPED,
    STRONGEST,
    best,
    evidence_table,
    kept_evidence,
    layers_table,
    pooled,
    share_kept,
    summary,
)
from .full_passes import SEED, TASKS, FullPass, full_pass, study_parser, tuning_records
from .readings import QUESTION, Reading, attention_of

AT = (8, 15, 21)  # layers that all scores are ranked at by default
DEEP = (0.3, 0.15)  # shares kept, of the curves over all layers
NEAR = "mean 7"
ASKED = Reading(QUESTION, "max")
CURVES = (Reading(), Reading(16, "max"), Reading(QUESTION), ASKED, Reading(QUESTION, "max", valued=True))
FIRST = (ORACLE, str(Reading()), *PLAIN)  # shown unpooled, whether or not they are among the best
TITLES = {"needle": "one needle", "documents_qa": "questions among documents"}
HEAD = """# Evidence that one cut keeps: {model}, {limit} prompts of each task at {tokens:,} tokens

Percent of the evidence's tokens kept (in brackets: percent of prompts of which all evidence is kept). Evidence is the
needle, or the sentence that answers. The prompts are of training articles, with seed {seed}: they tune, they evaluate
nothing. The oracle is the saliency of the real answer. `last 16` and so on are the tokens whose attention at the cut's
own layer is read; `later layers` is the mean, over the cut's layer and all above it, of what the question pays there,
which no score at the cut can know. Scores are pooled over neighbours or whole sentences. A cut keeps the first 4 and
the last 10% of tokens anyway. `evidence.json` has the intervals.
"""


def study(
    model: PreTrainedModel, passes: Sequence[tuple[str, FullPass]], at: Sequence[int] = AT
) -> dict[str, list[dict[str, Any]]]:
    """`ranking`: the best scores and poolings at some layers, and the plain ones; `curves`: some scores at every layer.

    Args:
        passes: (task, pass) of each record, with every layer but the first.
        at: layers of the ranking.
    """
    layers = passes[0][1].layers
    every = kept_evidence(model, passes, at)
    names = [(name, "1") for name in FIRST] + [(ORACLE, pool) for pool in (NEAR, "mean sentence")]
    for ratio in RATIOS:
        names += [name for name in best(every, ratio, at) if name not in names]
    ranking = [row for row in every if (row["score"], row["pool"]) in names]
    followed = {*((name, NEAR) for name in (ORACLE, *map(str, CURVES))), SHIPPED}
    curves = kept_evidence(model, passes, layers, {}, DEEP, (*CURVES, STRONGEST), (NEAR, SHIPPED[1]))
    curves = [row for row in curves if (row["score"], row["pool"]) in followed]
    return {"curves": [*curves, *later_layers(model, passes)], "ranking": ranking}


def later_layers(
    model: PreTrainedModel, passes: Sequence[tuple[str, FullPass]], ratios: Sequence[float] = DEEP
) -> list[dict[str, Any]]:
    """Rows as `kept_evidence`, of the mean attention that the question pays at the cut's layer and above it."""
    found: dict[tuple[str, float], list[Tensor]] = {}
    for task, each in passes:
        paid = torch.stack([_asked(model, each, layer) for layer in each.layers])
        above = torch.arange(len(paid), 0, -1)[:, None]  # layers from each on
        scores = pooled(paid.flip(0).cumsum(0).flip(0) / above, NEAR, each.sentence)
        for ratio in ratios:
            found.setdefault((task, ratio), []).append(share_kept(scores, each.evidence, ratio))
    layers = passes[0][1].layers
    return [
        {"task": task, "score": LATER, "pool": NEAR, "ratio": ratio, "layers": [*layers], "n": len(shares),
         **summary(torch.stack(shares))}
        for (task, ratio), shares in found.items()
    ]  # fmt: skip


def study_page(found: Mapping[str, Sequence[Mapping]], **about: Any) -> str:
    """The Markdown page."""
    parts = [HEAD.format(**about, seed=SEED)]
    for ratio in RATIOS:
        for task in TASKS:
            own = [row for row in found["ranking"] if (row["task"], row["ratio"]) == (task, ratio)]
            table = evidence_table(own, task, ratio, [(row["score"], row["pool"]) for row in own])
            parts.append(f"## {TITLES[task].capitalize()}, {ratio:.0%} kept\n\n{table}\n")
    for ratio in DEEP:
        for task in TASKS:
            table = layers_table(found["curves"], task, ratio)
            parts.append(f"## By layer: {TITLES[task]}, {ratio:.0%} kept\n\n{table}\n")
    return "\n".join(parts)


def _asked(model: PreTrainedModel, each: FullPass, layer: int) -> Tensor:
    hidden, context = each.at(model, layer)
    return ASKED.scores(*attention_of(hidden, context, each.question)).cpu()


def main() -> None:
    given = study_parser("Find out how much of the evidence one cut keeps.", "evidence", 24).parse_args()
    model, tokenizer = load_with_tokenizer(given.model, "float32")
    layers, asked = range(1, model.config.num_hidden_layers), (given.source, given.tokens, given.limit)
    records = [(task, each) for task in TASKS for each in tuning_records(model, tokenizer, task, *asked)]
    Path(given.work).mkdir(parents=True, exist_ok=True)
    found = study(model, [(task, full_pass(model, tokenizer, each, layers, given.work)) for task, each in records])
    about = {"tokens": given.tokens, "limit": given.limit}
    details = {**about, "source": given.source, "seeds": {"records": SEED}}
    write(found, Path(given.output, "evidence.json"), model, given.profile, **details)
    results.write_text(Path(given.output, "evidence.md"), study_page(found, model=given.model, **about))


if __name__ == "__main__":
    main()
