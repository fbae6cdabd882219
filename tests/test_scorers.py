"""The pruner's checkpoint: what is written comes back, and what is damaged is refused."""

import json
import pickle

import pytest
import torch
from helpers import HIDDEN, tiny_pruner

from sdtp_lib import TokenPruner
from sdtp_lib.scorers import CONFIG_FILE, WEIGHTS_FILE


@pytest.fixture
def folder(tmp_path):
    pruner = tiny_pruner((2, 5))
    pruner.record = {"epochs": 2}
    pruner.save_pretrained(tmp_path / "pruner")
    return tmp_path / "pruner"


def test_round_trip(folder):
    ours, loaded = tiny_pruner((2, 5)), TokenPruner.from_pretrained(folder)
    hidden = torch.randn(2, 7, HIDDEN)
    for layer in (2, 5):
        scores = loaded(layer, hidden)
        assert scores.shape == (2, 7)
        assert torch.equal(scores, ours(layer, hidden))
    assert loaded.record == {"epochs": 2} and loaded.layers == (2, 5)
    assert sorted(p.name for p in folder.iterdir()) == sorted([CONFIG_FILE, WEIGHTS_FILE])


def test_missing_folder_and_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        TokenPruner.from_pretrained(tmp_path / "nowhere")
    (folder / WEIGHTS_FILE).rename(folder / "pruner.bin")
    with pytest.raises(FileNotFoundError, match="pruner.bin looks like a pickle"):
        TokenPruner.from_pretrained(folder)


@pytest.mark.parametrize("damage", ["truncated", "pickle", "empty"])
def test_damaged_weights_are_refused(folder, damage):
    weights = folder / WEIGHTS_FILE
    whole = weights.read_bytes()
    weights.write_bytes({"truncated": whole[: len(whole) // 2], "pickle": pickle.dumps({"a": 1}), "empty": b""}[damage])
    with pytest.raises(ValueError, match="damaged or not safetensors"):
        TokenPruner.from_pretrained(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hidden_size": 64}, "does not fit"),
        ({"layers": [2, 6]}, "does not fit"),
        ({"format_version": 99}, "format version 99"),
        ({"layers": "all"}, "damaged"),
        ({"hidden_size": None}, "damaged"),
    ],
)
def test_configuration_must_fit_the_weights(folder, change, message):
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=message):
        TokenPruner.from_pretrained(folder)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    pruner = tiny_pruner((2,))
    pruner.mlps["2"][0].weight[0, 0] = float("nan")
    pruner.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="NaN"):
        TokenPruner.from_pretrained(tmp_path)
