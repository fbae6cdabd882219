"""Other ways to spend the same budget of keys, timed in the same run: one early cut, attention scores, a smaller cache.

They stand for kinds of methods, not for the published systems, whose kernels and settings differ.
"""

from __future__ import annotations

from statistics import median

from tqdm import tqdm
from transformers import PreTrainedModel

from ...evaluation.presses import load_press
from ...latency.sweep_plan import Context, Plan, alternate
from ...markdown import Markdown
from ...pruning.context import TokenPruning
from ...pruning.schedule import PruningSchedule
from ...pruning.scoring import Scorer
from ...results import markdown_table
from ...scorers.attention import LastWindowAttentionScorer

FILTER_DEPTH = 13 / 32  # GemFilter filters Llama-3.1-8B at layer 13 of 32
FULL = "full model"


def peers(config, pruner: Scorer, schedule: PruningSchedule, tokens: int) -> dict[str, Context]:
    """Name -> context, each leaving about as many keys over all layers of a prompt of `tokens` tokens as `schedule`.

    Args:
        config: of the model.
        pruner: of the first side, SDTP itself.

    Raises:
        ValueError: if one early cut cannot reach the schedule's budget.
    """
    layers = config.num_hidden_layers
    share = sum(schedule.lengths(tokens, layers)) / (layers * tokens)
    attention = LastWindowAttentionScorer()
    sides: dict[str, Context] = {
        "SDTP": TokenPruning(schedule, pruner),
        "attention scores, same stages (LazyLLM, FastV)": TokenPruning(schedule, attention),
        "attention scores, one early cut (GemFilter, FastKV)": TokenPruning(one_cut(layers, share), attention),
    }
    if press := load_press("SnapKVPress", compression_ratio=1 - share):
        sides["cache alone (SnapKV by kvpress)"] = press
    return sides


def one_cut(layers: int, share: float) -> PruningSchedule:
    """A single cut at GemFilter's depth that leaves `share` (0 to 1) of the keys over all layers.

    Raises:
        ValueError: if the layers below the cut alone hold more than that.
    """
    layer = max(1, round(FILTER_DEPTH * layers))
    ratio = (share * layers - layer) / (layers - layer)
    if ratio <= 0:
        raise ValueError(f"one cut at layer {layer} of {layers} cannot leave only {share:.0%} of the keys")
    return PruningSchedule((layer,), min(ratio, 1.0))


def compare_peers(
    model: PreTrainedModel, pruner: Scorer, config: str, tokens: int, repeats: int = 3, new_tokens: int = 128,
    seed: int = 0,
) -> dict[str, dict]:  # fmt: skip
    """Time the full model and every peer in turns on one random prompt, and read their caches.

    Args:
        config: preset of the schedule whose budget all share.
        tokens: of the prompt; batch 1.

    Returns:
        name -> {prefill, decode, total: median seconds; prefill x, total x: speedups; keys: share of the full cache}.

    Raises:
        ValueError: as `Plan` and `peers`.
    """
    plan = Plan("end2end", [config], [tokens], repeats=repeats, new_tokens=new_tokens, seed=seed)
    schedule = PruningSchedule.preset(config, model.config.num_hidden_layers)
    sides = {FULL: None, **peers(model.config, pruner, schedule, tokens)}
    with tqdm(total=len(sides) * (repeats + 1), unit="run", desc=f"peers at {tokens} tokens") as bar:
        runs = alternate(model, sides, tokens, plan, bar)
    rows = {}
    for name, timed in runs.items():
        seconds = {part: median(getattr(run, part) for run in timed) for part in ("prefill", "decode", "total")}
        rows[name] = {**seconds, "keys": sum(timed[0].kv_lengths) / (tokens * len(timed[0].kv_lengths))}
    for row in rows.values():
        row.update({f"{part} x": rows[FULL][part] / row[part] for part in ("prefill", "total")})
    return rows


def peers_table(found: dict[str, dict]) -> Markdown:
    """What `compare_peers` gave, as a table."""
    columns = {"prefill": "Prefill (s)", "decode": "Decode (s)", "prefill x": "Prefill x", "total x": "End2End x"}
    return Markdown(markdown_table([
        {"Method": name} | {title: row[key] for key, title in columns.items()} | {"KV kept, %": 100 * row["keys"]}
        for name, row in found.items()
    ], {"KV kept, %": 0}))  # fmt: skip
