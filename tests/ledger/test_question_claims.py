"""What notebook 10 must show: each reader's answer holds, or does not, by its own bar."""

import pytest

from sdtp_lib.ledger import question_claims as claims
from sdtp_lib.pruning.schedule import PruningSchedule


def curve(full, label, value, schedule="fast", n=100, **scores):
    plain = PruningSchedule.preset(schedule, 14).to_dict()
    return {
        "full": {"score": full},
        "layers": 14,
        "points": [
            {"method": method, label: value, "score": score, "n": n, "schedule": plain}
            for method, score in scores.items()
        ],
    }


@pytest.mark.parametrize(
    "score, schedule, holds", [(99.2, "fast", True), (98.8, "fast", False), (99.2, "paper", False)]
)
def test_ordinary_is_within_a_point_at_the_ratio(score, schedule, holds):
    made = curve(100.0, "preset", "fast", schedule, question_aware=score, paper=90.0, attention=80.0)
    found = claims.ordinary({"ordinary": made})
    assert found.holds == holds and f"{score - 100:+.1f} points" in found.text
    few = curve(100.0, "preset", "fast", n=10, question_aware=score, paper=90.0, attention=80.0)
    assert claims.ordinary({"ordinary": few}) is None


@pytest.mark.parametrize("papers, attention, holds", [(20.0, 29.0, True), (21.0, 29.0, False), (20.0, 31.0, False)])
def test_dense_gains_over_both(papers, attention, holds):
    made = curve(80.0, "ratio", 0.7, question_aware=30.5, paper=papers, attention=attention)
    assert claims.dense({"dense": made}).holds == holds
    assert claims.dense({"dense": curve(80.0, "ratio", 0.9, question_aware=30.5)}) is None


@pytest.mark.parametrize("attention, holds", [(60.0, True), (66.0, False)])
def test_pooled_scores_are_compared_at_one_width(attention, holds):
    made = curve(80.0, "width", 13, question_aware=65.0, paper=30.0, attention=attention)
    made["points"] += curve(80.0, "width", 1, question_aware=1.0, paper=90.0, attention=90.0)["points"]
    found = claims.pooled({"dense": made})
    assert found.holds == holds and "over 13 tokens" in found.text
    few = curve(80.0, "width", 13, n=10, question_aware=65.0, paper=30.0, attention=1.0)
    assert claims.pooled({"dense": few}) is None


@pytest.mark.parametrize("flops, scoring, holds", [(0.005, 0.01, True), (0.02, 0.01, False), (0.005, 0.03, False)])
def test_cost_is_that_of_the_question_aware_module(flops, scoring, holds):
    rows = [{"method": "paper", "tokens": 4096, "flops": 1.0, "scoring": 1.0}]
    rows.append({"method": "question_aware", "tokens": 4096, "flops": flops, "scoring": scoring})
    assert claims.cost(rows).holds == holds
    assert claims.cost([{**row, "tokens": 512} for row in rows]) is None


def test_a_second_question_costs_more_than_the_full_model_loses_too():
    def row(method, first, second):
        return {"method": method, "first": first, "second": second, "n": 40}

    full = row("full", 98.0, 80.0)
    assert claims.second([full, row("blend 0", 30.0, 28.0), row("blend 1", 60.0, 30.0)]).holds
    assert not claims.second([full, row("blend 0", 60.0, 30.0), row("blend 1", 30.0, 28.0)]).holds
    assert claims.second([full, row("blend 1", 60.0, 30.0)]) is None
