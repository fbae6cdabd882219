"""The pruning explorer as one self-contained HTML page: no server, no network, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import paths
from ..html_page import content_hash, templates

LEVELS = (1 / 4, 1 / 8, 1 / 16, 1 / 32)  # shares of the tokens, by saliency, that are coloured ever more strongly
SHARE = 100_000
# A control character would vanish, or turn the text around it: shown as its number instead.
CONTROLS = [*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
VISIBLE = {code: f"⟨{code:04X}⟩" for code in CONTROLS} | {ord("\n"): "↵\n", ord("\t"): "→\t", ord("\r"): "⟨000D⟩"}


@dataclass(frozen=True, repr=False)
class ExplorerPage:
    """A page that a notebook shows in a frame of its own, so that no style or script meets the notebook's."""

    html: str
    height: int = 860  # of the frame, in CSS pixels

    def _repr_html_(self) -> str:
        return templates().get_template("frame.html").render(html=self.html, height=self.height)

    def __repr__(self) -> str:
        return "ExplorerPage"


def page(found: Mapping) -> str:
    """The page of what `explorer.content.exploration` gives (and `schedule_name`, if it is there).

    Raises:
        KeyError, ValueError: for data laid out otherwise.
    """
    environment, data = templates(), packed(found)
    stages = _stages(found)
    style = environment.get_template("explorer.css").render(depth=found["num_layers"], stages=stages)
    script = (paths.TEMPLATES / "explorer.js").read_text(encoding="utf-8")
    first = found["runs"][0]
    shown = [text.translate(VISIBLE) for text in found["tokens"]]
    return environment.get_template("explorer.html").render(
        found=found, data=data, stages=stages, first=first, schedule=found.get("schedule_name"), levels=LEVELS,
        tokens=list(zip(shown, first["last_layer"], strict=True)), depth=found["num_layers"],
        style=Markup(style), script=Markup(script), style_hash=content_hash(style), script_hash=content_hash(script),
    )  # fmt: skip


def packed(found: Mapping) -> dict:
    """What the page's script needs, as short as JSON gets: scores of the tokens present alone, and saliency
    in whole parts, `SHARE` of them for a layer's largest, at the stages alone."""
    runs = [
        {
            "name": run["name"], "pruner": run.get("pruner"), "last": run["last_layer"], "present": run["present"],
            "agreement": _short(run["agreement"]),
            "stages": [{**stage, "scores": _short(score for score in stage["scores"] if score is not None)}
                       for stage in run["stages"]],
        }
        for run in found["runs"]
    ]  # fmt: skip
    stages, saliency = _stages(found), None
    if found["saliency"]:
        values = found["saliency"]["values"]
        parts = {layer: _parts(values[layer]) for layer in stages}
        saliency = {"levels": [levels(row) for row in values], "values": parts}
    sizes = {"depth": found["num_layers"], "tokens": len(found["tokens"]), "share": SHARE}
    return {**sizes, "runs": runs, "saliency": saliency}


def levels(values: Sequence[float]) -> str:
    """One digit per token: into how many of `LEVELS`, shares of the tokens by saliency, it comes; at least one token
    comes into each. Of equal values the later one comes first; what has none comes into none."""
    order = sorted(range(len(values)), key=lambda column: (values[column], column), reverse=True)
    digits = ["0"] * len(values)
    for digit, share in enumerate(LEVELS, start=1):
        for column in order[: max(1, round(share * len(values)))]:
            digits[column] = str(digit if values[column] > 0 else 0)
    return "".join(digits)


def _stages(found: Mapping) -> list[int]:
    """The layers of all cuts."""
    return sorted({stage["layer"] for run in found["runs"] for stage in run["stages"]})


def _parts(values: Sequence[float]) -> list[int]:
    largest = max(values) or 1
    return [round(SHARE * value / largest) for value in values]


def _short(numbers) -> list[float] | None:
    """Four digits are more than anyone compares by eye."""
    return None if numbers is None else [float(f"{number:.4g}") for number in numbers]
