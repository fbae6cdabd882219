"""How long each token of a prompt survives: read from a trace, as a picture of coloured text."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.colors import to_hex

from .style import DPI, SEQUENTIAL, Figure, new_figure, styled

FONT, POINT = "DejaVu Sans Mono", 8
LINE = 120  # characters
LEGEND = "cut at the input of layer"
CHARACTER_WIDTH, LINE_HEIGHT = 7 / DPI, 1.75 * POINT / 72  # inches; glyphs fall on whole pixels
MARKS = {"Ġ": " ", "▁": " ", "Ċ": "↵", "\n": "↵", "\t": "→"}


def readable(token: str) -> str:
    """A token as people read it: byte-level and sentencepiece blanks as blanks, line ends and tabs visible."""
    return "".join(MARKS.get(character, character) for character in token)


def layer_colour(layer: int, num_layers: int) -> tuple[str, str]:
    """(background, text) as hex: light for tokens that leave early, dark for survivors."""
    background = matplotlib.colormaps[SEQUENTIAL](layer / max(1, num_layers - 1))
    light = 0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2]
    return to_hex(background), "#000000" if light > 0.42 else "#ffffff"


@styled
def survival_text(tokens: Sequence[str], last_layer: Sequence[int], num_layers: int) -> Figure:
    """The prompt as text on lines of at most LINE characters, each token on the colour of its last layer.

    Args:
        tokens: texts of the tokens.
        last_layer: the last layer that each is present at, 0-based, as `last_layers` gives it.

    Raises:
        ValueError: if the two differ in length, or a layer is not of the model.
    """
    _check(tokens, last_layer, num_layers)
    placed, line, column = [], 0, 0
    for token, layer in zip(tokens, last_layer, strict=True):
        text = readable(token)[:LINE]
        if column + len(text) > LINE:
            line, column = line + 1, 0
        placed.append((line, column, text, layer))
        line, column = (line + 1, 0) if text.endswith("↵") else (line, column + len(text))
    lines, legend = placed[-1][0] + 1, sorted(set(last_layer))
    width, height = (round(size + 0.2, 2) for size in (LINE * CHARACTER_WIDTH, (lines + 2) * LINE_HEIGHT))
    figure, axes = new_figure(width, height)
    figure.set_layout_engine("none")
    axes.set_position((0.1 / width, 0.1 / height, 1 - 0.2 / width, 1 - 0.2 / height))
    axes.set(xlim=(0, LINE), ylim=(lines + 2, 0))
    axes.axis("off")
    axes.text(0, 0.52, LEGEND, family=FONT, fontsize=POINT, va="center_baseline")
    column = len(LEGEND) + 1
    for layer in legend:
        text = " stays " if layer == num_layers - 1 else f" {layer + 1} "
        _box(axes, 0, column, text, layer, num_layers)
        column += len(text) + 1
    for row, start, text, layer in placed:
        _box(axes, row + 2, start, text, layer, num_layers)
    return figure


def _box(axes, line: float, column: float, text: str, layer: int, num_layers: int) -> None:
    background, colour = layer_colour(layer, num_layers)
    axes.add_patch(
        matplotlib.patches.Rectangle((column, line + 0.05), len(text), 0.9, facecolor=background, linewidth=0)
    )
    style = {"family": FONT, "fontsize": POINT, "color": colour, "va": "center_baseline", "parse_math": False}
    axes.text(column, line + 0.52, text, **style)


def _check(tokens: Sequence[str], last_layer: Sequence[int], num_layers: int) -> None:
    if not tokens or len(tokens) != len(last_layer):
        raise ValueError(f"{len(tokens)} tokens but {len(last_layer)} layers; both must be equally many, at least one")
    if min(last_layer) < 0 or max(last_layer) >= num_layers:
        raise ValueError(f"last layers must be 0 to {num_layers - 1}, got {min(last_layer)} to {max(last_layer)}")
