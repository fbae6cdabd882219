"""What the question-aware module costs, on a shape small enough to time in a test."""

import pytest

from sdtp_lib.experiments.costs import question_costs
from sdtp_lib.experiments.costs.question_costs import costs_table, module_costs
from sdtp_lib.models.loading import SHAPES


@pytest.fixture
def tiny_shape(monkeypatch):
    shape = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=6, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=100, sliding_window=None, max_position_embeddings=4096)  # fmt: skip
    monkeypatch.setitem(SHAPES, "tiny", shape)
    monkeypatch.setattr(question_costs, "TIMED", "tiny")
    monkeypatch.setattr(question_costs, "REPEATS", 1)


def test_both_modules_are_counted_and_timed(tiny_shape):
    rows = module_costs(200)
    assert [row["method"] for row in rows] == ["paper", "question_aware"]
    paper, ours = rows
    assert 0 < paper["flops"] < ours["flops"] < 0.01  # of a 7B prefill
    assert all(0 < row["scoring"] < row["hooks"] < 1 for row in rows)
    assert "question_aware" in costs_table(rows)
