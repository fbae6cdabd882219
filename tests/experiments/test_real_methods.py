"""What pruning costs a real model: rows and table from the files that `sdtp evaluate` writes."""

import gzip
import json
import re

import pytest
from transformers import LlamaConfig

from sdtp_lib.experiments.real.methods import compare_methods, methods_table, read_runs
from sdtp_lib.experiments.real.stored_methods import _devices, store_methods
from sdtp_lib.pruning.schedule import PruningSchedule

CONFIG = LlamaConfig(num_hidden_layers=30, hidden_size=64, intermediate_size=128, num_attention_heads=4)


def write(folder, name, method, scores, *, nll=1.0, asked="a", pool=1, first=0, task="needle", **changes):
    schedule = PruningSchedule.preset("none" if method == "full" else "paper", 30)
    about = {
        "model": "m", "dtype": "float32", "method": method, "schedule": schedule.to_dict(), "pool": pool, "tokens": 64,
        "tasks": [task], "chat_template": "abc", "pruner": None, **changes,
    }  # fmt: skip
    samples = [
        {"_id": f"{task}-{i}", "dataset": task, "score": score, "nll": nll, "choice": 1, "digest": f"{asked}{i}",
         "prompt_tokens": 60 + i}
        for i, score in enumerate(scores, first)
    ]
    (folder / f"{name}.json").write_text(json.dumps({"metadata": about}))
    lines = [{"settings": {}}, *samples]
    (folder / f"{name}.samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_each_method_stands_beside_the_full_model_on_its_own_records(tmp_path):
    write(tmp_path, "full", "full", [1.0] * 8, nll=0.5)
    write(tmp_path, "some", "attention", [0.0] * 3 + [1.0] * 3, nll=0.75, pool=7)  # fewer records, the same first ones
    full, pruned = compare_methods(read_runs(tmp_path), CONFIG)
    assert (full["schedule"], full["method"], full["flops"], full["n"]) == ("none", "full", 1.0, 8)
    assert "difference" not in full["score"] and full["score"]["mean"] == 100
    assert (pruned["schedule"], pruned["method"], pruned["n"]) == ("paper", "attention, pooled over 7", 6)
    assert (full["layers"], full["stays"]) == ([], None) and pruned["layers"][:2] == [4, 7] and pruned["stays"] is None
    assert pruned["flops"] > 1.1 and pruned["score"]["difference"]["mean"] == -50
    assert pruned["nll"]["difference"] == {"mean": 0.25, "ci95": [0.25, 0.25]}


def test_answers_that_are_all_alike_have_an_interval_all_the_same(tmp_path):
    """Wilson's: of an event that none of 50 trials showed, at most 7.1% by the table of any textbook."""
    write(tmp_path, "full", "full", [1.0] * 50, nll=1.0)
    write(tmp_path, "same", "norm", [1.0] * 50, nll=1.0)
    write(tmp_path, "none", "random", [0.0] * 50)
    rows = {row["method"]: row for row in compare_methods(read_runs(tmp_path), CONFIG)}
    assert rows["full"]["score"]["ci95"] == pytest.approx([92.865, 100], abs=0.01)
    assert rows["random"]["score"]["ci95"] == pytest.approx([0, 7.135], abs=0.01)
    assert rows["norm"]["score"]["difference"]["ci95"] == pytest.approx([-7.135, 7.135], abs=0.01)
    assert rows["norm"]["nll"]["difference"]["ci95"] == [0, 0]  # no yes or no


def test_a_row_of_a_trained_pruner_names_its_folder(tmp_path):
    write(tmp_path, "full", "full", [1.0] * 8)
    write(tmp_path, "own", "sdtp", [1.0] * 8, pool=7, pruner={"name": "smollm2-135m/paper"})
    _, pruned = compare_methods(read_runs(tmp_path), CONFIG)
    assert (pruned["method"], pruned["pruner"]) == ("sdtp, paper, pooled over 7", "smollm2-135m/paper")


def test_the_table_shows_one_task_at_one_length(tmp_path):
    write(tmp_path, "full", "full", [1.0, 0.0] * 4)
    write(tmp_path, "some", "random", [0.0] * 8)
    text = methods_table(compare_methods(read_runs(tmp_path), CONFIG), "needle", 64)
    assert "| full" in text and "-50.0 [" in text and text.count("\n") == 3


def test_a_method_without_the_full_model_on_its_records_is_refused(tmp_path):
    write(tmp_path, "full", "full", [1.0] * 8, first=100)
    write(tmp_path, "some", "random", [0.0] * 8)
    with pytest.raises(ValueError, match="no result of the full model on the prompts of needle at 64 tokens"):
        compare_methods(read_runs(tmp_path), CONFIG)


@pytest.mark.parametrize("other", [{"asked": "b"}, {"model": "n"}, {"dtype": "bfloat16"}])
def test_other_prompts_of_the_same_records_and_other_models_are_not_compared(tmp_path, other):
    write(tmp_path, "full", "full", [1.0] * 8, **other)
    write(tmp_path, "some", "random", [0.0] * 8)
    with pytest.raises(ValueError, match="no result of the full model on the prompts of .* as m read them in float32"):
        compare_methods(read_runs(tmp_path), CONFIG)


def test_the_same_prompts_are_compared_whatever_option_made_them(tmp_path):
    write(tmp_path, "full", "full", [1.0] * 8, tokens={"needle": 64, "tpo": 7500}, chat_template=None)
    write(tmp_path, "plain", "full", [0.5] * 8, asked="b")
    write(tmp_path, "some", "random", [0.0] * 8)
    rows = compare_methods(read_runs(tmp_path), CONFIG)
    assert [row["tokens"] for row in rows] == [64] * 3
    assert [row["score"]["difference"]["mean"] for row in rows if row["method"] == "random"] == [-100]


def test_the_full_model_without_its_chat_template_is_told_apart_where_the_task_takes_one(tmp_path):
    for task in ("needle", "documents_qa"):
        for chat in ("abc", None):
            write(tmp_path, f"{task}-{chat}", "full", [1.0] * 8, task=task, chat_template=chat)
    found = {(row["task"], row["method"]) for row in compare_methods(read_runs(tmp_path), CONFIG)}
    assert found == {("needle", "full"), ("documents_qa", "full"), ("documents_qa", "full, no chat template")}


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no results of sdtp evaluate"):
        compare_methods(read_runs(tmp_path), CONFIG)


@pytest.fixture
def model(tmp_path):
    CONFIG.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "source.json").write_text('{"model": "Tiny-1M", "weights": "dequantised from Q4_1"}')
    return tmp_path / "model"


