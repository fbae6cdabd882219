"""How a result file answers a claim of the paper: a reader takes a file's data and says what is there, and which way.

A reader of a latency file gets the whole document, any other one the `data`; None means that the answer is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean

from .. import paper
from ..latency.files import series

STAYS_REDUNDANT = 0.9  # share from which tokens that are redundant early count as staying so
FLAT = 3.0  # points between the best and the worst number of stages that count as flat
FIRST_STAGE = 4  # of the paper's schedule
FULL, PRUNED, LOW = "full", "sdtp", "sdtp-low"


@dataclass(frozen=True)
class Finding:
    """Our answer as text, and whether it goes in the direction that the paper claims."""

    text: str
    holds: bool


Reader = Callable[[dict], Finding | None]


def over_lengths(values: Mapping[int, float], unit: str, digits: int) -> str:
    """`1.20x at 512 tokens to 1.40x at 2048`."""
    ends = [min(values), max(values)] if len(values) > 1 else [*values]
    return " to ".join(f"{values[n]:.{digits}f}{unit} at {n}{' tokens' if n == ends[0] else ''}" for n in ends)


def speedup(part: str, grows: bool) -> Reader:
    """Speedup of `part` from the shortest to the longest prompt, which should grow; or else the best of all lengths."""

    def read(document: dict) -> Finding | None:
        values = series(document, "speedup", part)
        if not values:
            return None
        if not grows:
            best = max(values, key=values.get)
            return Finding(f"{values[best]:.2f}x at {best} tokens", values[best] > 1)
        return Finding(over_lengths(values, "x", 2), values[max(values)] > max(1.0, values[min(values)]))

    return read


def speed_on_prompts(part: str) -> Reader:
    """SDTP's and SDTP-low's speedup of `part`, geometric mean and range over LongBench's prompts.

    Holds if both are faster on every prompt: a mean near 1 of few prompts is the machine's noise.
    """

    def read(data: dict) -> Finding | None:
        methods, lengths = data["methods"], [prompt["prompt_tokens"] for prompt in data["prompts"]]
        if not {PRUNED, LOW} <= methods.keys():
            return None
        ours = {name: methods[name][f"{part} x"] for name in (PRUNED, LOW)}
        texts = [f"{name} {x['mean']:.2f}x ({x['range'][0]:.2f} to {x['range'][1]:.2f})" for name, x in ours.items()]
        where = f"{len(lengths)} prompts of {min(lengths)} to {max(lengths)} tokens"
        return Finding(f"{', '.join(texts)} on {where}", all(x["range"][0] > 1 for x in ours.values()))

    return read


def tokens_pruned(document: dict) -> Finding | None:
    """Share of the prompt that does not reach the last layer; holds within 3 points of the paper's."""
    kept, pruned = series(document, "sdtp", "tokens_kept"), series(document, "sdtp", "tokens_pruned")
    if not kept:
        return None
    share = {length: 100 * pruned[length] / (kept[length] + pruned[length]) for length in kept}
    return Finding(
        over_lengths(share, "%", 1), all(abs(value - paper.CLAIMS["pruned %"]) < 3 for value in share.values())
    )


def flops_saved(key: str) -> Reader:
    """Share of FLOPs saved, which should grow with the prompt; `key` is flops or flops_end2end."""

    def read(document: dict) -> Finding | None:
        saved = {length: 100 * (1 - ratio) for length, ratio in series(document, key, "ratio").items()}
        if not saved:
            return None
        return Finding(over_lengths(saved, "%", 1), 0 < saved[min(saved)] <= saved[max(saved)])

    return read


def memory_saved(document: dict) -> Finding | None:
    """Share of peak memory saved; None where a sweep on a CPU did not read it."""
    full, pruned = series(document, "baseline", "memory_gb"), series(document, "sdtp", "memory_gb")
    saved = {length: 100 * (1 - pruned[length] / full[length]) for length in full if length in pruned}
    return Finding(over_lengths(saved, "%", 2), 0 < saved[max(saved)]) if saved else None


def kv_saved(document: dict) -> Finding | None:
    """Share of all layers' keys and values saved."""
    saved = {length: 100 * share for length, share in series(document, "kv_reduction").items()}
    return Finding(over_lengths(saved, "%", 1), min(saved.values()) > 0) if saved else None


def _salient(row: list[float]) -> list[bool]:
    return [value > paper.SALIENT_THRESHOLD * max(row) for value in row]


def fewer_when_deeper(data: dict) -> Finding:
    """Share of salient tokens in the first and the last row of the heat map."""
    first, last = (mean(_salient(data["saliency"][index])) for index in (0, -1))
    layers = data["layers"]
    return Finding(f"{first:.0%} of the tokens salient at layer {layers[0]}, {last:.0%} at {layers[-1]}", last < first)


