"""Whether pruning is nearly free on a real model: a goal holds with all its parts alone."""

import pytest

from sdtp_lib.experiments.real.frontier import GOALS
from sdtp_lib.ledger.findings import Status
from sdtp_lib.ledger.free_claims import FREE, TUNED, WORDS, beats_words, nearly_free


def cell(mean, difference, low, high):
    return {"mean": mean, "ci95": [mean, mean], "difference": {"mean": difference, "ci95": [low, high]}}


def table(schedule="free", flops=1.63, found=98.0, nll=0.04, low=-2.0, tasks=("needle", "documents_qa")):
    rows = [
        {"tokens": 1024, "task": task, "schedule": schedule, "method": TUNED, "flops": flops, "n": 100,
         "score": cell(found, found - 100, found - 102, found - 98), "nll": cell(1, nll, nll - 0.1, nll + 0.1),
         "right": cell(45, 1, low, 4)}
        for task in tasks
    ]  # fmt: skip
    return {"data": rows}


@pytest.mark.parametrize(
    "changes, status",
    [
        ({}, Status.HOLDS), ({"flops": 1.59}, Status.FAILS), ({"found": 92.0}, Status.FAILS),
        ({"found": 95.0}, Status.UNDECIDED), ({"nll": 0.16}, Status.UNDECIDED), ({"nll": 0.26}, Status.FAILS),
        ({"low": -5.5}, Status.UNDECIDED), ({"low": -5.5, "nll": 0.26}, Status.FAILS),
    ],
)  # fmt: skip
def test_a_goal_holds_with_all_its_parts(changes, status):
    found = nearly_free("free")(table(**changes))
    assert found.status is status and "100 needles, 100 questions" in found.n and "at 1." in found.text


def test_longer_prompts_stand_beside():
    document = table()
    longer = {**document["data"][0], "tokens": 4096, "n": 25, "score": cell(24.0, -64.0, -80, -44)}
    document["data"].append(longer)
    assert nearly_free("free")(document).text.endswith("at 1.63x; at 4,096 tokens needles 24% of 25 (full 88%)")


def test_half_of_a_table_answers_nothing():
    assert nearly_free("free")(table(tasks=("needle",))) is None
    assert nearly_free("fast")(table()) is None


def test_there_is_a_claim_for_each_goal():
    assert [claim.where for claim in FREE] == [*(f"`{name}`" for name in GOALS), "Control"]
    said = "at 1,024 tokens 1.6x fewer FLOPs cost at most 5% of the needles, 0.15 nats, 5 points of spans"
    assert FREE[0].claim == said


@pytest.mark.parametrize(
    "low, high, status", [(-0.3, -0.1, Status.HOLDS), (-0.1, 0.1, Status.UNDECIDED), (0.1, 0.3, Status.FAILS)]
)
def test_a_score_is_held_to_words_alone(low, high, status):
    ours, words = (
        {"tokens": 1024, "task": "documents_qa", "schedule": "fast", "method": method, "n": 100, "samples": method}
        for method in (TUNED, WORDS)
    )
    assert beats_words("fast")({"data": [ours | {"over": {}}, words]}) is None
    ours["over"] = {WORDS: {"nll": {"mean": (low + high) / 2, "ci95": [low, high]}}}
    found = beats_words("fast")({"data": [ours, words]})
    assert found.status is status and found.n == "100 questions"
    assert beats_words("fast")({"data": [ours]}) is None