def test_rows_page_and_samples_tell_the_same(tmp_path, model):
    runs = tmp_path / "runs"
    runs.mkdir()
    write(runs, "full", "full", [1.0] * 4, device="a GPU", commit="1")
    write(runs, "own", "random", [0.0] * 4, device="a CPU", commit="2")
    store_methods(runs, tmp_path / "out", model, "Mind the gap.")
    document = json.loads((tmp_path / "out" / "methods.json").read_text())
    assert [(row["method"], row["device"], row["commit"]) for row in document["data"]] == [
        ("full", "a GPU", "1"), ("random", "a CPU", "2"),
    ]  # fmt: skip
    assert document["metadata"]["commit"] == ["1", "2"] and document["metadata"]["dtype"] == "float32"
    page = (tmp_path / "out" / "methods.md").read_text()
    assert page.startswith("# Tiny-1M, dequantised from Q4_1, computed in float32\n") and "\nMind the gap.\n" in page
    assert "Measured on a CPU and a GPU" in page
    assert "## One needle, 64 tokens" in page and "-100.0 [-100.0, -100.0]" in page
    lines = gzip.decompress((tmp_path / "out" / "methods_samples.jsonl.gz").read_bytes()).decode().splitlines()
    assert [json.loads(line)["row"] for line in lines] == ["full"] * 4 + ["own"] * 4


def test_runs_of_two_dtypes_are_named_in_the_page(tmp_path, model):
    runs = tmp_path / "runs"
    runs.mkdir()
    for dtype in ("bfloat16", "float32"):
        write(runs, f"full-{dtype}", "full", [1.0] * 4, dtype=dtype, device="a GPU")
    store_methods(runs, tmp_path / "out", model)
    assert (
        (tmp_path / "out" / "methods.md")
        .read_text()
        .startswith("# Tiny-1M, dequantised from Q4_1, computed in bfloat16 and float32\n")
    )
    assert json.loads((tmp_path / "out" / "methods.json").read_text())["metadata"]["pruner"] is None


