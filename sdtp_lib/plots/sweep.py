"""Figures of a latency sweep against prompt length: seconds, speedup and its estimate, memory, hooks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from .. import paper
from ..latency.break_even import break_even, scaling_exponent
from ..latency.files import lookup, series
from .style import GREY, PALETTE, Figure, looks, new_figure, styled, whiskers

PARTS = {"prefill": "Prefill", "decode": "Decode", "total": "End to end"}
PAPER = {"prefill": "prefill", "total": "end2end"}  # part -> as Table 2's columns begin
LIMITS = {"prefill": ("prefill_causal", "prefill_dense"), "total": ("end2end",)}  # part -> drawn solid, dashed
LIMIT_NAMES = {
    "prefill_causal": "FLOPs, causal attention",
    "prefill_dense": "FLOPs, dense attention",
    "end2end": "FLOPs and bytes, Amdahl",
}
HOOKS = ("scoring", "selecting", "gathering", "telling")
LEGEND_WIDTH, LEGEND_HANDLE = 105, 7  # in letters
LAST = ("estimate", "paper")  # in the legend
LOG_TICKS = (1, 2, 3, 4, 5, 7)


@styled
def latency(documents: Mapping[str, dict], part: str = "prefill") -> Figure:
    """Seconds against prompt length, full and pruned; bars go from the fastest to the slowest repeat.

    Args:
        documents: label -> latency document of a sweep; the first one's baseline is drawn.
        part: prefill, decode or total; the paper has no points for the decode.
    """
    figure, axes = new_figure(7.5, 4.2)
    lengths, slopes = set(), []
    sides = _sides(documents)
    for (name, document, side), style in zip(sides, looks(name for name, *_ in sides), strict=True):
        seconds = series(document, side, f"{part}_latency_seconds")
        spread = series(document, side, "spread", part)
        ends = [spread.get(length, (seconds[length],) * 2) for length in seconds]
        whiskers(axes, list(seconds), list(seconds.values()), ends, capsize=3, elinewidth=None, label=name, **style)
        lengths |= set(seconds)
        slope = scaling_exponent(document, side, part)
        slopes += [] if slope is None else [f"{name} {slope:.2f}"]
    columns = {side: f"{PAPER[part]} s {side}" for side in ("full", "SDTP")} if part in PAPER else {}
    theirs = _paper(axes, columns)
    axes.set(ylabel=f"{PARTS[part]} (s)")
    _say(axes, "grows with the length to the power", slopes)
    _log_values(axes)
    return _finish(figure, axes, lengths, theirs)


@styled
def speedup(documents: Mapping[str, dict], part: str = "prefill") -> Figure:
    """Speedup against prompt length, its estimates, where it breaks even (see `break_even`), and the paper's points.

    Args:
        documents: label -> latency document of a sweep.
        part: prefill, decode or total; a decode has neither estimate nor paper's points.
    """
    figure, axes = new_figure(7.5, 4.2)
    lengths, limits, breaks = set(), {}, []
    for (name, document), style in zip(documents.items(), looks(documents), strict=True):
        lengths |= _line(axes, series(document, "speedup", part), label=name, **style)
        for limit, dashes in zip(LIMITS.get(part, ()), ("-", "--"), strict=False):
            look = {"linestyle": dashes, "linewidth": 1.1, "alpha": 0.75, "marker": "_", "color": style["color"]}
            if _line(axes, series(document, "limit", limit), **look):
                limits[limit] = dashes
        found = break_even(document, part)
        if found.between:
            axes.plot(found.tokens, 1, "|", markersize=13, markeredgewidth=2.5, color=style["color"], zorder=3)
        breaks += [f"{name} {found.short}"] if found.short else []
    for limit, dashes in limits.items():
        axes.plot([], [], color=GREY, linestyle=dashes, linewidth=1.1, label=f"estimate: {LIMIT_NAMES[limit]}")
    theirs = _paper(axes, {"SDTP, r = 0.9": f"{PAPER[part]} x"} if part in PAPER else {})
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(ylabel=f"{PARTS[part]} speedup (x)")
    _say(axes, "breaks even at (tokens)", breaks)
    return _finish(figure, axes, lengths, theirs)


@styled
def limit_share(documents: Mapping[str, dict], part: str = "prefill") -> Figure:
    """Measured speedup as a share of its estimate, against prompt length.

    Args:
        documents: label -> latency document of a sweep.
        part: prefill, of the causal FLOPs; or total, of `latency.flop_estimates.end2end_limit`.
    """
    figure, axes = new_figure(7.5, 4)
    lengths = set()
    for (name, document), style in zip(documents.items(), looks(documents), strict=True):
        lengths |= _line(axes, series(document, "share_of_limit", PAPER[part]), label=name, **style)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(ylabel=f"{PARTS[part]} speedup / its estimate\n({LIMIT_NAMES[LIMITS[part][0]]})")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return _finish(figure, axes, lengths)


@styled
def peak_memory(sources: Mapping[str, Mapping], with_paper: bool = True) -> Figure:
    """Most memory in use during a run, model included, against prompt length, full and pruned.

    Args:
        sources: label -> latency document of a sweep (the first one's baseline is drawn too), or what
            `latency.memory.resident_peaks` gives (the full model's first).
    """
    figure, axes = new_figure(7.5, 4.2)
    lengths, peaks = set(), _peaks(sources)
    for (name, values), style in zip(peaks, looks(name for name, _ in peaks), strict=True):
        lengths |= _line(axes, values, label=name, **{**style, "linestyle": "-"}) if values else set()
    theirs = _paper(axes, {side: f"peak GB {side}" for side in ("full", "SDTP")} if with_paper else {})
    axes.set(ylabel="peak memory (GB)")
    _log_values(axes)
    return _finish(figure, axes, lengths, theirs)


@styled
def hook_shares(costs: Mapping[int | str, Mapping[str, float] | None]) -> Figure:
    """What pruning's own work takes of the prefill's time, stacked, per prompt length.

    Args:
        costs: length -> what `hook_costs.hook_overhead` gives, in seconds; None where it was not measured.
    """
    figure, axes = new_figure(7.5, 4)
    known = [(str(length), cost) for length, cost in costs.items() if cost and cost.get("prefill")]
    names = [_length_name(int(length)) if length.isdigit() else length for length, _ in known]
    bottom = [0.0] * len(known)
    for part, colour in zip((*HOOKS, "other"), PALETTE, strict=False):
        heights = [_hook(cost, part) / cost["prefill"] for _, cost in known]
        axes.bar(names, heights, width=0.5, bottom=bottom, color=colour, label=part)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    for at, total in enumerate(bottom):
        axes.annotate(f"{total:.1%}", (at, total), (0, 3), textcoords="offset points", ha="center", fontsize="small")
    top = 1.15 * max(bottom, default=0.0) or 1.0
    axes.set(ylabel="share of the prefill's time", ylim=(0, top), xlim=(-0.7, max(3, len(known)) - 0.3))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    axes.grid(axis="x", visible=False)
    return _finish(figure, axes, known)


def _hook(cost: Mapping[str, float], part: str) -> float:
    rest = (cost.get("hooks") or 0.0) - sum(cost.get(each) or 0.0 for each in HOOKS)
    return cost.get(part) or 0.0 if part in HOOKS else max(0.0, rest)


def _sides(documents: Mapping[str, dict]) -> list[tuple[str, dict, str]]:
    """(label, document, side) of the first one's baseline and every pruned side."""
    full = [("full", document, "baseline") for document in list(documents.values())[:1]]
    return full + [(name, document, "sdtp") for name, document in documents.items()]


def _peaks(group: Mapping[str, Mapping]) -> list[tuple[str, dict[int, float]]]:
    """(label, length -> GB) of the sides of latency documents, or of what `latency.memory.resident_peaks` gives."""
    documents = {name: source for name, source in group.items() if "results" in source}
    lines = [(name, series(document, side, "memory_gb")) for name, document, side in _sides(documents)]
    for name, rows in group.items():
        if name not in documents:
            peaks = {int(length): lookup(row, "peak_bytes") for length, row in rows.items()}
            lines.append((name, {length: peak / 1e9 for length, peak in sorted(peaks.items()) if peak}))
    return lines


def _line(axes, values: Mapping[int, float], **style) -> set[int]:
    """Draw length -> value; returns the lengths."""
    axes.plot(list(values), list(values.values()), **style)
    return set(values)


def _paper(axes, columns: Mapping[str, str]) -> set[int]:
    """Draw columns of Table 2, the first filled, by what they show; returns its lengths."""
    for (name, column), face in zip(columns.items(), (GREY, "white"), strict=False):
        look = {"linestyle": ":", "marker": "*", "markersize": 10, "color": GREY, "markerfacecolor": face}
        look |= {"markeredgecolor": GREY, "label": f"paper: Mistral-7B on its GPU, {name}"}
        _line(axes, {length: row[column] for length, row in paper.TABLE2.items()}, **look)
    return set(paper.TABLE2) if columns else set()


def _say(axes, what: str, values: Sequence[str]) -> None:
    if values:
        axes.set_title(f"{what}: {', '.join(values)}", loc="left", fontsize="small")


def _log_values(axes) -> None:
    """A log axis of values, with as many ticks as its range has room for; a linear one where there is room for none."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / low < 2.5:
        return axes.set_yscale("linear")
    subs = LOG_TICKS if high / low < 30 else (1, 2, 5) if high / low < 3000 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _length_name(tokens: int) -> str:
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)


def _finish(figure: Figure, axes, lengths: Collection[int], theirs: Collection[int] = ()) -> Figure:
    """The axis of prompt lengths, ours and the paper's, and the legend above it.

    A bar chart has named its own.
    """
    if not axes.patches:
        ticks = sorted({*lengths, *theirs})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [*map(_length_name, ticks)])
        axes.xaxis.set_minor_locator(NullLocator())
    if not lengths:
        axes.text(0.5, 0.5, "not measured here", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_xlabel("prompt (tokens)")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        order = sorted(range(len(labels)), key=lambda at: labels[at].startswith(LAST))
        handles, labels = ([entries[at] for at in order] for entries in (handles, labels))
        figure.legend(handles, labels, loc="outside upper center", ncols=_columns(labels), fontsize="small")
    return figure


def _columns(labels: list[str]) -> int:
    """As many columns as fit side by side; a legend fills them one after the other."""
    for columns in range(len(labels), 1, -1):
        blocks = np.array_split([len(label) for label in labels], columns)
        if sum(max(block) + LEGEND_HANDLE for block in blocks) <= LEGEND_WIDTH:
            return columns
    return 1
