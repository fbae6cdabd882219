"""What chunked MLPs cost in time and save in memory, full and pruned model alike, plain and chunked in turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel

from ...latency.chunked_mlp import chunked_mlp
from ...latency.memory import resident_peaks
from ...latency.sweep_plan import Plan, alternate
from ...markdown import Markdown
from ...pruning.context import TokenPruning
from ...pruning.schedule import PruningSchedule
from ...pruning.scoring import Scorer
from ...results import markdown_table


def chunk_costs(
    network: PreTrainedModel, scorer: Scorer, config: str, tokens: int, chunk: int, repeats: int = 3, seed: int = 0,
    **loading,
) -> list[dict]:  # fmt: skip
    """Prefill seconds and peak memory at one length: both sides plain, and both sides chunked.

    Args:
        network: the loaded model.
        scorer: of the pruned side.
        config: preset of its schedule.
        tokens: of the prompt; batch 1.
        chunk: tokens for `chunked_mlp`.
        loading: `model`, `dtype`, `pruner`, `revision` by which a fresh process loads the same, for the peaks on a CPU.

    Returns:
        A dict for full and pruned: side, plain and chunked: median seconds, plain GB and chunked GB (1e9 bytes; None
        where it cannot be read).

    Raises:
        ValueError: as `Plan`, `chunked_mlp`.
    """
    plan = Plan("prefill", [config], [tokens], repeats=repeats, seed=seed)
    pruning = TokenPruning(PruningSchedule.preset(config, network.config.num_hidden_layers), scorer)
    sides = {
        ("full", None): None,
        ("full", chunk): partial(chunked_mlp, tokens=chunk),
        ("pruned", None): pruning,
        ("pruned", chunk): partial(_both, pruning, chunk),
    }
    with tqdm(total=len(sides) * (repeats + 1), unit="run", desc=f"chunks at {tokens} tokens") as bar:
        runs = alternate(network, sides, tokens, plan, bar)
    rows = []
    for side, name in (("full", "none"), ("pruned", config)):
        row = {"side": side}
        for kind, size in (("plain", None), ("chunked", chunk)):
            timed = runs[side, size]
            row[kind] = median(run.prefill for run in timed)
            if timed[0].peak_bytes is None:
                peak = resident_peaks(config=name, lengths=[tokens], chunk=size, seed=seed, **loading)
                peak = peak[tokens]["peak_bytes"]
            else:
                peak = max(run.peak_bytes for run in timed)
            row[f"{kind} GB"] = None if peak is None else peak / 1e9
        rows.append(row)
    return rows


def chunk_table(found: list[dict]) -> Markdown:
    """What `chunk_costs` gave, with the change in percent."""
    rows = []
    for row in found:
        shown = {"": row["side"]}
        for unit, plain, chunked in (("prefill, s", "plain", "chunked"), ("peak, GB", "plain GB", "chunked GB")):
            before, after = row[plain], row[chunked]
            known = before is not None and after is not None
            shown |= {f"{unit}, plain": before, f"{unit}, chunked": after}
            shown[f"{unit.split(',')[0]}, change %"] = 100 * (after / before - 1) if known else None
        rows.append(shown)
    return Markdown(markdown_table(rows, {"prefill, change %": 0, "peak, change %": 1}))


@contextmanager
def _both(pruning: TokenPruning, chunk: int, model: nn.Module) -> Iterator[None]:
    with chunked_mlp(model, chunk), pruning(model):
        yield
