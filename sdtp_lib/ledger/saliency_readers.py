"""Readers of what tokens are worth layer by layer: figures 1 and 2, where the answer is read, and how pruners rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from .. import paper
from .findings import Finding, Status, count

FALL = 2 / 3  # second half of the inner layers over the first, at most; the paper's curve, read off, gives 0.45
STAYS_REDUNDANT = 0.9  # of the tokens that are salient later, the share that must have been so early
FEWEST = 10  # salient tokens of later layers, below which nothing can be seen
FIRST_STAGE = 4  # of the paper's schedule


def _salient(row: Sequence[float]) -> list[bool]:
    return [value > paper.SALIENT_THRESHOLD * max(row) for value in row]


def _fall(layers: Sequence[int], shares: Sequence[float], **details) -> Finding | None:
    """Whether the salient share falls from layer to layer, and not in the first or the last one alone."""
    inner = shares[1:-1]
    half = len(inner) // 2
    if not half:
        return None
    early, late = mean(inner[:half]), mean(inner[-half:])
    text = f"{shares[0]:.1%} at layer {layers[0]}, {shares[-1]:.1%} at layer {layers[-1]}; between, on average, "
    text += f"{early:.1%} in the first half of the layers and {late:.1%} in the second"
    return Finding(text, Status.of(shares[-1] < shares[0] and late <= FALL * early), **details)


def salient_share(document: Mapping) -> Finding | None:
    """Figure 2's curve."""
    data, prompts = document["data"], document["metadata"].get("prompts")
    return _fall(data["layers"], data["share"], key="share", n=count(prompts, "prompt") if prompts else "")


def fewer_when_deeper(document: Mapping) -> Finding | None:
    """Figure 1's heat map: the same of one prompt."""
    data = document["data"]
    shares = [mean(_salient(row)) for row in data["saliency"]]
    return _fall(data["layers"], shares, key="saliency", n=f"1 prompt of {len(data['tokens']):,} tokens")


def stays_redundant(document: Mapping) -> Finding:
    """Of the tokens that are salient at a layer after the first stage's, how many were so there.

    Asked of the salient ones: where few are salient, nearly all redundant ones stay so whatever happens.
    """
    data = document["data"]
    start = next((at for at, layer in enumerate(data["layers"]) if layer >= FIRST_STAGE), 0)
    early, *later = (_salient(row) for row in data["saliency"][start:])
    were = [was for row in later for was, now in zip(early, row, strict=True) if now]
    layer = data["layers"][start]
    n = f"{count(len(were), 'salient token')} of {len(later)} later layers, 1 prompt"
    if len(were) < FEWEST:
        return Finding(f"too few salient tokens after layer {layer}", Status.CEILING, n, key="saliency")
    text = f"{mean(were):.0%} of the tokens salient later were so at layer {layer} (bar {STAYS_REDUNDANT:.0%})"
    chance = f"{mean(early):.0%}, the salient share of that layer"
    return Finding(text, Status.of(mean(were) >= STAYS_REDUNDANT), n, chance, "saliency")


def reads_late(document: Mapping) -> Finding:
    """Accuracy with the context hidden from above the local layers, or the first stage, on: it should be far lower."""
    data = document["data"]
    accuracy = dict(zip(data["layers"], data["accuracy"], strict=True))
    layer, full = max(data["local_layers"], FIRST_STAGE), data["baseline"]
    text = f"{accuracy[layer]:.0f}% with the context hidden from layer {layer} on, {full:.0f}% with nothing hidden"
    tasks, limit = (document["metadata"].get(key) for key in ("tasks", "limit"))
    n = f"{count(limit, 'record')} of {count(len(tasks), 'task')} each" if tasks and limit else ""
    return Finding(text, Status.of(accuracy[layer] < full / 2), n, key="accuracy")


def ranks_held_out(document: Mapping) -> Finding:
    """Mean rank correlation over the stages, and the worst one; holds if every stage's is positive."""
    values = list(document["data"]["rank_correlation"].values())
    text = f"mean rank correlation {mean(values):.2f}, worst stage {min(values):.2f}"
    return Finding(text, Status.of(min(values) > 0), f"{len(values)} stages", "0", "rank_correlation")
