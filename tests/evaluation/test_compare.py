"""Rows of a comparison by name, and what weighed answers add to the differences."""

import pytest

from sdtp_lib.evaluation import methods
from sdtp_lib.evaluation.bootstrap import mean_nll, summarise
from sdtp_lib.evaluation.methods import make_scorer, read_row
from sdtp_lib.evaluation.paired_differences import paired_differences
from sdtp_lib.scorers.simple import RandomScorer
from sdtp_lib.tables.report import longbench_table, scores_table


@pytest.mark.parametrize(
    "name, row",
    [
        ("sdtp", ("sdtp", "paper", None)), ("sdtp-low", ("sdtp", "low", None)),
        ("strongest-sentences-low", ("strongest", "low", "sentences")),
        ("attention-pool7", ("attention", "paper", 7)), ("question_aware-pool13-low", ("question_aware", "low", 13)),
    ],
)  # fmt: skip
def test_a_name_says_method_schedule_and_width(name, row):
    assert tuple(read_row(name)) == row


def test_pruners_are_found_by_the_methods_name():
    own = RandomScorer(3)
    assert make_scorer("question_aware", {"question_aware": own}) is own
    assert isinstance(make_scorer("random", {"sdtp": own}), RandomScorer) and make_scorer("full", {"sdtp": own}) is None
    with pytest.raises(ValueError, match="'sdtp' needs a trained pruner"):
        make_scorer("sdtp", {"question_aware": own})
    with pytest.raises(ValueError, match="unknown method 'question_aware'"):
        make_scorer("question_aware", {"sdtp": own})


def test_pruners_are_loaded_for_the_methods_that_need_one(monkeypatch):
    monkeypatch.setattr(methods, "load_pruner", lambda folder, model, schedule: (folder, model, schedule))
    found = methods.load_pruners(["full", "sdtp-low", "question_aware-pool7", "random"], "here", "model", "stages")
    assert found == {"sdtp": ("here", "model", "stages"), "question_aware": ("question_aware", "model", "stages")}


def samples(scores, nll, choices, task="needle"):
    return [
        {
            "_id": f"{task}-{i}", "dataset": task, "prompt_tokens": 64, "answers": ["a"], "truncated": False,
            "tokens_per_layer": [64, 32], "score": score, "nll": nll, "choice": choice, "chance": 0.25,
        }
        for i, (score, choice) in enumerate(zip(scores, choices, strict=True))
    ]  # fmt: skip


FULL, PRUNED = samples([1, 1, 1, 1, 0], 0.5, [1] * 5), samples([1, 0, 0, 1, 0], 1.25, [1, 1, 1, 1, 0])


def found():
    return {"full": summarise(FULL), "sdtp": summarise(PRUNED) | {"against_full": paired_differences(FULL, PRUNED)}}


def test_weighed_answers_are_compared_as_well():
    (cell,) = found()["sdtp"]["against_full"]["tasks"].values()
    assert cell["difference"] == -40 and cell["nll"]["difference"] == 0.75 and cell["right"]["difference"] == -20
    plain = [{name: value for name, value in sample.items() if name not in ("nll", "choice")} for sample in FULL]
    (cell,) = paired_differences(plain, plain)["tasks"].values()
    assert "nll" not in cell and "right" not in cell


def test_the_table_shows_score_right_and_nll_beside_the_full_models():
    text = scores_table(found())
    assert "right (chance 25)" in text and "80.0 [40.0, 100.0] (-20.0 [-60.0, 0.0])" in text
    assert "40.0 [0.0, 80.0] (-40.0 [-80.0, 0.0])" in text and "1.25 (+0.75)" in text


def test_without_weighed_answers_the_table_has_a_row_a_method():
    full = [{key: value for key, value in sample.items() if key in ALIKE} for sample in FULL]
    other = summarise(full) | {"against_full": paired_differences(full, full)}
    text = scores_table({"full": summarise(full), "sdtp": other})
    assert text.count("\n") == 3 and "no difference seen" in text and "nll" not in text


ALIKE = ("_id", "dataset", "prompt_tokens", "answers", "truncated", "tokens_per_layer", "score")


def test_categories_of_other_tasks_stand_behind_the_papers():
    columns = list(longbench_table(found()))
    assert columns == ["method", "SingleDoc", "MultiDoc", "Summ", "FewShot", "Code", "Needle", "AVG", "1/tau"]


def test_the_mean_nll_is_over_the_datasets_that_weigh_it():
    both = summarise([*FULL, *samples([1, 1], 2.5, [1, 1], "documents_qa")])
    assert mean_nll(both) == {"nll": 1.5}
    assert mean_nll({"tasks": {"trec": {"score": 1.0}}}) == {}
