"""Readers of scores: tables 1, 3, 4, 5 and 6, figures 4 and 5. The real model's own table has `real_readers`."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from .. import paper
from ..evaluation.intervals import Interval
from ..evaluation.paired_differences import difference_cell
from .findings import CEILING, Finding, Reader, Status, count, higher
from .saliency_readers import FIRST_STAGE

FULL, PRUNED, LOW, RANDOM = "full", "sdtp", "sdtp-low", "random"
CLOSE = 3.0  # points lost up to which a pruned model counts as close to the full one
COMPOUND = 2.0  # points lost up to which two compressions count as not making each other worse
FLAT = 3.0  # points between the best and the worst number of stages that count as flat


def _records(data: Mapping, method: str) -> str:
    return count(sum(cell["n"] for cell in data[method]["categories"].values()), "record")


def _chance(data: Mapping, *asked: str, name: str = RANDOM, shown: str = "random tokens, same schedule") -> str:
    return f"{shown}: {data[name]['average']:.1f}" if name in data and name not in asked else ""


def loses_at_most(first: str, second: str, bar: float, **chance: str) -> Reader:
    """Averages of two methods; holds if the second is at most `bar` points below the first, interval and all."""

    def read(document: Mapping) -> Finding | None:
        data = document["data"]
        if not {first, second} <= data.keys():
            return None
        above, below = (Interval.of(data[name]) for name in (first, second))
        gap = below.over(above)
        status = Status.of_scores((above.mean, below.mean), Status.of(gap.at_least(-bar)))
        text = f"{first} {above.mean:.1f}, {second} {below.mean:.1f}: {gap}"
        return Finding(text, status, _records(data, second), _chance(data, **chance), f"{second}.average")

    return read


def beats(other: str, method: str = PRUNED) -> Reader:
    """Averages of two methods; holds if `method`'s is above by more than the intervals of both."""

    def read(document: Mapping) -> Finding | None:
        data = document["data"]
        if not {method, other} <= data.keys():
            return None
        ours, theirs = (Interval.of(data[name]) for name in (method, other))
        gap = ours.over(theirs)
        text = f"{method} {ours.mean:.1f}, {other} {theirs.mean:.1f}: {gap}"
        chance = _chance(data, method, other)
        return Finding(text, higher([gap], [ours.mean, theirs.mean]), _records(data, method), chance,
                       f"{method}.average, {other}.average")  # fmt: skip

    return read


def losses_by_category(document: Mapping) -> Finding | None:
    """Points that SDTP-low loses per category; holds if none loses more than the paper's worst."""
    data = document["data"]
    if not {FULL, LOW} <= data.keys():
        return None
    full, pruned = (data[name]["categories"] for name in (FULL, LOW))
    lost = [full[name]["score"] - pruned[name]["score"] for name in full]
    scores = [cell["score"] for side in (full, pruned) for cell in side.values()]
    status = Status.of_scores(scores, max(lost) <= paper.CLAIMS["SDTP-low loses"][1])
    text = f"{min(lost) + 0.0:.1f} to {max(lost) + 0.0:.1f} points in {count(len(lost), 'kind')} of task"
    return Finding(text, status, _records(data, LOW), key=f"{LOW}.categories")


def compression(document: Mapping) -> Finding | None:
    """1/tau of SDTP, which should be above SDTP-low's."""
    data = document["data"]
    if not {PRUNED, LOW} <= data.keys():
        return None
    high, low = (data[name]["compression"] for name in (PRUNED, LOW))
    return Finding(f"{PRUNED} {high:.2f}, {LOW} {low:.2f}", Status.of(high > low > 1), key="*.compression")


def losses_help(without: str) -> Reader:
    """Averages of pruners trained with all losses and with some left out, of one seed or of several.

    Holds if the worst seed with all is above the best without; not decided where their ranges meet, nor by one seed,
    which has no range.
    """
    ours = paper.ABLATIONS[0]

    def read(document: Mapping) -> Finding | None:
        data = document["data"]
        scores = [data[name].get("averages") or [data[name].get("average")] for name in (ours, without)]
        if None in (score for side in scores for score in side):
            return None
        ours_above, ours_below = min(scores[0]) > max(scores[1]), max(scores[0]) < min(scores[1])
        several = min(map(len, scores)) > 1
        status = Status.decided(several and ours_above, several and ours_below)
        status = Status.of_scores((score for side in scores for score in side), status)
        text = f"all losses {_range(scores[0])}, {without} {_range(scores[1])}"
        limit = document["metadata"].get("limit")
        n = count(len(scores[0]), "seed") + (f", {count(limit, 'record')} of each task" if limit else "")
        return Finding(text, status, n, key=f"{without}.average{'s' if 'averages' in data[ours] else ''}")

    return read


