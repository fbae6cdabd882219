"""Whose weights a pruner was trained on: the same however they are loaded, others refused, and results say it."""

import hashlib
import json
from copy import deepcopy

import pytest
import torch
from folders import LAYERS, run, save_model, save_pruner
from helpers import tiny_model, tiny_pruner
from small_records import write_records
from transformers import AutoModelForCausalLM

from sdtp_lib import paths
from sdtp_lib.models import provenance
from sdtp_lib.models.identity import fingerprint, pruner_record, pruners_of
from sdtp_lib.models.loading import DEMOS, DTYPES, SHAPES, load_model, load_pruner
from sdtp_lib.pruning.families import FAMILIES
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.scorers.blend import BlendScorer
from sdtp_lib.scorers.files import WEIGHTS_FILE
from sdtp_lib.scorers.pooled import PooledScorer
from sdtp_lib.scorers.simple import RandomScorer
from sdtp_lib.scorers.token_pruner import TokenPruner

SCHEDULE = PruningSchedule((2, 4))
STORED = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHIPPED = {
    "demo": [paths.DEMO_PRUNER, paths.QUESTION_PRUNERS / "demo" / "paper"],
    "demo-dense": [paths.QUESTION_PRUNERS / "demo-dense" / name for name in ("paper", "question_aware")],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two models of the same shape, a pruner of each, and one that does not say whose it is."""
    home = tmp_path_factory.mktemp("identity")
    for seed, name in enumerate(("one", "two")):
        save_pruner(home / f"of-{name}", save_model(home / name, seed=seed), name, seed)
    save_pruner(home / "of-nobody")
    write_records(home / "data")
    (home / "prompt.txt").write_text("the door of the red house is green . " * 10)
    return home


@pytest.mark.parametrize("stored", STORED, ids=lambda dtype: str(dtype)[6:])
def test_one_model_has_one_fingerprint_in_every_dtype(stored, tmp_path):
    model = save_model(tmp_path, dtype=stored)
    assert {fingerprint(load_model(tmp_path, dtype, "cpu")[0]) for dtype in DTYPES} == {fingerprint(model)}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_one_fingerprint_in_every_dtype(family, tmp_path):
    model = save_model(tmp_path, {"gemma3_text": "gemma3"}.get(family, family), tokenizer=False)
    found = {fingerprint(load_model(tmp_path, dtype, "cpu")[0]) for dtype in DTYPES}
    assert found == {fingerprint(model)}


def test_placement_attention_copies_and_several_files_do_not_change_it(tmp_path):
    model = save_model(tmp_path / "whole", tokenizer=False)
    model.save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    assert len([*(tmp_path / "cut").glob("*.safetensors")]) > 2
    loaded = [load_model(tmp_path / name, "float16", device_map="auto")[0] for name in ("whole", "cut")]
    loaded.append(deepcopy(loaded[0]))
    loaded[0].set_attn_implementation("eager")
    assert {fingerprint(each) for each in loaded} == {fingerprint(model)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_were_changed_after_loading_are_others(dtype, home):
    model, _ = load_model(home / "one", dtype, "cpu")
    before = fingerprint(model)
    model.model.layers[3].mlp.up_proj.weight.mul_(1.5)
    assert fingerprint(model) != before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", DEMOS)
def test_shipped_pruners_fit_their_own_model_alone(model, dtype):
    loaded, _ = load_model(model, dtype, "cpu")
    schedule = PruningSchedule.preset("paper", loaded.config.num_hidden_layers)
    assert pruner_record(load_pruner(None, loaded, schedule), loaded)["same_weights"] is True
    for owner, folders in SHIPPED.items():
        for folder in folders:
            if owner == model:
                load_pruner(folder, loaded, schedule)
            else:
                with pytest.raises(ValueError, match=f"trained on model '{owner}'.*'{model}'.*--any-model"):
                    load_pruner(folder, loaded, schedule)
                assert load_pruner(folder, loaded, schedule, any_model=True).layers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("model", "pruner", "same"), [
    ("one", "of-one", True), ("two", "of-two", True), ("one", "of-two", False), ("two", "of-one", False),
    ("one", "of-nobody", None), ("two", "of-nobody", None),
])  # fmt: skip
def test_a_pruner_fits_the_weights_that_it_was_trained_on(model, pruner, same, dtype, home):
    network, _ = load_model(home / model, dtype, "cpu")
    if same is False:
        with pytest.raises(ValueError, match=f"'{pruner}' was trained on model '{pruner[3:]}'"):
            load_pruner(home / pruner, network, SCHEDULE)
    loaded = load_pruner(home / pruner, network, SCHEDULE, any_model=same is False)
    sha = hashlib.sha256((home / pruner / WEIGHTS_FILE).read_bytes()).hexdigest()
    made_for = None if same is None else pruner[3:]
    said = {"name": pruner, "sha256": sha, "model": made_for, "same_weights": same}
    assert pruner_record(loaded, network) == said | {"options": loaded.options}


def test_a_model_that_was_loaded_by_transformers_alone_is_known_too(home):
    network = AutoModelForCausalLM.from_pretrained(home / "one", dtype=torch.bfloat16)
    load_pruner(home / "of-one", network, SCHEDULE)
    with pytest.raises(ValueError, match="trained on"):
        load_pruner(home / "of-two", network, SCHEDULE)


def commands(home, pruner):
    """Every command that takes a pruner, and where it writes."""
    same = ("--model", home / "one", "--pruner", home / pruner)
    records = ("--data", home / "data", "--tasks", "few_shot", "--limit", 1, "--method", "sdtp", "--schedule", "keep07")
    return {
        "evaluate": (("evaluate", *same, *records), home / "scores.json"),
        "profile": (
            ("profile", *same, "--mode", "prefill", "--config", "keep07", "--lengths", 64, "--repeats", 1),
            home / "latency.json",
        ),
        "explore": (("explore", *same, "--prompt-file", home / "prompt.txt", "--new-tokens", 2), home / "page.html"),
        "demo": (("demo", *same, "--prompt-file", home / "prompt.txt", "--repeats", 1), home / "demo.html"),
        "compare": (
            ("explore", "--model", home / "one", "--pruner", home / "of-one", "--compare", home / pruner,
             "--prompt-file", home / "prompt.txt", "--new-tokens", 2), home / "pages.html",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("command", ["evaluate", "profile", "explore", "demo", "compare"])
def test_every_command_refuses_another_models_pruner_unless_it_is_meant(command, home, capsys):
    arguments, output = commands(home, "of-two")[command]
    status, said = run(capsys, *arguments, "--output", output)
    assert status == 2 and len(said) == 1 and "'of-two' was trained on model 'two'" in said[0]
    assert str(home / "one") in said[0] and "--any-model" in said[0] and not output.exists()
    assert run(capsys, *arguments, "--output", output, "--any-model") == (0, [])
    text = output.read_text()
    sha = hashlib.sha256((home / "of-two" / WEIGHTS_FILE).read_bytes()).hexdigest()
    assert sha in text and "of-two" in text
    if command in ("evaluate", "profile"):
        pruner = {"name": "of-two", "sha256": sha, "model": "two", "same_weights": False, "options": {"width": 8}}
        assert json.loads(text)["metadata"]["pruner"] == pruner
    output.unlink()


def test_lm_eval_refuses_another_models_pruner_unless_it_is_meant(home):
    harness = pytest.importorskip("sdtp_lib.evaluation.harness.model")
    given = f"pretrained={home / 'one'},schedule=keep07,pruner={home / 'of-two'}"
    with pytest.raises(ValueError, match="trained on model 'two'"):
        harness.SDTPLM.create_from_arg_string(given)
    with pytest.raises(ValueError, match="any_model must be true or false"):
        harness.SDTPLM.create_from_arg_string(f"{given},any_model=perhaps")
    info = harness.SDTPLM.create_from_arg_string(f"{given},any_model=true").get_model_info()
    assert info["pruner"]["name"] == "of-two" and info["pruner"]["same_weights"] is False


def test_a_latency_file_is_not_resumed_with_another_pruner(home, capsys, tmp_path):
    start = ("profile", "--model", home / "one", "--mode", "prefill", "--config", "keep07", "--repeats", 1, "--output",
             tmp_path / "latency.json", "--pruner")  # fmt: skip
    assert run(capsys, *start, home / "of-one", "--lengths", 64)[0] == 0
    status, said = run(capsys, *start, home / "of-nobody", "--lengths", 64, 80, "--resume")
    assert status == 2 and "cannot resume: pruner was" in said[0]
    assert run(capsys, *start, home / "of-one", "--lengths", 64, 80, "--resume")[0] == 0


def test_what_is_made_up_of_pruners_names_each():
    model, first, second = tiny_model(), tiny_pruner((2, 4), seed=1), tiny_pruner((2, 4), seed=2)
    one, two = (pruner_record(pruner, model) for pruner in (first, second))
    assert one["name"] == "in memory" and one["sha256"] != two["sha256"] and one["same_weights"] is None
    assert pruner_record(BlendScorer(first, second), model) == [one, two]
    assert pruner_record(PooledScorer(BlendScorer(first, RandomScorer())), model) == one
    assert pruner_record(RandomScorer(), model) is None and pruner_record(None) is None


def test_results_name_the_pruners_loaded_for_their_model_unless_told(monkeypatch, home):
    small = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4, vocab_size=50)
    monkeypatch.setitem(SHAPES, "small", small)
    model, _ = load_model("small", device="cpu")
    assert provenance.metadata(profile=None, model=model)["pruner"] is None
    pruner = load_pruner(None, model, SCHEDULE, seed=3)
    known = provenance.metadata(profile=None, model=model)["pruner"]
    assert known["name"] == "random (seed 3)" and len(known["sha256"]) == 64 and known["same_weights"] is None
    assert provenance.metadata(profile=None, model=model, pruner=None)["pruner"] is None
    assert provenance.metadata(profile=None, model=model, pruner=pruner)["pruner"] == known
    load_pruner(None, model, SCHEDULE, seed=3)
    assert pruners_of(model) == [known]  # the same one again
    load_pruner(home / "of-nobody", model, SCHEDULE)
    assert [each["name"] for each in pruners_of(model)] == ["random (seed 3)", "of-nobody"]


def test_a_pruner_saved_again_keeps_what_it_says_of_its_model(home, tmp_path):
    TokenPruner.from_pretrained(home / "of-one").save_pretrained(tmp_path / "copy")
    with pytest.raises(ValueError, match="'copy' was trained on model 'one'"):
        load_pruner(tmp_path / "copy", load_model(home / "two", device="cpu")[0], SCHEDULE)