def stays_redundant(data: dict) -> Finding | None:
    """Of the tokens redundant in the first row of the heat map, how many are so in the last one."""
    first, last = (_salient(data["saliency"][index]) for index in (0, -1))
    later = [not there for here, there in zip(first, last, strict=True) if not here]
    if not later:
        return None
    layers = data["layers"]
    text = f"{mean(later):.1%} of the redundant at layer {layers[0]} are so at {layers[-1]} (bar {STAYS_REDUNDANT:.0%})"
    return Finding(text, mean(later) >= STAYS_REDUNDANT)


def salient_share(data: dict) -> Finding:
    """Salient share of the first and the last layer."""
    (first, *_, last), layers = data["share"], data["layers"]
    return Finding(f"{first:.2f} at layer {layers[0]}, {last:.2f} at {layers[-1]}", last < first)


def losses_by_category(method: str) -> Reader:
    """Points that `method` loses per category; holds if none loses more than the paper's worst."""

    def read(data: dict) -> Finding | None:
        if not {FULL, method} <= data.keys():
            return None
        full, pruned = data[FULL]["categories"], data[method]["categories"]
        lost = {name: full[name]["score"] - pruned[name]["score"] for name in full}
        text = f"{min(lost.values()):.1f} to {max(lost.values()):.1f} points"
        return Finding(text, max(lost.values()) <= paper.CLAIMS["SDTP-low loses"][1])

    return read


def averages(first: str, second: str, holds: Callable[[float, float], bool]) -> Reader:
    """Compare two methods' averages; `holds(first, second)`."""

    def read(data: dict) -> Finding | None:
        if not {first, second} <= data.keys():
            return None
        values = [data[name]["average"] for name in (first, second)]
        return Finding(f"{first} {values[0]:.1f}, {second} {values[1]:.1f}", holds(*values))

    return read


def compression(data: dict) -> Finding | None:
    """1/tau of SDTP, which should be above SDTP-low's."""
    if not {PRUNED, LOW} <= data.keys():
        return None
    high, low = (data[name]["compression"] for name in (PRUNED, LOW))
    return Finding(f"{PRUNED} {high:.2f}, {LOW} {low:.2f}", high > low > 1)


def ablation(data: dict) -> Finding | None:
    """Points of the average that the ranking and MSE losses are worth, on LongBench or on the tasks of Table 4."""
    ours, *others = (data[name].get("average") for name in paper.ABLATIONS)
    if ours is None or None in others:
        return None
    gains = [ours - other for other in others]
    return Finding(f"{gains[0]:+.1f} points over no ranking, {gains[1]:+.1f} over neither", min(gains) > 0)


def reads_late(data: dict) -> Finding:
    """Accuracy with the context hidden right above the local layers, against nothing hidden: it should be far lower."""
    accuracy = dict(zip(data["layers"], data["accuracy"], strict=True))
    layer, full = data["local_layers"] or data["layers"][0], data["baseline"]
    text = f"{accuracy[layer]:.0f}% with the context hidden from layer {layer} on, {full:.0f}% with nothing hidden"
    return Finding(text, accuracy[layer] < full / 2)


def ranks_held_out(data: dict) -> Finding:
    """Mean rank correlation over the stages, and the worst one; holds if every stage's is positive."""
    values = list(data["rank_correlation"].values())
    return Finding(f"mean rank correlation {mean(values):.2f}, worst stage {min(values):.2f}", min(values) > 0)


def early_cuts_hurt_most(data: dict) -> Finding:
    """Score of one cut at the first layer tried against the mean from the paper's first stage on, for every ratio.

    Holds by the hardest cut: easier ones may cost nothing anywhere.
    """
    texts, holds = [], False
    for ratio in sorted({point["ratio"] for point in data["points"]}, reverse=True):
        scores = {point["layer"]: point["score"] for point in data["points"] if point["ratio"] == ratio}
        first, later = min(scores), [score for layer, score in scores.items() if layer >= FIRST_STAGE]
        holds = scores[first] < mean(later)
        texts.append(f"{scores[first]:.1f} at layer {first}, {mean(later):.1f} from {FIRST_STAGE} on (r = {ratio:g})")
    return Finding(f"{'; '.join(texts)}; full {data['full']:.1f}", holds)


def flat_in_stages(data: dict) -> Finding:
    """Range of SDTP's scores over the paper's numbers of stages; holds if they lie within `FLAT` points."""
    low, high = paper.FIG5_STAGES
    scores = [p["score"] for p in data["points"] if p["method"] == PRUNED and low <= p["stages"] <= high]
    text = f"{min(scores):.1f} to {max(scores):.1f} over {low} to {high} stages, full {data['full']:.1f}"
    return Finding(text, max(scores) - min(scores) <= FLAT)


def downstream(holds: Callable[[float, float], bool]) -> Reader:
    """Means over the tasks of full and SDTP; `holds(full, pruned)`."""

    def read(data: dict) -> Finding | None:
        if not {FULL, PRUNED} <= data.keys():
            return None
        full, pruned = (mean(row["score"] for row in data[name].values()) for name in (FULL, PRUNED))
        return Finding(f"{len(data[FULL])} tasks, {FULL} {full:.1f}, {PRUNED} {pruned:.1f}", holds(full, pruned))

    return read
