"""Plain against chunked MLPs, on both sides."""

import pytest
from helpers import tiny_model, tiny_pruner

from sdtp_lib.experiments.costs import chunk_costs as costs
from sdtp_lib.latency.chunked_mlp import chunked_mlp
from sdtp_lib.latency.sweep_plan import timed_run


def test_each_side_is_timed_plain_and_chunked_and_its_peak_read(monkeypatch):
    model, timed, asked = tiny_model("mistral"), [], []

    def watched(model, ids, new_tokens):
        run = timed_run(model, ids, new_tokens)
        timed.append(("forward" in vars(model.base_model.layers[0].mlp), run.kv_lengths[-1]))
        return run

    def peaks(config, lengths, chunk, seed, **loading):
        asked.append((config, lengths, chunk, loading))
        return {lengths[0]: {"peak_bytes": None if chunk and config == "none" else 5 * 10**8}}

    monkeypatch.setattr("sdtp_lib.latency.sweep_plan.timed_run", watched)
    monkeypatch.setattr(costs, "resident_peaks", peaks)
    rows = costs.chunk_costs(model, tiny_pruner((4, 5)), "keep07", 60, 16, repeats=1, model="tiny")
    assert sorted(timed) == sorted(2 * [(False, 60), (True, 60), (False, 29), (True, 29)])
    assert asked == [(name, [60], chunk, {"model": "tiny"}) for name in ("none", "keep07") for chunk in (None, 16)]
    assert [row["side"] for row in rows] == ["full", "pruned"]
    assert (rows[0]["plain GB"], rows[0]["chunked GB"]) == (0.5, None)
    assert all(row["plain"] > 0 and row["chunked"] > 0 for row in rows)
    table = costs.chunk_table(rows)
    assert "peak, change %" in table and " - |" in table  # what could not be read stays empty


def test_a_bad_size_is_named_before_anything_runs():
    with pytest.raises(ValueError, match="tokens must be a whole number of 1 or more, got 0"):
        chunked_mlp(tiny_model("mistral"), 0).__enter__()
    with pytest.raises(ValueError, match="unknown config 'keep42'"):
        costs.chunk_costs(None, None, "keep42", 60, 16)
