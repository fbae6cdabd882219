"""The study of pruning that knows the question: seeds, sets, designs, budgets, and the tables made of them."""

import json

import pytest
from helpers import HIDDEN
from small_records import small_model, small_records, small_tokenizer

from sdtp_lib import PruningSchedule, TokenPruner
from sdtp_lib.evaluation import question_study as study
from sdtp_lib.evaluation.longbench import measure
from sdtp_lib.evaluation.schedules import budgets, flop_share
from sdtp_lib.question import QuestionAwarePruner
from sdtp_lib.recipe import Recipe

STAGES = (2, 3, 5)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def records():
    return small_records(2)


@pytest.fixture(scope="module")
def trained():
    record = {"held_out": {"rank_correlation": [0.1, 0.2, 0.6]}}
    return {
        "paper": [TokenPruner(HIDDEN, STAGES, record) for _ in range(2)],
        "question_aware": [QuestionAwarePruner(HIDDEN, STAGES, record)],
    }


def test_seeds_are_averaged_sample_by_sample(model, tokenizer, records, trained, tmp_path):
    points = budgets(PruningSchedule(STAGES), [0.3], ["paper", "question_aware", "random"])
    found = study.quality_over_seeds(model, tokenizer, records, points, trained, tmp_path)
    schedule = PruningSchedule(STAGES, 0.3)
    alone = [measure(model, tokenizer, records, "sdtp", schedule, pruner)[0]["average"] for pruner in trained["paper"]]
    assert found[0]["seeds"] == alone and found[0]["score"] == pytest.approx(sum(alone) / 2)
    assert [len(point["seeds"]) for point in found] == [2, 1, 1] and all(point["n"] == 10 for point in found)
    for point in found:
        low, high = point["ci95"]
        assert low <= point["score"] <= high and point["schedule"] == schedule.to_dict()
    assert found[1]["flops"] > found[0]["flops"] == found[2]["flops"]  # what the question-aware score costs counts
    tokens = round(measure(model, tokenizer, records, "full")[0]["prompt_tokens"])
    assert found[1]["flops"] == flop_share(model.config, schedule, tokens, trained["question_aware"][0])
    lines = {path.name: len(path.read_text().splitlines()) for path in tmp_path.iterdir()}
    assert lines == dict.fromkeys(("paper-0-0.jsonl", "paper-0-1.jsonl", "question_aware-1-0.jsonl",
                                   "random-2-0.jsonl"), 11)  # fmt: skip
    assert study.quality_over_seeds(model, tokenizer, records, points, trained, tmp_path) == found


def test_designs_and_sets(model, tokenizer, records, trained, tmp_path):
    schedule = PruningSchedule(STAGES[1:], 0.5)
    found = study.compare_designs(model, tokenizer, records, trained, schedule, tmp_path / "designs")
    assert list(found) == ["paper", "question_aware"]
    assert all(row["rank_correlation"] == pytest.approx(0.4) for row in found.values())  # of the layers that are cut
    assert "question_aware" in study.design_table(json.loads(json.dumps(found)))
    points = [{"method": "paper", "preset": "x", "schedule": schedule}]
    sets = {"a": records[:2], "b": records[2:4]}
    both = study.quality_by_set(model, tokenizer, sets, points, trained, tmp_path)
    assert [(point["set"], point["n"]) for point in both] == [("a", 2), ("b", 2)]
    assert study.full_score(model, tokenizer, records[:2], tmp_path)["ci95"][0] >= 0


def test_presets_of_every_method_and_the_papers_table():
    points = study.preset_points(["fast", "low"], ["question_aware", "random"])
    assert [(p["preset"], p["method"]) for p in points] == [
        ("fast", "question_aware"), ("fast", "random"), ("low", "question_aware"), ("low", "random")
    ]  # fmt: skip
    schedule = PruningSchedule((4, 8), (0.3, 0.5)).to_dict()
    measured = [{"set": "ordinary", "preset": "fast", "method": "question_aware", "score": 90.0, "schedule": schedule}]
    shown = study.against_paper(measured, {"score": 95.0}, 14)
    assert "-5.00" in shown and "1.58" in shown


def test_every_design_is_a_recipe():
    for fields in study.DESIGNS.values():
        assert Recipe(**fields).kind in ("mlp", "question_aware")
    assert study.DESIGNS["paper"] == {}  # trained just alike but for what is trained


def test_unknown_designs_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="unknown design 'deep'; known: paper"):
        study.load_or_train(model, "demo", "demo", 0, tmp_path, ["deep"], [0])


def test_shipped_pruners_come_one_of_each(model):
    with pytest.raises(
        ValueError, match=r"one pruner of each design is shipped, not one for each of the seeds \[0, 1\]"
    ):
        study.load_or_train(model, "demo-dense", "demo-dense", 0, "nowhere", ["paper"], [0, 1])
    with pytest.raises(ValueError, match="no pruner '4 heads' is shipped; there are paper, question_aware"):
        study.load_or_train(model, "demo-dense", "demo-dense", 0, "nowhere", ["paper", "4 heads"], [0])
    found = study.load_or_train(model, "demo-dense", "demo-dense", 0, "nowhere", ["paper", "question_aware"], [0])
    assert [type(each[0]) for each in found.values()] == [TokenPruner, QuestionAwarePruner]
