"""Schedules by name, those of a pruner's folder among them."""

import pytest
from helpers import tiny_model, tiny_pruner

from sdtp_lib.models.loading import load_pruner
from sdtp_lib.models.named_schedules import (
    check_schedule_name,
    default_schedule,
    own_presets,
    resolve_schedule,
    tuned_name,
)
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.scorers.pooling import pool_of
from sdtp_lib.scorers.use import use

TUNED = {"1.6": PruningSchedule((2, 3), 0.5), "2.2": PruningSchedule((2,), 0.25)}


@pytest.fixture
def folders(tmp_path):
    for name, record in (("tuned", {"use": use(TUNED, 7)}), ("plain", {})):
        pruner = tiny_pruner((2, 3))
        pruner.record = record
        pruner.save_pretrained(tmp_path / name)
    return tmp_path / "tuned", tmp_path / "plain"


def test_a_tuned_folder_gives_its_schedules_and_its_pooling(folders):
    model, (tuned, plain) = tiny_model("llama"), folders
    assert default_schedule(model, tuned) == tuned_name(tuned) == "1.6"
    assert default_schedule(model, plain) == "paper" and default_schedule(model, plain, "keep07") == "keep07"
    for name, schedule in TUNED.items():
        assert resolve_schedule(name, model, tuned) == schedule
        assert resolve_schedule(f"{name}0", model, tuned) == schedule
        assert pool_of(load_pruner(tuned, model, schedule)) == 7
    assert load_pruner(plain, model, TUNED["1.6"]).kind == "mlp"


def test_all_other_names_are_what_they_were(folders):
    model = tiny_model("llama")
    for pruner in (None, *folders):
        assert resolve_schedule("paper", model, pruner) == PruningSchedule.preset("paper", 6)
        assert resolve_schedule("2:0.3", model, pruner) == PruningSchedule((2,), 0.3)
        assert resolve_schedule(TUNED["1.6"], model, pruner) == TUNED["1.6"]


def test_a_pruner_that_has_fast_of_its_own_goes_before_the_preset(tmp_path):
    model, pruner = tiny_model("llama"), tiny_pruner((2, 3))
    pruner.record = {"use": use({"free": TUNED["1.6"], "fast": TUNED["2.2"]}, 1)}
    pruner.save_pretrained(tmp_path)
    assert [resolve_schedule(name, model, tmp_path) for name in ("free", "fast")] == [*TUNED.values()]
    assert default_schedule(model, tmp_path) == "free" and resolve_schedule("2:0.3", model, tmp_path).layers == (2,)
    with pytest.raises(ValueError, match="do not fit a model of 6 layers"):  # the preset's
        resolve_schedule("fastest", model, tmp_path)


def test_the_schedules_of_shipped_pruners_are_found_by_the_models_name(tmp_path, monkeypatch):
    pruner = tiny_pruner((2, 3))
    pruner.record = {"model": "some-model", "use": use({"free": TUNED["1.6"]}, 1)}
    pruner.save_pretrained(tmp_path / "a" / "tuned")
    monkeypatch.setattr("sdtp_lib.paths.PRUNERS", tmp_path)
    assert own_presets("some-model") == {"free": TUNED["1.6"]} and own_presets("other") == {}


def test_what_is_not_there_is_named(folders):
    model, (tuned, plain) = tiny_model("llama"), folders
    with pytest.raises(ValueError, match=r"no schedule '1.7'; known: 1.6, 2.2, paper"):
        resolve_schedule("1.7", model, tuned)
    for name in ("1.6", "free"):
        with pytest.raises(ValueError, match=f"no schedule '{name}'; known: paper"):
            resolve_schedule(name, model, plain)
    with pytest.raises(ValueError, match="cuts at layer 9"):
        resolve_schedule("9:0.5", model)
    for pruner in (None, plain, "question_aware"):
        with pytest.raises(ValueError, match="--config"):
            tuned_name(pruner)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        tuned_name("nowhere")
    check_schedule_name("1.6")
    for bad in ("keep06", "1.6x", "-1", "3:2:1"):
        with pytest.raises(ValueError, match=bad):
            check_schedule_name(bad)
