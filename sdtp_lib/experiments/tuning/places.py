"""At which layers of a model one cut costs least: looked for before anything is trained, as every model has its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from ...data.samples import Sample
from ...options import SENTENCES
from ...scorers.attention_pruner import UNTRAINED, AttentionPruner
from ...scorers.pooling import pooled
from ..schedule_search import LOCAL, within_budget
from .candidates import BEND, Candidate, named, with_losses
from .effort import Effort
from .loss_file import LossFile

WITHIN = (0.1, 0.6)  # shares of the depth, between which a cut is tried at every layer
LOOKS = ("strongest", SENTENCES)  # score and pooling that look: those that lose least where nothing is trained


def look(
    model: PreTrainedModel, samples: Sequence[Sample], ratios: Sequence[float], tokens: int, effort: Effort,
    ends: Sequence[int], losses: LossFile,
) -> dict[float, list[Candidate]]:  # fmt: skip
    """FLOP ratio -> one cut at every layer WITHIN that reaches it, the one that loses least first.

    Args:
        samples: of the search part; the first `effort.place_look` are asked.
        tokens: that FLOPs are counted at.
        ends: ids of the tokens that end a sentence.
    """
    layers = model.config.num_hidden_layers
    tried = range(max(1, math.ceil(WITHIN[0] * layers)), math.floor(WITHIN[1] * layers) + 1)
    score, pool = LOOKS
    scorer = AttentionPruner(model.config.hidden_size, tried, **UNTRAINED[score])
    ways, found = {LOOKS: pooled(scorer, pool, ends)}, {}
    for ratio in ratios:
        cuts = {layer: within_budget(ratio, layer, 1, BEND, layers, model.config, tokens, LOCAL) for layer in tried}
        every = [Candidate(score, pool, named(1, layer), ratio, cut) for layer, cut in cuts.items() if cut]
        found[ratio] = with_losses(model, every, samples[: effort.place_look], ways, losses, f"places, {ratio:g}x")
    return found


def by_layer(places: Mapping[float, Sequence[Candidate]]) -> dict[str, list[dict[str, Any]]]:
    """What `look` found, as recorded with the pruner: FLOP ratio -> `layer`, `prompts` and `nll`, by layer."""
    return {
        f"{ratio:g}": sorted(
            ({"layer": each.schedule.layers[0], "prompts": len(each.losses), "nll": round(each.loss, 4)}
             for each in found),
            key=lambda row: row["layer"],
        )
        for ratio, found in places.items()
    }  # fmt: skip
