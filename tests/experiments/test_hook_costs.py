"""The hooks' own time: read inside them, and complete."""

import time

import pytest
import torch
from helpers import schedule_of, tiny_model, tiny_pruner

from sdtp_lib.experiments.costs.hook_costs import SHOWN, hook_costs, hook_overhead, hook_table

SLOW = 0.05  # seconds


class SlowScorer:
    """Takes a known time."""

    def score(self, layer, hidden_states, context):
        time.sleep(SLOW)
        return torch.zeros(hidden_states.shape[:2])


def test_time_is_found_in_the_hook_that_takes_it():
    schedule = schedule_of()
    found = hook_overhead(tiny_model(), SlowScorer(), schedule, 60, repeats=1)
    assert found["scoring"] >= 3 * SLOW
    assert found["scoring"] <= found["hooks"] <= found["prefill"]
    assert found["share"] == pytest.approx(found["hooks"] / found["prefill"])
    assert all(0 < found[part] < 3 * SLOW for part in ("selecting", "gathering", "telling"))
    parts = sum(found[part] for part in SHOWN)
    assert parts < found["hooks"]


def test_nothing_is_scored_where_nothing_is_cut():
    model, schedule = tiny_model(), schedule_of()
    found = hook_costs(model, tiny_pruner(schedule.layers), schedule, [60, 90], repeats=2)
    assert list(found) == ["nothing to cut", "keep 0.7"] and all(list(row) == [60, 90] for row in found.values())
    nothing, cut = (found[name][90] for name in found)
    assert nothing["scoring"] == nothing["telling"] == 0 < cut["scoring"]
    assert "hooks / prefill, %" in hook_table(found)
