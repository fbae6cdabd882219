"""The paper's Table 6 in kind: a cache compressed by kvpress alone, and on top of pruning, on LongBench records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paper
from ..evaluation.answers import score_records
from ..evaluation.bootstrap import summarise
from ..evaluation.paired_differences import paired_differences
from ..evaluation.presses import load_press
from ..evaluation.sample_files import SampleFile, run_settings
from ..markdown import Markdown, interval_text, paper_ours
from ..models.named_schedules import resolve_schedule
from ..pruning.context import TokenPruning
from ..pruning.families import ModelAdapter
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer
from ..pruning.trace import PruningTrace
from ..results import markdown_table

KEPT = 0.4  # of the cache, as in Table 6
# Name -> class of kvpress and its settings. The window of SnapKV must fit a pruned demo prompt.
PRESSES = {
    "local": ("StreamingLLMPress", {"n_sink": 4}),
    "h2o": ("ObservedAttentionPress", {}),
    "snapkv": ("SnapKVPress", {"window_size": 16}),
}
CODE = ("experiments/table6_kv_compression.py", "evaluation/presses.py")  # decides the samples as well
EAGER = ("h2o",)  # presses that read attention weights, which eager attention alone gives


@dataclass(frozen=True)
class Compressed:
    """A context like `TokenPruning` in which a press compresses every layer's cache once, after the prefill.

    Layers with a sliding window are left alone: their cache holds no more than the window anyway.

    Args:
        press: of kvpress.
        pruning: what prunes the prompt first, or None.
    """

    press: Any
    pruning: TokenPruning | None = None

    @contextmanager
    def __call__(self, model: nn.Module) -> Iterator[PruningTrace | None]:
        """Compress inside the block; the trace is that of the pruning. Raises ValueError as `pressed_attention`."""
        with ExitStack() as stack:
            trace = stack.enter_context(self.pruning(model)) if self.pruning else None
            for module in pressed_attention(model):
                stack.callback(module.register_forward_hook(self.press.forward_hook, with_kwargs=True).remove)
            yield trace


def pressed_attention(model: nn.Module) -> list[nn.Module]:
    """The attention modules whose caches a press compresses.

    Raises:
        ValueError: if there are none: ALiBi models, and those that slide a window in every layer.
    """
    adapter = ModelAdapter.of(model)
    layers = [layer for index, layer in enumerate(adapter.layers) if adapter.window(index) is None]
    if not layers or adapter.rotary is None:
        raise ValueError(f"kvpress compresses no cache of {type(model).__name__}: all windows, or ALiBi")
    return [layer.self_attn for layer in layers]


def score_compressed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    pruner: Scorer,
    schedule: str | PruningSchedule = "paper",
    kept: float = KEPT,
    presses: Sequence[str] = tuple(PRESSES),
    *,
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    resume: bool = True,
    **options,
) -> dict[str, dict]:
    """Score records under the full model, SDTP, each press alone, and SDTP with each press on top.

    One prompt at a time: presses take pads for tokens, so the engine refuses padded batches with them. A press that
    reads attention weights runs with eager attention, alone and on top; all else as the model is set.

    Args:
        pruner: of SDTP.
        kept: share of each layer's cache that a press leaves, in (0, 1].
        presses: names of PRESSES.
        seed: of the bootstrap.
        folder, resume: see `measure`; the files are called `kv_<name>.jsonl`.
        options: `templates` of `score_records`.

    Returns:
        "full", "sdtp", and for each press "local", "sdtp+local", ... -> what `summarise` gives, and `cache` (keys left
        after the prefill, as a share of the full model's), `against_full` (see `paired_differences`) and, of SDTP with
        a press, `against_press`: the same against the press alone.

    Raises:
        ValueError: for an unknown press, a share outside (0, 1], a model whose cache kvpress does not compress, or
            where kvpress is missing or does not run; before the model does.
    """
    if not 0 < kept <= 1:
        raise ValueError(f"kept must be in (0, 1], got {kept}")
    if unknown := [name for name in presses if name not in PRESSES]:
        raise ValueError(f"unknown press {unknown[0]!r}; known: {', '.join(PRESSES)}")
    pressed_attention(model)
    pruning = TokenPruning(resolve_schedule(schedule, model), pruner)
    sides: dict[str, tuple[TokenPruning | None, str | None]] = {"full": (None, None), "sdtp": (pruning, None)}
    loaded: dict[str | None, Any] = {None: None}
    for name in presses:
        kind, settings = PRESSES[name]
        loaded[name] = load_press(kind, compression_ratio=1 - kept, **settings)
        if loaded[name] is None:
            raise ValueError("kvpress is missing or does not run here; install it with: pip install 'sdtp_lib[kv]'")
        sides |= {name: (None, name), f"sdtp+{name}": (pruning, name)}
    found, samples = {}, {}
    for title, (cut, name) in sides.items():
        context = Compressed(loaded[name], cut) if name else cut
        with attention(model, "eager" if name in EAGER else model.config._attn_implementation):
            file = None
            if folder is not None:
                used = cut.schedule if cut else resolve_schedule("none", model)
                settings = run_settings(model, title, used, pruner if cut else None, CODE, kept=kept if name else 1.0)
                file = SampleFile(Path(folder) / f"kv_{title}.jsonl", settings, resume)
            samples[title] = score_records(
                model, tokenizer, records, context, batch_size=1, title=title, file=file, **options
            )
        share = cache_share(samples[title], ModelAdapter.of(model), kept if name else 1.0)
        found[title] = {**summarise(samples[title], seed), "cache": round(share, 4)}
        found[title]["against_full"] = paired_differences(samples["full"], samples[title], seed)
        if cut and name:
            found[title]["against_press"] = paired_differences(samples[name], samples[title], seed)
    return found


def compression_table(found: Mapping[str, dict]) -> Markdown:
    """What `score_compressed` gave: score, cache, paired differences from the full model and from the press alone."""
    rows = []
    for name, row in found.items():
        shown = {"": name, "score": row["average"], "keys left, %": 100 * row["cache"], "n": _count(row)}
        for title, key in (("- full", "against_full"), ("- press alone", "against_press")):
            cell = row.get(key, {}).get("average") if name != "full" else None
            shown[title] = cell["difference"] if cell else None
            shown[f"{title}, 95%"] = interval_text(cell["ci95"], sign=True) if cell else None
        rows.append(shown)
    return Markdown(markdown_table(rows, digits=1))


def against_paper(found: Mapping[str, dict]) -> Markdown:
    """Points lost against the full model: Table 6's mean over its four tasks, and ours; then what SDTP adds to H2O."""
    theirs = {column: mean(row[column] for row in paper.TABLE6.values()) for column in paper.TABLE6_COLUMNS}
    names = {"local 40%": "local", "H2O 40%": "h2o", "SDTP + H2O 40%": "sdtp+h2o"}
    full = found["full"]["average"]
    rows = [(title, theirs[title] - theirs["full"], found[name]["average"] - full) for title, name in names.items()]
    added = [lost[title] for lost in (theirs, {t: found[n]["average"] for t, n in names.items()}) for title in names]
    return paper_ours([*rows, ("SDTP on top of H2O, against H2O alone", added[2] - added[1], added[5] - added[4])])


def _count(row: Mapping) -> int:
    return sum(task["n"] for task in row["tasks"].values())


def cache_share(samples: Sequence[dict], adapter: ModelAdapter, kept: float) -> float:
    """Keys in all layers' caches after the prefill, as a share of those of the full model, over all samples.

    Args:
        samples: of `score_records`.
        kept: share that a press leaves of every layer without a sliding window.
    """
    layers = range(len(adapter.layers))
    held = sum(_held(adapter, i, s["tokens_per_layer"][i], kept) for s in samples for i in layers)
    return held / sum(_held(adapter, i, s["prompt_tokens"], 1.0) for s in samples for i in layers)


def _held(adapter: ModelAdapter, layer: int, tokens: int, kept: float) -> int:
    """Keys that a layer's cache holds of `tokens`; a window's cache spares the one that is about to come."""
    window = adapter.window(layer)
    return max(1, int(tokens * (1 - (1 - kept)))) if window is None else min(tokens, window - 1)  # as kvpress rounds


@contextmanager
def attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Another attention function for a while."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