def _range(scores: list[float]) -> str:
    low, high = f"{min(scores):.1f}", f"{max(scores):.1f}"
    return low if low == high else f"{low} to {high}"


def downstream(document: Mapping) -> Finding | None:
    """Means over the tasks of full and SDTP, and the mean of the paired differences of their questions."""
    data = document["data"]
    if not {FULL, PRUNED} <= data.keys():
        return None
    means = {name: mean(row["score"] for row in rows.values()) for name, rows in data.items()}
    gap = _paired(data[FULL], data[PRUNED])
    status = Status.of_scores((means[FULL], means[PRUNED]), Status.of(gap.at_least(-CLOSE)))
    tasks = data[FULL].values()
    n = f"{count(sum(row['n'] for row in tasks), 'question')} of {count(len(tasks), 'task')}"
    chance = f"random tokens, same schedule: {means[RANDOM]:.1f}" if RANDOM in means else ""
    text = f"full {means[FULL]:.1f}, sdtp {means[PRUNED]:.1f}: {gap}"
    return Finding(text, status, n, chance, f"{PRUNED}.*.score")


def _paired(full: Mapping, ours: Mapping) -> Interval:
    """Mean over the tasks of what each question loses or gains, with its interval."""
    found = difference_cell([
        [own - other for own, other in zip(ours[task]["samples"], row["samples"], strict=True)]
        for task, row in full.items()
    ])  # fmt: skip
    return Interval(found["difference"], *found["ci95"])


def early_cuts_hurt_most(document: Mapping) -> Finding | None:
    """One cut before the paper's first stage against one from it on, for every ratio at which anything is lost.

    Holds if early is clearly lower at each of those ratios, fails if it is clearly higher at one; at ceiling if there
    is none.
    """
    full, points, texts, statuses = document["data"]["full"], document["data"]["points"], [], []
    lossless = []
    for ratio in sorted({point["ratio"] for point in points}, reverse=True):
        cuts = [point for point in points if point["ratio"] == ratio and point["method"] == PRUNED]
        sides = [[Interval.of(p) for p in cuts if (p["layer"] < FIRST_STAGE) == early] for early in (True, False)]
        if not all(sides):
            return None
        if min(p["score"] for p in cuts) >= CEILING / 100 * full:
            lossless.append(f"{ratio:g}")
            continue
        early, later = (_mean(side) for side in sides)
        statuses.append(Status.decided(later.low > early.high, later.high < early.low))
        texts.append(f"r = {ratio:g}: {early.mean:.1f} before layer {FIRST_STAGE}, {later.mean:.1f} from it on")
    if lossless:
        texts.insert(0, f"nothing is lost at any layer at r = {', '.join(lossless)}")
    status = Status.of_all(statuses) if statuses else Status.CEILING
    return Finding(f"{'; '.join(texts)} (full {full:.1f})", status, f"{points[0]['n']} records a point", key="points")


def _mean(several: list[Interval]) -> Interval:
    """Of scores on the same records: the interval no narrower than theirs are on average."""
    return Interval(*(mean(getattr(one, end) for one in several) for end in ("mean", "low", "high")))


def flat_in_stages(document: Mapping) -> Finding:
    """Range of SDTP's scores over the paper's numbers of stages; holds if they lie within `FLAT` points, clearly."""
    data, (low, high) = document["data"], paper.FIG5_STAGES
    points = [p for p in data["points"] if p["method"] == PRUNED and low <= p["stages"] <= high]
    worst, best = (Interval.of(choose(points, key=lambda point: point["score"])) for choose in (min, max))
    text = f"{worst.mean:.1f} to {best.mean:.1f} over {low} to {high} stages, full {data['full']:.1f}"
    status = Status.of_scores((worst.mean, best.mean), Status.of(worst.over(best).at_least(-FLAT)))
    return Finding(text, status, f"{points[0]['n']} records a point", key="points")
