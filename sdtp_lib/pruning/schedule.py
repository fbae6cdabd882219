"""Which layers cut, and how many tokens each of them keeps (the paper's schedule, and Table 1's SDTP-low)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from numbers import Real

PRESET_RATIOS = {"paper": 0.9, "keep09": 0.9, "keep08": 0.8, "keep07": 0.7, "low": 0.9}
# Beyond the paper, from `schedule_search` (notebook 10): layer -> keep ratio on the 14 layers of the demo model. Other
# models cut at the same fractions of their depth.
SEARCHED = {
    "fast": {3: 0.574, 5: 0.574, 7: 0.574, 9: 0.574, 11: 0.574},
    "fastest": {
        2: 0.372, 3: 0.665, 4: 0.731, 5: 0.768, 6: 0.792, 8: 0.81, 9: 0.824, 10: 0.835, 11: 0.844, 12: 0.852,
    },
}  # fmt: skip
SEARCHED_LAYERS = 14
PRESET_NAMES = (*PRESET_RATIOS, *SEARCHED, "none")
LOW_LAYERS = (4, 9, 14, 19, 24)  # SDTP-low
# Of a schedule that a pruner was tuned for: its FLOP ratio, such as 1.6, or what it costs.
TUNED_NAME = re.compile(r"\d+(\.\d+)?|free|fast|fastest")
CUTS = re.compile(r"(\d+,)*\d+:\d*\.?\d+|\d+:\d*\.?\d+(,\d+:\d*\.?\d+)*")  # as `named` reads them
SHALLOW = 24  # models of fewer layers get the stages spread out instead of every third layer


def is_name(text: str) -> bool:
    """Whether a text names a preset, or may name a schedule that some pruner was tuned for."""
    return text in PRESET_NAMES or TUNED_NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class PruningSchedule:
    """Stages of pruning: at the input of each of `layers` the tokens still present are cut to `keep_ratio` of them.

    Args:
        layers: 0-based decoder layers, strictly increasing, none below 1.
        keep_ratio: share of the tokens present that a stage keeps, in (0, 1]; or one for each stage.
        sink_tokens: the first tokens of a prompt, never cut.
        local_ratio: share of the tokens present, at the end of the prompt, never cut; in [0, 1].
        min_local_tokens: at least this many of the last tokens are never cut; the very last one never is.

    Raises:
        ValueError: if a value is outside its range; the message names it.
    """

    layers: tuple[int, ...]
    keep_ratio: float | tuple[float, ...] = 0.9
    sink_tokens: int = 4
    local_ratio: float = 0.1
    min_local_tokens: int = 16

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        if any(isinstance(x, bool) or not isinstance(x, int) for x in self.layers):
            raise ValueError(f"layers must be integers, got {self.layers}")
        if any(x < 1 for x in self.layers):
            raise ValueError(f"layers must be 1 or higher (layer 0 is never cut), got {self.layers}")
        if any(a >= b for a, b in pairwise(self.layers)):
            raise ValueError(f"layers must be strictly increasing, got {self.layers}")
        if isinstance(self.keep_ratio, Iterable) and not isinstance(self.keep_ratio, str):
            object.__setattr__(self, "keep_ratio", tuple(self.keep_ratio))
            if not self.layers or len(self.keep_ratio) != len(self.layers):
                raise ValueError(f"{len(self.layers)} stages need as many keep ratios, got {self.keep_ratio}")
        for ratio in self.ratios:
            if not isinstance(ratio, Real) or not 0 < ratio <= 1:  # also refuses NaN
                raise ValueError(f"keep_ratio must be in (0, 1], got {ratio!r}")
        if not 0 <= self.local_ratio <= 1:
            raise ValueError(f"local_ratio must be in [0, 1], got {self.local_ratio}")
        for name in ("sink_tokens", "min_local_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number, 0 or more, got {value}")

    @classmethod
    def preset(cls, name: str, num_layers: int, first: int = 4) -> PruningSchedule:
        """A named schedule for a model of `num_layers` layers.

        `paper`, `keep09`, `keep08`, `keep07` cut at 4, 7, 10, ...; `low` at 4, 9, 14, 19, 24; `none` nowhere. Models of
        fewer than 24 layers get ten (`low`: five) stages, or as many as fit, spread evenly from layer `first` on.
        `fast` and `fastest`, made for a scorer that reads the question, cut at fractions of the depth (SEARCHED).

        Raises:
            ValueError: for an unknown name, or a model with no layer from `first` on or too few for `fast`.
        """
        if name not in PRESET_NAMES:
            raise ValueError(f"unknown schedule {name!r}; known: {', '.join(PRESET_NAMES)}")
        if name == "none":
            return UNPRUNED
        if name in SEARCHED:
            return cls(tuple(SEARCHED[name]), tuple(SEARCHED[name].values())).stretched(SEARCHED_LAYERS, num_layers)
        if num_layers < SHALLOW:
            if first >= num_layers:
                raise ValueError(
                    f"a model of {num_layers} layers has no layer {first} to cut at; pass a smaller first="
                )
            stages = min(5 if name == "low" else 10, num_layers - first)
            return cls.spread(stages, num_layers, first, PRESET_RATIOS[name])
        layers = LOW_LAYERS if name == "low" else range(4, num_layers, 3)
        return cls(layers=tuple(x for x in layers if x < num_layers), keep_ratio=PRESET_RATIOS[name])

    @classmethod
    def named(cls, text: str, num_layers: int) -> PruningSchedule:
        """A preset by name, or cuts: 15:0.3 is one at layer 15 to 30%; 4,7:0.9 two to 90% each; 8:0.5,15:0.4 two to
        different shares.

        Raises:
            ValueError: for an unknown name, or cuts that are none.
        """
        if ":" not in text:
            return cls.preset(text, num_layers)
        if not CUTS.fullmatch(text):
            raise ValueError(f"schedule {text!r} names no cuts; they are written as 15:0.3 or 8:0.5,15:0.4")
        layers, ratios = zip(*(cut.split(":") if ":" in cut else (cut, "") for cut in text.split(",")), strict=True)
        each = ratios if all(ratios) else ratios[-1:]
        return cls(tuple(map(int, layers)), tuple(map(float, each)) if len(each) > 1 else float(each[0]))

    @classmethod
    def spread(cls, stages: int, num_layers: int, first: int, keep_ratio: float, **options) -> PruningSchedule:
        """`stages` cuts spread evenly from layer `first` on: the i-th at first + floor(i (L - first) / stages).

        Raises:
            ValueError: if there are more stages than layers to hold them, or a value is out of range.
        """
        if stages < 0 or stages > num_layers - first:
            raise ValueError(f"{stages} stages do not fit layers {first} to {num_layers - 1}")
        layers = tuple(first + i * (num_layers - first) // stages for i in range(stages))
        return cls(layers=layers, keep_ratio=keep_ratio, **options)

    def stretched(self, layers: int, num_layers: int) -> PruningSchedule:
        """The cuts of this schedule, made for `layers` layers, at the same fractions of `num_layers`.

        Raises:
            ValueError: if two cuts fall on one layer, or one on layer 0.
        """
        places = tuple(round(layer * num_layers / layers) for layer in self.layers)
        if places and (places[0] < 1 or any(a >= b for a, b in pairwise(places))):
            raise ValueError(f"cuts at {self.layers} of {layers} layers do not fit a model of {num_layers} layers")
        return replace(self, layers=places)

    def forced(self, present: int, sinks: bool = True) -> tuple[int, int]:
        """How many of `present` tokens are never cut: (at the start, at the end), together at most `present`."""
        local = min(present, max(self.min_local_tokens, math.floor(self.local_ratio * present), 1))  # generation's last
        return min(self.sink_tokens if sinks else 0, present - local), local

    @property
    def ratios(self) -> tuple[float, ...]:
        """The keep ratio of each stage; of a schedule without stages, the one it was given."""
        if isinstance(self.keep_ratio, tuple):
            return self.keep_ratio
        return (self.keep_ratio,) * max(1, len(self.layers))

    def keep(self, present: int, sinks: bool = True, layer: int | None = None, named: int = 0) -> int:
        """Tokens that the stage at `layer` (None: the first) keeps of `present`.

        It is max(floor(keep_ratio * present), forced), and at least one; `named` more are forced by the caller.
        """
        ratio = self.ratios[0 if layer is None else self.layers.index(layer)]
        return max(math.floor(ratio * present), min(present, sum(self.forced(present, sinks)) + named))

    def lengths(self, tokens: int, num_layers: int) -> list[int]:
        """Tokens present at each of `num_layers` layers for a prompt of `tokens` tokens.

        Raises:
            ValueError: for an empty prompt, or a stage beyond the model.
        """
        if tokens < 1:
            raise ValueError(f"a prompt needs at least one token, got {tokens}")
        self.check_model(num_layers)
        present, lengths = tokens, []
        for layer in range(num_layers):
            present = self.keep(present, layer=layer) if layer in self.layers else present
            lengths.append(present)
        return lengths

    def check_model(self, num_layers: int) -> None:
        """Raise ValueError if a stage lies beyond a model of `num_layers` layers."""
        if self.layers and self.layers[-1] >= num_layers:
            raise ValueError(
                f"schedule cuts at layer {self.layers[-1]}, but the model has layers 0 to {num_layers - 1}"
            )

    def compression(self, tokens: int, num_layers: int) -> float:
        """The paper's 1/tau: prompt tokens over the mean number of tokens present per layer."""
        return tokens * num_layers / sum(self.lengths(tokens, num_layers))

    def to_dict(self) -> dict:
        """Plain JSON values, as recorded in result files."""
        ratio = list(self.keep_ratio) if isinstance(self.keep_ratio, tuple) else self.keep_ratio
        return {**asdict(self), "layers": list(self.layers), "keep_ratio": ratio}


UNPRUNED = PruningSchedule((), 1.0)  # cuts nowhere
