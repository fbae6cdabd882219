"""What notebook 10 must show: each reader's answer holds, or does not, by its own bar."""

import pytest

from sdtp_lib.ledger import question_claims as claims
from sdtp_lib.ledger.findings import Status
from sdtp_lib.pruning.schedule import PruningSchedule


def curve(full, label, value, schedule="fast", n=100, **scores):
    plain = PruningSchedule.preset(schedule, 14).to_dict()
    return {
        "full": {"score": full},
        "layers": 14,
        "points": [
            {"method": method, label: value, "score": score, "ci95": [score - 2, score + 2], "n": n, "schedule": plain}
            for method, score in scores.items()
        ],
    }


@pytest.mark.parametrize(
    "full, score, schedule, status",
    [(90.0, 89.2, "fast", "HOLDS"), (90.0, 88.8, "fast", "FAILS"), (90.0, 89.2, "paper", "FAILS"),
     (100.0, 99.2, "fast", "CEILING"), (100.0, 99.2, "paper", "FAILS")],
)  # fmt: skip
def test_ordinary_is_within_a_point_at_the_ratio(full, score, schedule, status):
    made = curve(full, "preset", "fast", schedule, question_aware=score, paper=90.0, attention=80.0, random=50.0)
    found = claims.ordinary({"data": {"ordinary": made}})
    assert found.status == Status[status] and f"{score - full:+.1f} points" in found.text
    assert found.chance == "same schedule: random 50.0" and found.n == "100 records"
    few = curve(100.0, "preset", "fast", n=10, question_aware=score, paper=90.0, attention=80.0)
    assert claims.ordinary({"data": {"ordinary": few}}) is None


@pytest.mark.parametrize(
    "papers, attention, recency, status",
    [
        (20.0, 29.0, 30.0, "HOLDS"),
        (21.0, 29.0, 30.0, "FAILS"),
        (20.0, 31.0, 30.0, "FAILS"),
        (20.0, 29.0, 31.0, "FAILS"),
    ],
)
def test_dense_gains_over_every_score_but_the_oracle(papers, attention, recency, status):
    others = {"paper": papers, "attention": attention, "recency": recency, "oracle": 70.0}
    found = claims.dense({"data": {"dense": curve(80.0, "ratio", 0.7, question_aware=30.5, **others)}})
    assert found.status == Status[status] and found.chance == f"same schedule: recency {recency}"
    assert claims.dense({"data": {"dense": curve(80.0, "ratio", 0.9, question_aware=30.5)}}) is None


@pytest.mark.parametrize("attention, status", [(60.0, "HOLDS"), (66.0, "UNDECIDED"), (70.0, "FAILS")])
def test_pooled_scores_are_compared_at_one_width(attention, status):
    made = curve(80.0, "width", 13, question_aware=65.0, paper=30.0, attention=attention)
    made["points"] += curve(80.0, "width", 1, question_aware=1.0, paper=90.0, attention=90.0)["points"]
    found = claims.pooled({"data": {"dense": made}})
    assert found.status == Status[status] and "over 13 tokens" in found.text
    few = curve(80.0, "width", 13, n=10, question_aware=65.0, paper=30.0, attention=1.0)
    assert claims.pooled({"data": {"dense": few}}) is None


@pytest.mark.parametrize("flops, scoring, holds", [(0.005, 0.01, True), (0.02, 0.01, False), (0.005, 0.03, False)])
def test_cost_is_that_of_the_question_aware_module(flops, scoring, holds):
    rows = [{"method": "paper", "tokens": 4096, "flops": 1.0, "scoring": 1.0}]
    rows.append({"method": "question_aware", "tokens": 4096, "flops": flops, "scoring": scoring})
    assert claims.cost({"data": rows}).status == Status.of(holds)
    assert "at 4,096 tokens" in claims.cost({"data": rows}).text
    short = [{**row, "tokens": 256} for row in rows]
    assert claims.cost({"data": short}) is None


def test_a_second_question_costs_more_than_it_costs_the_paper_s_module():
    def row(method, first, second):
        ends = {f"{which}_ci95": [mean - 2, mean + 2] for which, mean in (("first", first), ("second", second))}
        return {"method": method, "first": first, "second": second, "n": 40, **ends}

    full = row("full", 98.0, 80.0)

    def found(*rows):
        return claims.second({"data": [full, *rows]})

    assert found(row("blend 0", 30.0, 28.0), row("blend 1", 60.0, 30.0)).status == Status.HOLDS
    assert found(row("blend 0", 60.0, 30.0), row("blend 1", 30.0, 28.0)).status == Status.FAILS
    close = found(row("blend 0", 60.0, 58.0), row("blend 1", 60.0, 57.0))  # each of four means is 2 points wide
    assert close.status == Status.UNDECIDED and close.text.endswith("it falls by +1.0 [-3.0, +5.0] points more")
    assert found(row("blend 1", 60.0, 30.0)) is None
