"""A pruner's folder: what is damaged, forged or out of place is refused by name; the Hub takes the rest as it is."""

import json
import os
import pickle
import shutil

import huggingface_hub
import pytest
import torch
from helpers import tiny_pruner
from huggingface_hub import CommitOperationAdd
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtp_lib import TokenPruner
from sdtp_lib.scorers import files as pruner_files
from sdtp_lib.scorers.files import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

FILES = (CONFIG_FILE, WEIGHTS_FILE)


def save(folder, layers=(2, 5), record=None, seed=1):
    pruner = tiny_pruner(layers, seed=seed, hidden=8)
    pruner.record = {"model": "owner/model@0123abc", "epochs": 2} if record is None else record
    pruner.save_pretrained(folder)
    return pruner


def forge(folder, **changes):
    """Change the configuration, checksum and all."""
    config = {**json.loads((folder / CONFIG_FILE).read_text()), **changes}
    config["config_sha256"] = pruner_files._digest(config)
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return (
        (one.record, one.layers, one.hidden_size) == (other.record, other.layers, other.hidden_size)
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[name].view(torch.uint8), theirs[name].view(torch.uint8)) for name in ours)
    )


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "pruner")
    return tmp_path / "pruner"


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lasting")
    return folder, save(folder, layers=(2,)), {name: (folder / name).read_bytes() for name in FILES}


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(FILES), where=st.floats(0, 1, exclude_max=True), mask=st.integers(0, 255))
def test_a_changed_byte_or_a_cut_is_refused_or_changes_nothing(lasting, name, where, mask):
    folder, saved, whole = lasting
    content = bytearray(whole[name])
    at = int(where * len(content))
    if mask:
        content[at] ^= mask
    else:
        del content[at:]
    (folder / name).write_bytes(content)
    try:
        loaded = TokenPruner.from_pretrained(folder)
    except ValueError as error:
        assert str(folder / name) in str(error)
    else:
        assert name == CONFIG_FILE and same(loaded, saved)
    finally:
        (folder / name).write_bytes(whole[name])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 64, b"\xff\xfe" * 20, pickle.dumps({"a": 1}), b"[" * 100_000, b'{"a":' * 100_000, b"null", b"[]",
        b"version https://git-lfs.github.com/spec/v1\n", (2).to_bytes(8, "little") + b"{}", b"1" * 10_000, b"\xff" * 8,
    ],
    ids=lambda content: content[:8].hex() or "empty",
)  # fmt: skip
def test_other_content_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} (is damaged|does not fit)"):
        TokenPruner.from_pretrained(folder)


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no file {name}"):
        TokenPruner.from_pretrained(folder)
    (folder / name).mkdir()
    with pytest.raises(FileNotFoundError, match=f"has no file {name}"):
        TokenPruner.from_pretrained(folder)
    (folder / name).rmdir()
    os.mkfifo(folder / name)  # to open it would wait for ever
    with pytest.raises(FileNotFoundError, match=f"has no file {name}"):
        TokenPruner.from_pretrained(folder)


def test_a_missing_folder_a_pickle_and_a_file_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        TokenPruner.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"{WEIGHTS_FILE} is no folder"):
        TokenPruner.from_pretrained(folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).rename(folder / "pruner.bin")
    with pytest.raises(FileNotFoundError, match="pruner.bin looks like a pickle"):
        TokenPruner.from_pretrained(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"hidden_size": 64}, "has shape"),
        ({"hidden_size": 10**12}, "has shape"),
        ({"hidden_size": -8}, "no positive whole number"),
        ({"hidden_size": 8.0}, "no positive whole number"),
        ({"hidden_size": True}, "no positive whole number"),
        ({"layers": [2, 6]}, r"mlps\.6\.0\.weight is missing"),
        ({"layers": list(range(10**6))}, "over 10000 layers"),
        ({"layers": list(range(10**3))}, "has 4000 tensors, not 8"),
        ({"kind": ["mlp"]}, r"damaged.*unknown kind \['mlp'\]"),
        ({"kind": "forest"}, "unknown kind 'forest' of pruner; known: mlp"),
        ({"options": {"width": 3}}, "has shape"),
        ({"options": {"width": 0}}, "width must be a whole number"),
        ({"options": {"depth": 3}}, "damaged.*depth"),
        ({"options": 3}, "record or options are no object"),
        ({"kind": "question_aware", "options": {}}, "has 16 tensors, not 8"),
        ({"layers": [5, 2]}, "not ascending"),
        ({"layers": [2, 2]}, "not ascending"),
        ({"layers": [-2, 5]}, "no list of whole numbers"),
        ({"layers": [2, 5.0]}, "no list of whole numbers"),
        ({"layers": [False, True]}, "no list of whole numbers"),
        ({"layers": ["../2", "5"]}, "no list of whole numbers"),
        ({"layers": "25"}, "no list of whole numbers"),
        ({"record": [1]}, "record or options are no object"),
        ({"format_version": 1}, "format version 1.*train the pruner again"),
        ({"format_version": 99}, "format version 99.*newer"),
        ({"format_version": True}, "damaged"),
        ({"weights_sha256": None}, "SHA-256"),
        ({"more": 1}, "damaged"),
    ],
)
def test_a_forged_configuration_is_refused(folder, change, message):
    forge(folder, **change)
    with pytest.raises(ValueError, match=message):
        TokenPruner.from_pretrained(folder)


