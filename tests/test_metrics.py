"""LongBench's kinds of metric against values worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib.evaluation.metrics import (
    CATEGORIES,
    DATASETS,
    LONGBENCH,
    METRICS,
    MINI,
    accuracy,
    edit_similarity,
    expand_tasks,
    normalise,
    rouge_l,
    score,
    token_f1,
)


@pytest.mark.parametrize(
    "prediction, answer, value",
    [(" Lisbon.", "Lisbon", 1.0), ("the City of Lisbon", "Lisbon", 0.5), ("", "Lisbon", 0.0), ("Oslo", "Lisbon", 0.0),
     ("red red fox", "red fox", 0.8)],
)  # fmt: skip
def test_token_f1(prediction, answer, value):
    assert token_f1(prediction, answer) == pytest.approx(value)


def test_squad_normalisation():
    assert normalise("The  Cat's, a (big) An\ndog!") == ["cats", "big", "dog"]
    assert normalise("Athens") == ["athens"]  # articles go as words only


@pytest.mark.parametrize(
    "prediction, answer, value",
    [("to open the market in Oslo.", "to open the market in Oslo.", 1.0), ("a b c d", "a x c", 4 / 7), ("", "a", 0.0)],
)
def test_rouge_l(prediction, answer, value):
    assert rouge_l(prediction, answer) == pytest.approx(value)


@pytest.mark.parametrize(
    "prediction, answer, value",
    [("teal", "teal", 1.0), ("Type: teal or red", "teal", 0.5), ("blue", "teal", 0.0), ("", "teal", 0.0),
     ("Other location", "Other location", 1.0), ("location", "Other location", 0.0)],
)  # fmt: skip
def test_accuracy(prediction, answer, value):
    assert accuracy(prediction, answer, ["teal", "red", "blue", "location", "Other location"]) == pytest.approx(value)


def test_accuracy_drops_every_class_that_is_part_of_the_answers_name():
    assert accuracy("Other location here", "Other location here", ["Other", "location", "Other location here"]) == 1.0
    with pytest.raises(ValueError, match="all_classes"):
        accuracy("teal", "teal", None)


@pytest.mark.parametrize(
    "prediction, answer, value",
    [("size, path)", "size, path)", 1.0), ("\n# note\nsize)\nmore", "size)", 1.0), ("```\n// x\nab", "abcd", 2 * 2 / 6),
     ("# only", "ab", 0.0), ("xy", "ab", 0.0)],
)  # fmt: skip
def test_edit_similarity(prediction, answer, value):
    assert edit_similarity(prediction, answer) == pytest.approx(value)


@given(st.sampled_from(sorted(METRICS)), st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_every_metric_stays_between_0_and_1(name, prediction, answer):
    assert 0.0 <= METRICS[name](prediction, answer, [answer, "other"]) <= 1.0


def test_the_best_answer_counts_and_few_shot_reads_one_line():
    assert score("qasper", "Oslo", ["Lisbon", "Oslo"]) == 1.0
    assert score("few_shot", "\nteal\nText: red", ["teal"], ["teal", "red"]) == 1.0
    assert score("qasper", "Oslo\nand more words", ["Oslo"]) == pytest.approx(2 / 5)


def test_score_refuses():
    with pytest.raises(ValueError, match="unknown dataset 'squad'"):
        score("squad", "a", ["a"])
    with pytest.raises(ValueError, match="at least one answer"):
        score("qasper", "a", [])


def test_the_table_is_complete():
    assert len(LONGBENCH) == 14 and len(MINI) == 5
    for table in (MINI, LONGBENCH):
        assert {spec.category for spec in table.values()} == set(CATEGORIES)
    assert all(spec.metric in METRICS and spec.max_new_tokens > 0 for spec in DATASETS.values())
    assert {name for name, spec in LONGBENCH.items() if spec.first_line} == {"trec", "triviaqa", "samsum"}


def test_tasks_expand_to_datasets():
    assert expand_tasks("longbench_mini") == list(MINI)
    assert expand_tasks("longbench") == list(LONGBENCH)
    assert expand_tasks(["qasper", "longbench", "few_shot"])[:2] == ["qasper", "narrativeqa"]
    assert expand_tasks("trec, few_shot") == ["trec", "few_shot"]
    with pytest.raises(ValueError, match="unknown task 'longbench2'; known: longbench_mini, longbench"):
        expand_tasks("longbench2")
    with pytest.raises(ValueError, match="unknown task ''"):
        expand_tasks("")
    with pytest.raises(ValueError, match="no tasks"):
        expand_tasks([])
