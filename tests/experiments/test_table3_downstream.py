"""Harness tasks under several methods: the same samples, paired differences, likelihood of the right answer."""

import math

import pytest

from sdtp_lib import paths, results
from sdtp_lib.experiments.table3_downstream import (
    against_paper,
    downstream,
    downstream_bars,
    downstream_table,
    mean_score,
)
from sdtp_lib.experiments.table4_losses import (
    loss_ablation,
    loss_ablation_against_paper,
    loss_ablation_table,
    stored_or_run,
)
from sdtp_lib.models import load_model, load_pruner
from sdtp_lib.paper import ABLATIONS
from sdtp_lib.pruning.schedule import PruningSchedule


@pytest.fixture(scope="module")
def found():
    model, tokenizer = load_model("demo", dtype="float32")
    pruner = load_pruner(None, model, PruningSchedule.preset("paper", 14)).float()
    tasks = ["mini_choice_singledoc_qa", "mini_choice_few_shot"]
    return downstream(model, tokenizer, tasks, ["full", "sdtp", "random"], pruner, limit=6)


def test_every_method_answers_the_same_samples(found):
    assert set(found) == {"full", "sdtp", "random"}
    for tasks in found.values():
        assert list(tasks) == ["mini_choice_few_shot", "mini_choice_singledoc_qa"]
        for row in tasks.values():
            assert row["n"] == len(row["samples"]) == 6 and set(row["samples"]) <= {0.0, 100.0}
            assert row["score"] == pytest.approx(sum(row["samples"]) / 6)
            assert row["perplexity"] == pytest.approx(math.exp(-row["gold_logprob"])) and row["perplexity"] >= 1


def test_differences_are_paired_and_the_pruner_keeps_what_random_loses(found):
    assert all("against_full" not in row for row in found["full"].values())
    for name, row in found["random"].items():
        lost = [b - a for a, b in zip(found["full"][name]["samples"], row["samples"], strict=True)]
        assert row["against_full"]["difference"] == pytest.approx(sum(lost) / 6, abs=1e-3)
    assert mean_score(found["sdtp"]) >= mean_score(found["random"])
    nats = {method: sum(row["gold_logprob"] for row in tasks.values()) for method, tasks in found.items()}
    assert nats["random"] < nats["sdtp"] <= 0


def test_the_table_has_a_mean_for_every_method(found):
    lines = downstream_table(found).splitlines()
    assert len(lines) == 2 + 3 * 3 and sum("mean" in line for line in lines) == 3


def test_bad_names_are_refused():
    model, tokenizer = load_model("demo")
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        downstream(model, tokenizer, ["mini_choice_few_shot"], ["magic"], limit=1)


def test_the_harness_own_tasks_are_read_only_where_one_of_them_is_asked_for(monkeypatch):
    class Manager:
        all_tasks = ["mini_choice"]

        def __init__(self, include_path, include_defaults=True):
            read.append(include_defaults)

    read = []
    monkeypatch.setattr("lm_eval.tasks.TaskManager", Manager)
    assert downstream(None, None, ["mini_choice"], []) == {} and read == [False]
    assert downstream(None, None, ["mini_choice", "copa"], []) == {} and read == [False, False, True]


def test_beside_the_paper_and_drawn(found):
    lines = against_paper({"full": found["full"], "sdtp": found["random"]}).splitlines()[2:]
    ours = mean_score(found["random"]) - mean_score(found["full"])
    assert len(lines) == 3 and all(f" {ours:.2f} " in line for line in lines) and "1.26" in lines[0]
    assert "No difference at all" in against_paper({"full": found["full"], "sdtp": found["full"]})
    assert downstream_bars(found)._repr_png_().startswith(b"\x89PNG")


def test_table_4_is_of_several_pruners_on_the_same_samples(tmp_path):
    model, tokenizer = load_model("demo", dtype="float32")
    schedule = PruningSchedule.preset("paper", 14)
    pruners = {name: load_pruner(None, model, schedule) for name in ABLATIONS}
    for parameter in pruners[ABLATIONS[2]].parameters():
        parameter.data.neg_()  # a pruner that prefers what the trained one drops
    for name, pruner in pruners.items():
        pruner.save_pretrained(tmp_path / name.replace(" ", "_"))
    found = loss_ablation(model, tokenizer, ["mini_choice_singledoc_qa"], tmp_path, limit=6)
    assert stored_or_run(tmp_path, "demo_full", model, tokenizer, ["mini_choice_singledoc_qa"], "own", limit=6) == found
    document = results.read_json(paths.results("own") / "table4_loss_ablation.json")
    assert document["data"].keys() == found.keys() and document["metadata"]["limit"] == 6
    first, second, third = found.values()
    assert tuple(found) == ABLATIONS and first["tasks"] == second["tasks"] and "against_all_losses" not in first
    assert second["against_all_losses"]["difference"] == 0
    change = third["against_all_losses"]["difference"]
    assert change == pytest.approx(third["average"] - first["average"], abs=1e-3) and change < -10
    assert f"{change:.1f}" in loss_ablation_table(found).splitlines()[4]
    beside = loss_ablation_against_paper(found).splitlines()[2:]
    assert len(beside) == 2 and "-0.55" in beside[0] and "-0.89" in beside[1] and f"{change:.2f}" in beside[1]


def test_without_pruners_table_4_is_the_stored_one():
    stored = stored_or_run(None, "demo_full", None, None, [], "own")
    assert tuple(stored) == ABLATIONS and "**" not in loss_ablation_table(stored)


def test_a_missing_pruner_of_table_4_is_told_before_anything_runs(tmp_path, monkeypatch):
    model, tokenizer = load_model("demo")
    pruner = load_pruner(None, model, PruningSchedule.preset("paper", 14))
    for name in ABLATIONS[:2]:
        pruner.save_pretrained(tmp_path / name.replace(" ", "_"))
    monkeypatch.setattr("sdtp_lib.experiments.table4_losses.downstream", None)
    with pytest.raises(FileNotFoundError, match="without_ranking_and_MSE_loss"):
        loss_ablation(model, tokenizer, ["mini_choice_few_shot"], tmp_path)
