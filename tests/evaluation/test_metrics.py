"""LongBench's kinds of metric, as the harness carries them, against values worked out by hand."""

from inspect import getmodule

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib.data.tasks import DATASETS, FORESEEN, LONGBENCH, MINI, expand_tasks
from sdtp_lib.evaluation.metrics import METRICS, OTHERS, metric, score
from sdtp_lib.paper import CATEGORIES


@pytest.mark.parametrize(
    "prediction, answer, value",
    [(" Lisbon.", "Lisbon", 1.0), ("the City of Lisbon", "Lisbon", 0.5), ("", "Lisbon", 0.0), ("Oslo", "Lisbon", 0.0),
     ("red red fox", "red fox", 0.8)],
)  # fmt: skip
def test_f1_of_words(prediction, answer, value):
    assert metric("f1")(prediction, answer) == pytest.approx(value)


@pytest.mark.parametrize(
    "prediction, answer, value",
    [("to open the market in Oslo.", "to open the market in Oslo.", 1.0), ("a b c d", "a x c", 4 / 7), ("", "a", 0.0),
     ("a a b", "a b", 1.0)],
)  # fmt: skip
def test_rouge_l(prediction, answer, value):
    assert metric("rouge_l")(prediction, answer) == pytest.approx(value)


@pytest.mark.parametrize(
    "prediction, answer, value",
    [("teal", "teal", 1.0), ("Type: teal or red", "teal", 0.5), ("blue", "teal", 0.0), ("", "teal", 0.0),
     ("Other location", "Other location", 1.0), ("location", "Other location", 0.0)],
)  # fmt: skip
def test_accuracy(prediction, answer, value):
    classes = ["teal", "red", "blue", "location", "Other location"]
    assert metric("accuracy")(prediction, answer, all_classes=classes) == pytest.approx(value)


def test_accuracy_needs_classes():
    with pytest.raises(ValueError, match="few_shot: classification needs the record's all_classes"):
        score("few_shot", "teal", ["teal"], None)


@pytest.mark.parametrize(
    "prediction, answer, value",
    [("size, path)", "size, path)", 1.0), ("\n# note\n  \nsize)\nmore", "size)", 1.0),
     ("```\n// x\nab", "abcd", 0.67), ("# only", "ab", 0.0), ("xy", "ab", 0.0)],
)  # fmt: skip
def test_edit_similarity(prediction, answer, value):
    assert metric("edit")(prediction, answer) == pytest.approx(value)


@given(st.sampled_from(sorted(METRICS)), st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_every_metric_stays_between_0_and_1(kind, prediction, answer):
    assert 0.0 <= metric(kind)(prediction, answer, all_classes=[answer, "other"]) <= 1.0


TEXT = st.lists(st.sampled_from(["the", "teal", "red", "fox", "def f(x):", "# no", "\n", ".", "Oslo"]), max_size=12)
ITS_OWN = sorted(name for name, spec in DATASETS.items() if spec.metric in METRICS)


@given(st.sampled_from(ITS_OWN), TEXT.map(" ".join), st.lists(TEXT.map(" ".join), min_size=1, max_size=3))
def test_scores_are_those_of_the_harness_own_tasks(name, prediction, answers):
    """Its tasks cut few-shot answers at the first line end themselves, while they are generated."""
    wrapper = {"f1": "qa_f1", "rouge_l": "rouge", "accuracy": "classification", "edit": "code_sim"}
    classes = ["teal", "red", "Oslo"]
    spec, seen = DATASETS[name], prediction.lstrip("\n") if DATASETS[name].first_line else prediction
    seen = seen.split("\n")[0] if spec.first_line else seen
    function = getattr(getmodule(metric("f1")), f"get_{wrapper[spec.metric]}_with_score")
    expected = function({"answers": answers, "all_classes": classes}, [seen])["score"]
    assert score(name, prediction, answers, classes) == pytest.approx(expected)


def test_the_best_answer_counts_and_few_shot_reads_one_line():
    assert score("qasper", "Oslo", ["Lisbon", "Oslo"]) == 1.0
    assert score("few_shot", "\nteal\nText: red", ["teal"], ["teal", "red"]) == 1.0
    assert score("qasper", "Oslo\nand more words", ["Oslo"]) == pytest.approx(2 / 5)


def test_blanks_around_an_answer_are_no_words():
    """`rouge` finds an empty word in a line end, and gives full marks where both sides have one."""
    assert score("gov_report", "\n", ["\n"]) == 0.0
    assert score("gov_report", "a fox \n", ["a fox"]) == pytest.approx(1.0)
    assert score("code_completion", "    x", ["    x"]) == 1.0 > score("code_completion", "x", ["    x"])


def test_score_refuses():
    with pytest.raises(ValueError, match="unknown dataset 'squad'"):
        score("squad", "a", ["a"])
    with pytest.raises(ValueError, match="at least one answer, in a list"):
        score("qasper", "p", "Perth")
    with pytest.raises(ValueError, match="at least one answer"):
        score("qasper", "a", [])


def test_the_table_is_complete():
    assert len(LONGBENCH) == 14 and len(MINI) == 5
    for table in (MINI, LONGBENCH):
        assert {spec.category for spec in table.values()} == set(CATEGORIES)
    assert not METRICS.keys() & OTHERS.keys()
    assert {spec.metric for spec in DATASETS.values()} == {*METRICS, *OTHERS, FORESEEN}
    assert all(spec.max_new_tokens > 0 for spec in DATASETS.values())
    assert {name for name, spec in LONGBENCH.items() if spec.first_line} == {"trec", "triviaqa", "samsum"}


def test_tasks_expand_to_datasets():
    assert expand_tasks("longbench_mini") == list(MINI)
    assert expand_tasks("longbench") == list(LONGBENCH)
    assert expand_tasks(["qasper", "longbench", "few_shot"])[:2] == ["qasper", "narrativeqa"]
    for tasks in ("trec, few_shot", ["trec,few_shot"], ["trec,", "few_shot"], ["trec", "few_shot,trec"]):
        assert expand_tasks(tasks) == ["trec", "few_shot"]
    with pytest.raises(ValueError, match="unknown task 'hotpot_qa'; known: .* did you mean 'hotpotqa'?") as caught:
        expand_tasks(["trec,hotpot_qa"])
    assert len(str(caught.value)) < 150
    with pytest.raises(ValueError, match="unknown task 'longbench2'; known: longbench_mini, longbench"):
        expand_tasks("longbench2")
    with pytest.raises(ValueError, match="unknown task ''"):
        expand_tasks("")
    with pytest.raises(ValueError, match="no tasks"):
        expand_tasks([])
