"""What share of dense attention a causal prefill computes, and where decode steps spend their time."""

import pytest
import torch
from helpers import schedule_of, tiny_model, tiny_pruner

from sdtp_lib.experiments.costs import causal_work as work
from sdtp_lib.experiments.costs.decode_steps import OPERATIONS, decode_steps, steps_table
from sdtp_lib.latency.flop_estimates import prefill_limit
from sdtp_lib.options import DECODES


def test_limits_between_causal_and_dense(monkeypatch):
    model, schedule, calls, times = tiny_model("llama"), schedule_of(), [], iter(range(1000))
    monkeypatch.setattr(work, "_now", lambda device: next(times) and sum(calls))

    def attention(module, query, key, value, mask, is_causal):
        calls.append(3.0 if is_causal else 4.0)
        assert query.shape == (1, 4, 30, 8) and key.shape == value.shape == (1, 2, 30, 8)

    monkeypatch.setattr(work, "sdpa_attention_forward", attention)
    row = work.attention_work(model, schedule, (30,))[30]
    assert (row["causal"], row["dense"], row["executed"]) == (3.0, 4.0, 0.75)
    assert row["prefill_causal"] == prefill_limit(model.config, schedule, 30)
    assert row["prefill_dense"] == prefill_limit(model.config, schedule, 30, causal=False)
    assert row["prefill_causal"] < row["prefill_executed"] < row["prefill_dense"]
    assert "75" in work.work_table({30: row})


def test_it_times_the_models_attention():
    found = work.attention_work(tiny_model("mistral", dtype=torch.bfloat16), schedule_of(), (20, 40), repeats=1)
    assert list(found) == [20, 40] and all(row["causal"] > 0 and row["dense"] > 0 for row in found.values())
    with pytest.raises(ValueError, match="this model runs 'eager'"):
        work.attention_work(tiny_model("llama", "eager"), schedule_of(), (20,))


def test_parts_of_a_decode_step_make_the_whole():
    model, schedule = tiny_model("llama"), schedule_of()
    rows = decode_steps(model, tiny_pruner(schedule.layers), schedule, (40,), steps=2)
    assert [(row["decode"], row["side"]) for row in rows] == [
        (decode, side) for decode in DECODES for side in ("full", "pruned")
    ]
    for row in rows:
        parts = [row[part] for part in (*OPERATIONS, "rest")]
        assert sum(parts) == pytest.approx(1) and min(parts) > 0 and row["seconds"] > 0
    assert "step, ms" in steps_table(rows)
    assert model.config._attn_implementation == "sdpa"