def test_a_configuration_without_end_is_not_read(folder):
    os.truncate(folder / CONFIG_FILE, 10**13)  # a hole, no bytes
    with pytest.raises(ValueError, match=f"{CONFIG_FILE} is damaged: it is over"):
        TokenPruner.from_pretrained(folder)


@pytest.mark.parametrize("change, message", [("NaN", "NaN"), ("dtypes", "one floating-point dtype")])
def test_weights_that_cannot_be_used_are_refused(folder, change, message, monkeypatch):
    pruner = tiny_pruner((2, 5), hidden=8)
    if change == "NaN":
        pruner.mlps["2"][0].weight[0, 0] = float("nan")
    else:
        pruner.mlps["5"].half()
        monkeypatch.setattr(pruner_files, "_dtype_fault", lambda tensors: None)
    pruner.save_pretrained(folder)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"{WEIGHTS_FILE} cannot be used.*{message}"):
        TokenPruner.from_pretrained(folder)


def circle():
    record = {}
    record["self"] = record
    return record


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda p: p.record.update(value=object()), "not plain JSON"),
        (lambda p: p.record.update(value=float("nan")), "not plain JSON"),
        (lambda p: p.record.update(value=circle()), "not plain JSON"),
        (lambda p: p.record.update(value="x" * 2**24), "the record is over"),
        (lambda p: p.mlps["5"].half(), "one floating-point dtype"),
        (lambda p: p.to("meta"), "meta device"),
        (lambda p: p.mlps.pop("5"), "8 tensors, not 4"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(folder, spoil, message):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pruner = tiny_pruner((2, 5), hidden=8, seed=3)
    spoil(pruner)
    with pytest.raises(ValueError, match=message):
        pruner.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="file is a file"):
            save(place)
    (tmp_path / "pruner" / CONFIG_FILE).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{CONFIG_FILE} is a folder"):
        save(tmp_path / "pruner")
    assert sorted(os.listdir(tmp_path / "pruner")) == [CONFIG_FILE] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("renames", range(4))
def test_a_save_that_dies_leaves_old_or_new_or_says_so(folder, monkeypatch, renames):
    old, real, done = TokenPruner.from_pretrained(folder), os.replace, []

    def replace(*arguments):
        if len(done) == renames:
            raise OSError("the disk is gone")
        done.append(real(*arguments))

    monkeypatch.setattr(os, "replace", replace)
    try:
        new = save(folder, seed=2, record={"epochs": 3})
    except OSError:
        assert renames < 3
    if renames == 2:  # new weights, old configuration
        with pytest.raises(ValueError, match="of another save"):
            TokenPruner.from_pretrained(folder)
    else:
        assert same(TokenPruner.from_pretrained(folder), old if renames < 2 else new)
    assert sorted(os.listdir(folder)) == sorted([*FILES, CARD_FILE])
    monkeypatch.undo()
    assert same(save(folder, seed=2), TokenPruner.from_pretrained(folder))


def test_a_snapshot_of_the_hub_is_read_and_its_store_never_written_to(folder, tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123abc", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(folder, blobs)
    for name in (*FILES, CARD_FILE):
        (snapshot / name).symlink_to(os.path.join("..", "..", "blobs", name))
    assert same(TokenPruner.from_pretrained(snapshot), TokenPruner.from_pretrained(folder))
    new = save(snapshot, seed=2)
    assert same(TokenPruner.from_pretrained(snapshot), new)
    assert all((blobs / name).read_bytes() == (folder / name).read_bytes() for name in FILES)


def test_the_folder_is_ready_for_the_hub(folder):
    added = [CommitOperationAdd(path.name, path) for path in folder.iterdir()]  # what `upload_folder` sends
    assert sorted(file.path_in_repo for file in added) == sorted([*FILES, CARD_FILE])
    assert huggingface_hub.ModelCard.load(folder / CARD_FILE).data.to_dict() == {
        "library_name": "sdtp", "tags": ["sdtp", "token-pruning"], "base_model": "owner/model",
    }  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"model": "demo"},
        {"model": "../x: [y"},
        {"model": {"a": ["b"]}},
        {"a|b\n---": "|\n# x", "c": {"d": "\ud800"}},
    ],
)
def test_no_record_breaks_the_card(tmp_path, record):
    save(tmp_path, record=record)
    card = (tmp_path / CARD_FILE).read_text(encoding="utf-8")
    assert huggingface_hub.metadata_load(tmp_path / CARD_FILE).keys() == {"library_name", "tags"}
    assert "\n# x" not in card and card.count("\n---\n") == 1
    assert TokenPruner.from_pretrained(tmp_path).record == record


def test_a_card_follows_the_record_until_it_is_edited(folder):
    card = folder / CARD_FILE
    assert "| epochs" in card.read_text()
    save(folder, record={"passes": 7})
    assert "| passes" in card.read_text() and "epochs" not in card.read_text()
    card.write_text(card.read_text() + "\nMy words.\n")
    save(folder, record={"steps": 9})
    assert "My words." in card.read_text() and "steps" not in card.read_text()