def test_nothing_is_written_where_a_row_has_no_full_model_beside_it(tmp_path, model):
    runs = tmp_path / "runs"
    runs.mkdir()
    write(runs, "own", "random", [0.0] * 4)
    with pytest.raises(ValueError, match="no result of the full model"):
        store_methods(runs, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("digests", [True, False])
def test_the_full_model_may_be_a_stored_one(tmp_path, digests):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    write(tmp_path / "old", "full", "full", [1.0] * 8, nll=0.5, device="cpu")
    write(tmp_path / "new", "some", "attention", [0.0] * 3 + [1.0] * 3, nll=0.75, device="cpu")
    CONFIG.save_pretrained(tmp_path / "model")
    store_methods(tmp_path / "old", tmp_path / "stored", tmp_path / "model")
    if not digests:  # as in tables that were stored before they were kept
        packed = tmp_path / "stored" / "methods_samples.jsonl.gz"
        packed.write_bytes(gzip.compress(re.sub(rb', "digest": "\w+"', b"", gzip.decompress(packed.read_bytes()))))
    store_methods(tmp_path / "new", tmp_path / "more", tmp_path / "model", beside=tmp_path / "stored")
    full, pruned = json.loads((tmp_path / "more" / "methods.json").read_text())["data"]
    assert (full["method"], full["n"], full["samples"], pruned["samples"]) == ("full", 6, "full", "some")
    assert pruned["nll"]["difference"]["mean"] == 0.25
    write(tmp_path / "new", "some", "attention", [0.0] * 6, asked="b", first=4, device="cpu")
    with pytest.raises(ValueError, match="no result of the full model on the prompts"):
        store_methods(tmp_path / "new", tmp_path / "other", tmp_path / "model", beside=tmp_path / "stored")


def test_two_methods_under_one_schedule_are_paired_on_the_records_of_both(tmp_path, model):
    (tmp_path / "runs").mkdir()
    write(tmp_path / "runs", "full", "full", [1.0] * 8, device="a GPU")
    write(tmp_path / "runs", "one", "norm", [0.0, 1.0] * 3, nll=0.5, device="a GPU")
    write(tmp_path / "runs", "two", "random", [0.0] * 4, nll=0.75, device="a GPU")
    store_methods(tmp_path / "runs", tmp_path / "out", model)
    rows = {row["samples"]: row for row in stored(tmp_path / "out")[0]["data"]}
    assert "over" not in rows["full"] and [*rows["two"]["over"]] == ["one"]
    assert rows["one"]["over"]["two"]["score"] | {"ci95": None} == {"mean": 50.0, "ci95": None, "n": 4}
    assert rows["two"]["over"]["one"]["nll"] == {"mean": 0.25, "ci95": [0.25, 0.25], "n": 4}


def stored(folder):
    packed = gzip.decompress((folder / "methods_samples.jsonl.gz").read_bytes())
    return json.loads((folder / "methods.json").read_text()), (folder / "methods.md").read_text(), packed


@pytest.mark.parametrize("beside", [False, True])
def test_rows_that_are_added_leave_the_table_as_if_all_had_been_stored_at_once(tmp_path, model, beside):
    for name in ("full", "first", "second", "both"):
        (tmp_path / name).mkdir()
    full = [1.0, 0.0] * 4
    write(tmp_path / "full", "full", "full", full, device="a GPU", commit="1", profile="p")
    for folder in ("first", "both"):
        write(tmp_path / folder, "some", "random", [0.0] * 4, device="a GPU", commit="1", nll=1 / 3)
        write(tmp_path / folder, "old", "norm", [0.0] * 2, device="a GPU", commit="1")
    for folder in ("second", "both"):
        write(tmp_path / folder, "old", "norm", full, device="a CPU", commit="2")
        write(tmp_path / folder, "late", "recency", [1.0] * 8, device="a CPU", commit="2", nll=2 / 3)
    if beside:
        store_methods(tmp_path / "full", tmp_path / "other", model)
    else:
        for folder in ("first", "both"):
            write(tmp_path / folder, "full", "full", full, device="a GPU", commit="1")
    how = {"beside": tmp_path / "other"} if beside else {}
    store_methods(tmp_path / "both", tmp_path / "at once", model, **how)
    store_methods(tmp_path / "first", tmp_path / "steps", model, **how)
    store_methods(tmp_path / "second", tmp_path / "steps", model, add=True, **how)
    (once, *same), (steps, *found) = stored(tmp_path / "at once"), stored(tmp_path / "steps")
    assert found == same and steps["data"] == once["data"]
    for about in (once["metadata"], steps["metadata"]):  # what differs comes in the order in which the runs come
        assert sorted(about.pop("method")) and {*about.pop("commit")} == {"1", "2"}
        assert {*about.pop("device")} == {"a GPU", "a CPU"} and len(about.pop("schedule")) > 0
    assert steps["metadata"] == once["metadata"]
    if beside:
        with pytest.raises(ValueError, match="the samples of full are in another table"):
            store_methods(tmp_path / "second", tmp_path / "steps", model, add=True)


def test_a_schedule_of_a_shipped_pruner_goes_by_its_own_name(tmp_path, monkeypatch):
    own = PruningSchedule((8,), 0.3)
    monkeypatch.setattr("sdtp_lib.experiments.real.methods.own_presets", lambda name: {"fast": own})
    write(tmp_path, "full", "full", [1.0] * 4)
    write(tmp_path, "some", "sdtp", [1.0] * 4, schedule=own.to_dict(), pool="sentences", pruner={"name": "m/tuned"})
    _, pruned = compare_methods(read_runs(tmp_path), CONFIG)
    assert (pruned["schedule"], pruned["method"]) == ("fast", "sdtp, tuned, by sentences")
    assert (pruned["layers"], pruned["stays"]) == ([*own.layers], own.ratios[0])


def test_a_row_that_was_ended_on_another_device_names_no_third_one():
    rows = [{"device": "a GPU and a CPU"}, {"device": None}, {"device": "a CPU"}]
    assert _devices(rows) == ["a GPU", "a CPU"]
