"""Two rankings merged into one score."""

import pytest
import torch
from helpers import generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib import TokenPruning
from sdtp_lib.evaluation.oracle import OracleScorer
from sdtp_lib.pruning.scoring import ScoringContext
from sdtp_lib.pruning.selection import select
from sdtp_lib.scorers.blend import BlendScorer
from sdtp_lib.scorers.simple import HiddenNormScorer, RecencyScorer


class Given:
    """Scores that were written down beforehand."""

    looks_at_positions = False

    def __init__(self, scores):
        self.scores = torch.tensor(scores)

    def score(self, layer, hidden_states, context):
        return self.scores


def context_of(mask):
    return ScoringContext(torch.nn.Identity(), mask, None, None, 0)


def best(scores, keep):
    """Places of the highest scores of one row; equal scores: the later is better."""
    return set(select(torch.as_tensor(scores).float()[None], keep, 0, 0)[0].tolist())


@given(st.data())
def test_each_scorer_fills_its_share(data):
    tokens = data.draw(st.integers(2, 30))
    rows = [data.draw(st.lists(st.integers(-9, 9), min_size=tokens, max_size=tokens)) for _ in range(2)]
    keep, share = data.draw(st.integers(1, tokens)), data.draw(st.floats(0, 1))
    blend = BlendScorer(*(Given([[float(x) for x in row]]) for row in rows), share)
    mask = torch.ones(1, tokens, dtype=torch.bool)
    kept = best(blend.score(1, torch.zeros(1, tokens, 2), context_of(mask))[0], keep)
    if share in (0, 1):
        assert kept == best(rows[share == 0], keep)
    first, second = int(share * keep), int((1 - share) * keep)
    # Everything due by turn `keep` is taken: at least each side's own share.
    assert best(rows[0], first) <= kept if first else True
    assert best(rows[1], second) <= kept if second else True


def test_tokens_that_only_the_second_puts_high_are_kept():
    blend = BlendScorer(Given([[9.0, 8, 7, 0, 0, 0]]), Given([[0.0, 0, 0, 7, 8, 9]]), 0.5)
    scores = blend.score(1, torch.zeros(1, 6, 2), context_of(torch.ones(1, 6, dtype=torch.bool)))
    assert best(scores[0], 4) == {0, 1, 4, 5} and best(scores[0], 2) == {0, 5}


def test_pads_are_not_ranked_and_scores_without_a_place_are_told():
    mask = torch.tensor([[False, True, True, True]])
    blend = BlendScorer(Given([[99.0, 3, 2, 1]]), Given([[float("nan"), 1, 3, 2]]), 0.5)
    scores = blend.score(1, torch.zeros(1, 4, 2), context_of(mask))
    assert scores[0, 1:].tolist() == [-2, -2, -4] and scores[0, 1:].isfinite().all()
    for bad in (float("nan"), float("inf")):
        broken = BlendScorer(Given([[0.0, 3, bad, 1]]), Given([[0.0, 1, 3, 2]]), 0.5)
        assert broken.score(1, torch.zeros(1, 4, 2), context_of(mask))[0].isfinite().tolist() == [
            True,
            True,
            False,
            True,
        ]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_other_shares_are_refused(share):
    with pytest.raises(ValueError, match="share must be in"):
        BlendScorer(Given([[0.0]]), Given([[0.0]]), share)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_rows_of_a_padded_batch_keep_what_they_keep_alone(share):
    model, schedule = tiny_model("llama"), schedule_of()
    blend = BlendScorer(tiny_pruner(schedule.layers), HiddenNormScorer(), share)
    ids, mask = random_prompts([40, 23])
    with TokenPruning(schedule, blend)(model) as trace:
        generate(model, ids, mask)
    with TokenPruning(schedule, blend)(model) as alone:
        generate(model, ids[1:, 17:], mask[1:, 17:])
    for layer in schedule.layers:
        together = [c - 17 for c in trace.kept_positions[layer][1].tolist() if c >= 0]
        assert together == alone.kept_positions[layer][0].tolist()


def test_it_looks_at_positions_where_one_of_the_two_does():
    plain, looking = Given([[0.0]]), RecencyScorer()
    looking = type("Looking", (), {"score": looking.score})()  # says nothing, so it is given them
    assert not BlendScorer(plain, plain).looks_at_positions
    assert BlendScorer(plain, looking).looks_at_positions and BlendScorer(looking, plain).looks_at_positions


def test_it_costs_what_its_scorers_cost_and_checks_them():
    pruner = tiny_pruner((2, 5))
    assert BlendScorer(pruner, pruner).flops(10) == 2 * pruner.flops(10)
    assert (
        BlendScorer(pruner, pruner, 1.0).flops(10) == BlendScorer(pruner, RecencyScorer()).flops(10) == pruner.flops(10)
    )
    with pytest.raises(ValueError, match="hidden size"):
        with TokenPruning(schedule_of(layers=(2, 5)), BlendScorer(RecencyScorer(), tiny_pruner((2, 5), hidden=8)))(
            tiny_model("llama")
        ):
            pass
    with pytest.raises(ValueError, match="cannot be blended"):
        BlendScorer(OracleScorer(), pruner)
