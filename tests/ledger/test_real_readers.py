"""The real model's table: which rows answer a claim, and from which gap on one method is better than another."""

import pytest
from methods_file import methods_document

from sdtp_lib.ledger.findings import Status
from sdtp_lib.ledger.real_readers import LOW_MODULE, MODULE, RANDOM, Arm, flops_saved, is_better, measured, stays_close

PAPER, AWARE = ("sdtp", "paper"), ("sdtp", "question_aware")


@pytest.mark.parametrize(
    "needle, qa, status",
    [(90.0, 41.0, "HOLDS"), (90.0, 20.0, "FAILS"), (88.0, 41.0, "UNDECIDED"), (84.0, 41.0, "FAILS")],
)
def test_close_is_within_the_bar_on_every_task(needle, qa, status):
    document = methods_document(
        needle={"full": 90.0, PAPER: needle, "random": 16.0}, documents_qa={"full": 41.0, PAPER: qa}
    )
    found = stays_close(MODULE, 3.0)(document)
    assert found.status == Status[status] and f"one needle 90.0 to {needle}: {needle - 90:+.1f} [" in found.text
    assert found.n == "one needle 100, questions (F1) 100 records"
    assert found.chance == "random tokens, same schedule: one needle 16.0"


def test_scores_that_are_all_perfect_show_nothing():
    perfect = methods_document(needle={"full": 100.0, PAPER: 100.0})
    assert stays_close(MODULE, 3.0)(perfect).status == Status.CEILING
    assert stays_close(MODULE, 3.0)(methods_document(needle={"full": 100.0, PAPER: 98.5})).status == Status.UNDECIDED


@pytest.mark.parametrize("score, status", [(70.0, "HOLDS"), (62.0, "UNDECIDED"), (50.0, "FAILS")])
def test_better_is_above_by_more_than_the_intervals(score, status):
    found = is_better(MODULE, RANDOM)(methods_document(needle={"full": 90.0, PAPER: score, "random": 60.0}))
    assert found.status == Status[status] and f"{score - 60:+.1f} [" in found.text and found.chance == ""


def test_two_methods_are_compared_record_by_record_where_the_table_has_it():
    document = methods_document(needle={"full": 90.0, PAPER: 62.0, "random": 60.0})
    assert is_better(MODULE, RANDOM)(document).status == Status.UNDECIDED, "as if the records were not the same"
    for row in document["data"]:
        row["samples"] = row["method"]
        row["over"] = {"random": {"score": {"mean": 2.0, "ci95": [0.5, 3.5], "n": 100}}}
    found = is_better(MODULE, RANDOM)(document)
    assert found.status == Status.HOLDS and "+2.0 [+0.5, +3.5] over random" in found.text


@pytest.mark.parametrize("multi, status", [(60.0, "HOLDS"), (50.0, "FAILS")])
def test_better_on_one_task_and_worse_on_another_is_not_better(multi, status):
    document = methods_document(
        needle={"full": 90.0, PAPER: 80.0, "random": 20.0}, needle_multi={"full": 70.0, PAPER: multi, "random": 60.0}
    )
    assert is_better(MODULE, RANDOM)(document).status == Status[status]


@pytest.mark.parametrize("recency, status", [(50.0, "HOLDS"), (69.0, "UNDECIDED"), (80.0, "FAILS")])
def test_better_than_several_is_better_than_each(recency, status):
    document = methods_document(needle={"full": 90.0, AWARE: 70.0, PAPER: 40.0, "recency": recency})
    found = is_better(Arm("sdtp", design="question_aware"), MODULE, Arm("recency"))(document)
    assert found.status == Status[status] and "+30.0" in found.text and "over SDTP" in found.text


def test_a_module_is_found_by_its_design_over_its_seeds():
    scores = {"full": 90.0, ("sdtp", "paper-0"): 80.0, ("sdtp", "paper_seed1"): 84.0, AWARE: 10.0}
    scores |= {("sdtp", "paper_pooled"): 1.0, ("sdtp", "paper", ", pooled over 7"): 2.0}
    (cell,) = measured(methods_document(needle=scores), MODULE).values()
    assert (cell.seeds, cell.score.mean, cell.score.low, cell.score.high) == (2, 82.0, 78.0, 86.0)
    assert (cell.lost.mean, cell.lost.low, cell.lost.high) == (-8.0, -12.0, -4.0)
    assert stays_close(MODULE, 9.0)(methods_document(needle=scores)).n.endswith(
        "(2 seeds, intervals around all) records"
    )


def test_pooled_scores_are_a_method_of_their_own():
    scores = {"full": 90.0, PAPER: 80.0, (*PAPER, ", pooled over 7"): 85.0, "attention, pooled over 7": 60.0}
    document = methods_document(needle=scores)
    pooled, attention = Arm("sdtp, pooled over 7", design="paper"), Arm("attention, pooled over 7")
    assert measured(document, pooled)["needle"].score.mean == 85.0
    assert measured(document, attention)["needle"].score.mean == 60.0
    assert measured(document, Arm("attention")) == {}


def test_rows_of_another_schedule_length_or_task_are_not_taken():
    scores = {"full": 90.0, PAPER: 80.0}
    assert measured(methods_document(needle=scores), LOW_MODULE) == {}
    assert measured(methods_document(needle=scores, tokens=512), MODULE) == {}
    assert measured(methods_document(prose_nll=scores), MODULE) == {}
    both = methods_document(needle=scores)
    both["data"] += methods_document("low", needle={"full": 90.0, PAPER: 88.0})["data"]
    assert is_better(LOW_MODULE, MODULE)(both).status == Status.HOLDS
    assert is_better(LOW_MODULE, MODULE)(methods_document(needle=scores)) is None


def test_flops_are_those_of_this_model():
    found = flops_saved(methods_document(needle={"full": 90.0, "random": 1.0}))
    assert found.text == "33.3% at 1,024 tokens" and found.status == Status.HOLDS
    assert flops_saved(methods_document(needle={"full": 90.0})) is None
