import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from helpers import HIDDEN, tiny_model, tiny_pruner
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import MistralConfig, PreTrainedTokenizerFast

from sdtp_lib import paths
from sdtp_lib.models import loading as models
from sdtp_lib.models.model_files import Build
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.scorers.token_pruner import TokenPruner

SCHEDULE = PruningSchedule((2, 4))
SMALL = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=50,
)  # fmt: skip


@pytest.fixture
def small_shape(monkeypatch):
    monkeypatch.setitem(models.SHAPES, "small", SMALL)
    return "small"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "checkpoint"
    tiny_model("qwen2").save_pretrained(path)
    words = Tokenizer(WordLevel({"[unk]": 0, "</s>": 1, "a": 2}, unk_token="[unk]"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>").save_pretrained(path)
    return path


@pytest.mark.parametrize("name", ["scaled-mistral", "mistral-7b"])
def test_shapes_are_what_they_are_called(name):
    config = MistralConfig(**models.SHAPES[name])
    with torch.device("meta"):
        model = models.AutoModelForCausalLM.from_config(config)
    expected = {"scaled-mistral": 141_853_184, "mistral-7b": 7_241_732_096}  # the second as published for Mistral-7B
    assert model.num_parameters() == expected[name]
    assert config.sliding_window is None and config.rope_parameters["rope_theta"] == 1e6


def test_a_shape_is_random_but_seeded(small_shape):
    state = torch.get_rng_state()
    (model, tokenizer), (same, _), (other, _) = (
        models.load_model("small", "bfloat16", "cpu", seed=s) for s in (0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state())  # the caller's own random numbers are left alone
    assert tokenizer is None and model.name_or_path == "small"
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "sdpa"
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    weights = [m.model.layers[0].mlp.up_proj.weight for m in (model, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.isfinite(model(torch.arange(9)[None]).logits).all()


def test_a_folder_gives_back_what_was_saved(folder):
    model, tokenizer = models.load_model(folder, dtype="float32", device="cpu")
    ids = torch.arange(9)[None]
    assert torch.equal(model(ids).logits, tiny_model("qwen2")(ids).logits)
    assert model.name_or_path == str(folder) and not any(p.requires_grad for p in model.parameters())
    assert tokenizer.padding_side == "left" and tokenizer.pad_token == "</s>"


def test_a_folder_without_tokenizer_gives_none(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert models.load_model(folder, dtype="float32", device="cpu")[1] is None


def test_demo_is_the_shipped_checkpoint(folder, monkeypatch):
    monkeypatch.setattr(paths, "DEMO_CHECKPOINT", folder)
    assert models.load_model("demo", device="cpu")[0].name_or_path == "demo"


@pytest.mark.parametrize("name", ["/no/such/folder", "./model", "a/b/c"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(FileNotFoundError, match=f"model folder {name} does not exist"):
        models.load_model(name)


@pytest.mark.parametrize("name", ["mistral-8b", ""])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError, match=f"unknown model '{name}'.*scaled-mistral"):
        models.load_model(name)


def test_a_hub_model_out_of_reach_is_one_line(monkeypatch):
    def refuse(source, **options):
        assert options["revision"] == "abc" and options["use_safetensors"] and not options["trust_remote_code"]
        raise OSError("cannot connect\nlong explanation")

    config = tiny_model("mistral").config
    monkeypatch.setattr(models, "build_of", lambda source, revision: Build(config))  # that is read first
    monkeypatch.setattr(models, "tokenizer_of", lambda source, vocabulary, revision: None)
    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(FileNotFoundError, match="^owner/model is no folder.*: cannot connect$"):
        models.load_model("owner/model", revision="abc")


def test_an_unknown_dtype_is_refused(small_shape):
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        models.load_model("small", dtype="int8")


def test_pickled_weights_are_never_loaded(folder):
    torch.save(tiny_model("qwen2").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no safetensors weights; pickled"):
        models.load_model(folder)


def test_damaged_weights_are_refused(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="checkpoint are damaged"):
        models.load_model(folder)


def test_missing_weights_are_not_filled_with_noise(folder):
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] += 1
    config["layer_types"].append("full_attention")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lack model.layers.6"):
        models.load_model(folder)


def test_a_shape_gets_a_seeded_random_pruner(small_shape):
    model, _ = models.load_model("small", "bfloat16", "cpu")
    first, same, other = (models.load_pruner(None, model, PruningSchedule((1, 2)), seed) for seed in (0, 0, 1))
    assert first.layers == (1, 2) and first.mlps["1"][0].weight.dtype == torch.bfloat16
    weights = [pruner.mlps["1"][0].weight for pruner in (first, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not any(p.requires_grad for p in first.parameters())


def test_a_pruner_folder_is_loaded_and_checked(tmp_path):
    model = tiny_model("mistral")
    tiny_pruner((2, 4)).save_pretrained(tmp_path / "fits")
    loaded = models.load_pruner(tmp_path / "fits", model, SCHEDULE)
    assert torch.equal(loaded.mlps["2"][0].weight, tiny_pruner((2, 4)).mlps["2"][0].weight)
    tiny_pruner((2, 4), hidden=HIDDEN * 2).save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=f"hidden size {HIDDEN * 2}, the model {HIDDEN}"):
        models.load_pruner(tmp_path / "wide", model, SCHEDULE)
    with pytest.raises(ValueError, match="no scorer for layers"):
        models.load_pruner(tmp_path / "fits", model, PruningSchedule((2, 3)))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        models.load_pruner(tmp_path / "nowhere", model, SCHEDULE)


def test_a_folder_that_happens_to_have_a_design_s_name_is_none_until_a_pruner_lies_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").mkdir()
    model, _ = models.load_model("demo", "float32")
    paper = PruningSchedule.preset("paper", model.config.num_hidden_layers)
    assert models.load_pruner("paper", model, paper).mlps.keys() == models.load_pruner(None, model, paper).mlps.keys()
    tiny_pruner((2, 4)).save_pretrained(tmp_path / "paper")
    with pytest.raises(ValueError, match=f"hidden size {HIDDEN}"):
        models.load_pruner("paper", model, paper)


def test_the_demo_model_brings_its_pruner(tmp_path, monkeypatch):
    model = tiny_model("mistral")
    model.name_or_path = "demo"
    monkeypatch.setattr(paths, "DEMO_PRUNER", tmp_path)
    tiny_pruner((2, 4)).save_pretrained(tmp_path)
    assert models.load_pruner(None, model, SCHEDULE).layers == (2, 4)


def test_real_weights_never_get_a_random_pruner():
    with pytest.raises(ValueError, match="needs the folder of a pruner"):
        models.load_pruner(None, tiny_model("mistral"), SCHEDULE)


@pytest.mark.slow  # in a process of its own: the place of the cache is read once
def test_a_model_of_the_hub_is_called_by_its_commit(tmp_path):
    commit, home = "a" * 40, tmp_path / "models--own--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    shutil.copytree(paths.DEMO_CHECKPOINT, home / "snapshots" / commit)
    code = """
from sdtp_lib.models.identity import fingerprint
from sdtp_lib.models import load_model, load_pruner
from sdtp_lib.paths import DEMO_PRUNER
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.scorers import TokenPruner
for revision in (None, "a" * 40):
    model, tokenizer = load_model("own/tiny", "float16", "cpu", revision)
    load_pruner(DEMO_PRUNER, model, PruningSchedule.preset("paper", 14))
    print(model.name_or_path, fingerprint(model), tokenizer.pad_token)
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    known = TokenPruner.from_pretrained(paths.DEMO_PRUNER).record["fingerprint"]
    assert done.stdout.split("\n")[:-1] == [f"own/tiny@{commit} {known} <|pad|>"] * 2, done.stderr
