"""What the question-aware module costs beside the paper's: FLOPs on a real shape, time on a scaled-down one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...latency.flops import schedule_flops
from ...markdown import Markdown
from ...models.loading import load_model
from ...models.shapes import shape_config
from ...pruning.schedule import PruningSchedule
from ...results import markdown_table
from ...scorers.question_aware import QuestionAwarePruner
from ...scorers.token_pruner import TokenPruner
from .hook_costs import hook_overhead

TIMED = "scaled-mistral"  # in the dtype that is faster here
REPEATS = 3


def module_costs(tokens: int) -> list[dict]:
    """What the paper's module and the question-aware one cost under the paper's schedule, with random weights.

    Args:
        tokens: prompt length.

    Returns:
        For each: `method`, `tokens`, `flops` (share of Mistral-7B's pruned prefill), and of the prefill of TIMED the
        shares `scoring` and `hooks` (all that pruning adds, see `experiments.costs.hook_costs.hook_overhead`).
    """
    config, (network, _), rows = shape_config(), load_model(TIMED), []
    schedule = PruningSchedule.preset("paper", network.config.num_hidden_layers)
    for name, kind in (("paper", TokenPruner), ("question_aware", QuestionAwarePruner)):
        with torch.device("meta"):
            there = kind(config.hidden_size, schedule.layers)
        lengths = schedule.lengths(tokens, config.num_hidden_layers)
        cost = sum(there.flops(lengths[layer - 1]) for layer in schedule.layers)
        pruner = kind(network.config.hidden_size, schedule.layers).to(network.device, network.dtype)
        spent = hook_overhead(network, pruner.requires_grad_(False), schedule, tokens, REPEATS)
        rows.append({
            "method": name, "tokens": tokens,
            "flops": cost / schedule_flops(config, schedule, tokens, scoring=there.flops),
            "scoring": spent["scoring"] / spent["prefill"], "hooks": spent["share"],
        })  # fmt: skip
    return rows


def costs_table(rows: Sequence[Mapping[str, Any]]) -> Markdown:
    """What `module_costs` gave, in percent."""
    return Markdown(markdown_table([
        {"module": row["method"], "share of prefill FLOPs, %": 100 * row["flops"],
         "scoring, % of prefill time": 100 * row["scoring"], "all hooks, % of prefill time": 100 * row["hooks"]}
        for row in rows
    ]))  # fmt: skip
