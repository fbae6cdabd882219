"""Scores pooled over neighbours."""

import pytest
import torch
from helpers import assert_rows_keep_what_they_keep_alone, random_prompts, schedule_of, tiny_model, tiny_pruner
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib import PooledScorer, TokenPruning
from sdtp_lib.evaluation.oracle import OracleScorer
from sdtp_lib.pruning.scoring import ScoringContext


class Given:
    looks_at_positions = False

    def __init__(self, scores):
        self.scores = scores

    def score(self, layer, hidden_states, context):
        return self.scores


def pooled(scores, mask, width):
    context = ScoringContext(torch.nn.Identity(), mask, None, None, 0)
    return PooledScorer(Given(scores), width).score(1, scores[..., None], context)


@given(st.data())
def test_a_token_gets_the_mean_of_its_real_neighbours(data):
    tokens, pads = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 4))
    width = 2 * data.draw(st.integers(0, 6)) + 1
    values = data.draw(st.lists(st.integers(-9, 9), min_size=tokens, max_size=tokens))
    scores = torch.tensor([[99.0] * pads + [float(x) for x in values]])
    mask = torch.tensor([[False] * pads + [True] * tokens])
    found = pooled(scores, mask, width)[0, pads:]
    half = width // 2
    around = [values[max(0, i - half) : i + half + 1] for i in range(tokens)]
    assert found.tolist() == pytest.approx([sum(some) / len(some) for some in around], abs=1e-4)


def test_a_score_that_is_not_finite_is_still_told():
    scores = torch.tensor([[1.0, float("nan"), 2.0, float("inf"), 0.0, 0.0, 0.0]])
    found = pooled(scores, torch.ones(1, 7, dtype=torch.bool), 3)
    assert not found[0, 1].isfinite() and not found[0, 3].isfinite()


def test_a_padded_batch_keeps_what_each_row_keeps_alone():
    model, schedule = tiny_model(), schedule_of(0.5)
    pruning = TokenPruning(schedule, PooledScorer(tiny_pruner(schedule.layers), 5))
    ids, mask = random_prompts((40, 23, 31))
    assert_rows_keep_what_they_keep_alone(model, pruning, ids, mask)


def test_bad_input_is_named():
    for width in (0, 2, True, 1.5):
        with pytest.raises(ValueError, match="width must be an odd"):
            PooledScorer(Given(None), width)
    with pytest.raises(ValueError, match="cannot be pooled"):
        PooledScorer(OracleScorer())


def test_it_costs_what_the_scorer_costs_and_the_sums():
    pruner = tiny_pruner((2,))
    assert PooledScorer(pruner, 5).flops(10) == pruner.flops(10) + 50
    with pytest.raises(ValueError, match="hidden size"):
        PooledScorer(pruner, 5).check(3, (2,))
