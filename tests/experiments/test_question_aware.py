"""The study of pruning that knows the question: seeds, sets, designs, budgets, and the tables made of them."""

import json
from dataclasses import replace

import pytest
from helpers import HIDDEN
from small_records import small_model, small_records, small_tokenizer

from sdtp_lib import PruningSchedule, TokenPruner
from sdtp_lib.evaluation.longbench import measure
from sdtp_lib.experiments import question_aware as study
from sdtp_lib.experiments import question_designs as designs
from sdtp_lib.experiments.schedule_quality import budgets, flop_share
from sdtp_lib.scorers.question_aware import QuestionAwarePruner
from sdtp_lib.training.recipe import Recipe

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


@pytest.fixture(scope="module")
def setting(model, tokenizer, records, trained):
    return study.Setting("small", model, tokenizer, records, trained)


def test_each_kind_of_documents_has_its_own_model_and_task(monkeypatch):
    monkeypatch.setattr(designs, "prepare", lambda *asked, **options: (asked, options))
    found = designs.prepare_each(["a", "b"], ["m", "n"], ["t", "u"], [1, 2], ["d", "e"], [0, 9], "folder", seeds=[3])
    assert found[1] == (("b", "n", "u", 2, "e", 9, "folder"), {"seeds": [3]}) and len(found) == 2
    with pytest.raises(ValueError, match="shorter"):
        designs.prepare_each(["a", "b"], ["m"], ["t", "u"], [1, 2], ["d", "e"], [0, 9], "folder")


def test_seeds_are_averaged_sample_by_sample(setting, tmp_path):
    model, tokenizer, records, trained = setting.model, setting.tokenizer, setting.records, setting.pruners
    points = budgets(PruningSchedule(STAGES), [0.3], ["paper", "question_aware", "random"])
    found = study.quality_over_seeds(setting, points, tmp_path)
    schedule = PruningSchedule(STAGES, 0.3)
    runs = [measure(model, tokenizer, records, "sdtp", schedule, pruner) for pruner in trained["paper"]]
    alone = [summary["average"] for summary, _ in runs]
    assert found[0]["seeds"] == alone and found[0]["score"] == pytest.approx(sum(alone) / 2)
    both = [50 * (a["score"] + b["score"]) for a, b in zip(*(samples for _, samples in runs), strict=True)]
    assert [score for scores in found[0]["samples"].values() for score in scores] == pytest.approx(both)
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
    assert study.quality_over_seeds(setting, points, tmp_path) == found


def test_designs_are_compared_at_the_layers_that_are_cut(setting, tmp_path):
    found = designs.compare_designs(setting, PruningSchedule(STAGES[1:], 0.5), tmp_path / "designs")
    assert list(found) == ["paper", "question_aware"]
    assert all(row["rank_correlation"] == pytest.approx(0.4) for row in found.values())  # of the layers that are cut
    assert "question_aware" in designs.design_table(json.loads(json.dumps(found)))


def test_curves_of_several_settings_and_what_is_gained(setting, tmp_path):
    points = [{"method": name, "preset": "x", "schedule": PruningSchedule(STAGES, 0.5)} for name in setting.pruners]
    other = replace(setting, name="other ones", records=setting.records[:2])
    both = study.curves([setting, other], points, tmp_path)
    assert [(name, [point["n"] for point in each["points"]]) for name, each in both.items()] == [
        ("small", [10, 10]), ("other ones", [2, 2])
    ]  # fmt: skip
    assert both["small"]["full"]["ci95"][0] >= 0 and (tmp_path / "other_ones" / "full.jsonl").is_file()
    made = {
        "docs": {
            "full": {"score": 90.0},
            "points": [
                {
                    "method": "question_aware",
                    "preset": "x",
                    "score": 60.0,
                    "samples": {"a": [50.0] * 5, "b": [70.0] * 5},
                },
                {"method": "paper", "preset": "x", "score": 40.0, "samples": {"a": [40.0] * 5, "b": [40.0] * 5}},
                {"method": "paper", "preset": "y", "score": 10.0, "samples": {"a": [10.0], "b": [10.0]}},
            ],
        }
    }
    shown = study.gains(made, "preset")
    assert "|         20.0 | -     |" in shown and len(shown.splitlines()) == 3, "an interval without width is none"


def test_presets_of_every_method_and_the_papers_table():
    points = study.preset_points(["fast", "low"], ["question_aware", "random"])
    assert [(p["preset"], p["method"]) for p in points] == [
        ("fast", "question_aware"), ("fast", "random"), ("low", "question_aware"), ("low", "random")
    ]  # fmt: skip
    schedule = PruningSchedule((4, 8), (0.3, 0.5)).to_dict()
    measured = [{"preset": "fast", "method": "question_aware", "score": 90.0, "schedule": schedule}]
    shown = study.against_paper({"full": {"score": 95.0}, "layers": 14, "points": measured}, "fast")
    assert "-5.00" in shown and "1.58" in shown


def test_every_design_is_trained_alike():
    for fields in designs.DESIGNS.values():
        assert Recipe(**fields).kind in ("mlp", "question_aware")
        assert {name: value for name, value in fields.items() if name not in ("kind", "options")} == designs.ALIKE
    assert designs.DESIGNS["paper"] == designs.ALIKE


def test_what_is_easy_is_asked_of_another_model_too_but_not_twice_of_one(setting):
    other = replace(setting, name="hard", model=small_model(), pruners={"paper": []})
    other.model.name_or_path = "another"
    both = study.with_harder_learner(setting, other)
    assert [each.name for each in both] == [setting.name, "hard", f"{setting.name}, learned with hard"]
    assert both[2].records is setting.records and both[2].model is other.model and both[2].pruners is other.pruners
    assert study.with_harder_learner(setting, replace(setting, name="b")) == [setting, replace(setting, name="b")]


def test_unknown_designs_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="unknown design 'deep'; known: paper"):
        designs.load_or_train(model, "demo", "demo", 0, tmp_path, ["deep"], [0])


@pytest.mark.parametrize("name", ["demo", "demo-dense"])
def test_shipped_pruners_come_one_of_each_and_score_every_layer(model, name):
    with pytest.raises(
        ValueError, match=r"one pruner of each design is shipped, not one for each of the seeds \[0, 1\]"
    ):
        designs.load_or_train(model, name, name, 0, "nowhere", ["paper"], [0, 1])
    with pytest.raises(ValueError, match=f"'4 heads' is shipped for {name}; there are: paper, question_aware"):
        designs.load_or_train(model, name, name, 0, "nowhere", ["paper", "4 heads"], [0])
    found = designs.load_or_train(model, name, name, 0, "nowhere", ["paper", "question_aware"], [0])
    assert [type(each[0]) for each in found.values()] == [TokenPruner, QuestionAwarePruner]
    assert all(each[0].layers == tuple(range(1, 14)) for each in found.values())


def test_a_setting_is_a_model_with_records_and_pruners(tmp_path):
    setting = designs.prepare("ordinary", "demo", "few_shot", 2, "demo", 0, tmp_path)
    assert (setting.name, len(setting.records), list(setting.pruners)) == ("ordinary", 2, ["paper", "question_aware"])
