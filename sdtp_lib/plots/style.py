"""What figures share: one style, a Figure that shows itself in any notebook, and saving that repeats byte for byte."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import matplotlib
import matplotlib.figure
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .. import paths, results
from ..markdown import Markdown

DPI = 100
PALETTE = sns.color_palette("colorblind").as_hex()
MARKERS = "osD^vPX*"
GREY = "#4d4d4d"
SEQUENTIAL = "viridis_r"  # light to dark, even in grey and to colour-blind eyes
BLUE, ORANGE, GREEN, RED, PINK, TAN, ROSE, ASH, YELLOW, SKY = PALETTE
# Method or schedule -> its colour and marker in every figure; the paper's own schedule looks like SDTP.
LOOKS = {
    "full": (GREY, "x"),
    "sdtp": (BLUE, "o"), "paper": (BLUE, "o"), "keep09": (BLUE, "o"), "sdtp-low": (SKY, "p"), "low": (SKY, "p"),
    "keep08": ("#8172b3", "s"), "keep07": ("#49006a", "D"),
    "question_aware": (GREEN, "P"), "attention": (ORANGE, "^"), "h2o": (TAN, "h"), "snapkv": (PINK, "<"),
    "recency": (ASH, "v"), "local": (ASH, "v"), "norm": (ROSE, "X"), "random": (RED, "s"), "oracle": ("black", "*"),
    "llmlingua2": (YELLOW, ">"), "strongest": ("#006d2c", "d"), "tuned": ("#006d2c", "d"),
    "bm25": ("#8c6d31", "H"),
}  # fmt: skip

F = TypeVar("F", bound=Callable[..., "Figure"])


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that no backend has to manage: a notebook shows it when it is a cell's last expression."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: matplotlib.figure.Figure) -> bytes:
    """The figure as PNG at DPI, without the version that matplotlib would write into it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options):
    """(figure, axes) of `width` x `height` inches; `options` go to `Figure.subplots`."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def styled(draw: F) -> F:
    """Decorator of a function that draws a figure: the project's style while it runs, the caller's settings after."""

    @wraps(draw)
    def inside(*args, **kwargs) -> Figure:
        style = {**sns.axes_style("whitegrid"), **sns.plotting_context("notebook", font_scale=0.9)}
        with matplotlib.rc_context({**style, "font.sans-serif": ["DejaVu Sans"], "legend.framealpha": 0.9}):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # matplotlib makes ticks when it first draws, which must be in this style
            figure.set_layout_engine("none")  # the layout would move by a pixel at the next drawing
        return figure

    return inside


def save_figure(figure: Figure, profile: str, name: str) -> Figure:
    """Write `<name>.png` into the profile's folder of figures, whole or not at all, and return the figure for display.

    Raises:
        ValueError: for a name that is not a plain file stem.
    """
    if not name or Path(name).name != name or name.endswith(".png"):
        raise ValueError(f"figure name must be a plain stem without .png, got {name!r}")
    results.write_bytes(paths.figures(profile) / f"{name}.png", png(figure))
    return figure


def save_figures(profile: str, figures: Mapping[str, Figure]) -> Markdown:
    """`save_figure` of several, and their names: for a run that is a check, whose pictures nobody concludes from."""
    for name, figure in figures.items():
        save_figure(figure, profile, name)
    return Markdown(f"Drawn into the profile's figures: {', '.join(f'`{name}`' for name in figures)}.")


def looks(names: Iterable[str]) -> list[dict]:
    """Colour and marker of methods and schedules, the same in every figure (LOOKS); of other names those left over.

    What stands before a comma, behind a plus or before `-pool` says which one it is: `keep09, float32`, `sdtp+h2o`
    and `attention-pool7` are drawn as keep09, h2o and attention, dashed.
    """
    names = [*names]
    bases = [re.split(r",|-pool\d+", name.lower())[0].rsplit("+")[-1].strip() for name in names]
    taken, found = {LOOKS[base][0] for base in bases if base in LOOKS}, []
    others = cycle([style for style in line_styles() if style["color"] not in taken] or line_styles())
    for name, base in zip(names, bases, strict=True):
        if base in LOOKS:
            colour, marker = LOOKS[base]
            found.append({"color": colour, "marker": marker, "linestyle": "-" if base == name.lower() else "--"})
        else:
            found.append(next(others))
    return found


def whiskers(axes: Axes, x: Sequence[float], means: Sequence[float], ends: Sequence[Sequence[float]], **look) -> None:
    """A line of points, each with an interval around it.

    Args:
        ends: (low, high) of each point.
        look: what `Axes.errorbar` takes besides.
    """
    spread = [[abs(mean - end[side]) for mean, end in zip(means, ends, strict=True)] for side in (0, 1)]
    axes.errorbar(x, means, yerr=spread, **{"capsize": 2, "elinewidth": 0.8, **look})


def line_styles(full: bool = False) -> list[dict]:
    """Line styles that differ in colour and marker; with `full` a grey one comes first."""
    styles = [{"color": colour, "marker": MARKERS[index % len(MARKERS)]} for index, colour in enumerate(PALETTE)]
    return [{"color": GREY, "marker": "x"}, *styles] if full else styles


def finish(figure: Figure, axes) -> Figure:
    """Whole numbers on a linear x axis, and the legend above the axes, where it hides nothing."""
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, loc="outside upper center", ncols=len(entries[0]), fontsize="small")
    return figure
