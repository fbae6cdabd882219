"""Result files: whole or not at all, with clear errors, and a record of what made them."""

import json
import math
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule, results
from sdtp_lib.models import provenance

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(data=PLAIN)
def test_json_comes_back_as_it_went_in(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "round-trip" / "data.json"
    results.write_json(path, data)
    assert results.read_json(path) == data
    assert [file.name for file in path.parent.iterdir()] == ["data.json"]


def test_numbers_of_numpy_and_torch_become_plain(tmp_path):
    results.write_json(tmp_path / "a.json", {"a": np.float32(0.5), "b": torch.tensor([1, 2]), "c": np.arange(2)})
    assert results.read_json(tmp_path / "a.json") == {"a": 0.5, "b": [1, 2], "c": [0, 1]}


@pytest.mark.parametrize("bad", [math.nan, math.inf, object(), {1: {2}}])
def test_data_without_json_form_writes_nothing(tmp_path, bad):
    path = tmp_path / "new" / "data.json"
    with pytest.raises(ValueError, match="data.json was not written"):
        results.write_json(path, {"x": bad})
    with pytest.raises(ValueError, match="data.json was not written"):
        results.append_jsonl(path, [{"fine": 1}, {"x": bad}])
    assert not path.parent.exists()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch, step):
    path = tmp_path / "data.json"
    results.write_json(path, "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        results.write_json(path, "new")
    assert results.read_json(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lines_are_appended(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    results.append_jsonl(path, [{"a": 1}, {"a": 2}])
    results.append_jsonl(path, [{"a": 3}])
    assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json does not exist"):
        results.read_json(tmp_path / "gone.json")
    for content in (b'{"a": 1', b"", b"\xff\xfe\xfa"):
        (tmp_path / "cut.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"cut\.json is damaged"):
            results.read_json(tmp_path / "cut.json")


def test_metadata_carries_what_the_design_asks_for(tmp_path):
    schedule = PruningSchedule.preset("keep09", 32)
    model = SimpleNamespace(name_or_path="scaled-mistral", dtype=torch.bfloat16, device=torch.device("cpu"))
    record = provenance.metadata(profile="demo", model=model, schedule=schedule, seeds=[0], repeats=3)
    assert record["schedule"] == schedule.to_dict() and record["dtype"] == "bfloat16"
    assert {"profile": "demo", "model": "scaled-mistral", "seeds": [0], "repeats": 3}.items() <= record.items()
    assert record["torch"] == torch.__version__ and record["device"] and "commit" in record
    results.write_json(tmp_path / "a.json", record)
    results.check_resumable(results.read_json(tmp_path / "a.json"), record)


def test_metadata_of_a_folder_names_no_folders_above_it(tmp_path):
    assert provenance.metadata(profile="demo", model=tmp_path)["model"] == tmp_path.name
    assert provenance.metadata(profile="demo", model="owner/model")["model"] == "owner/model"


@pytest.mark.parametrize("key", results.RESUME_KEYS)
def test_resuming_something_else_is_refused_by_name(key):
    old = dict.fromkeys(results.RESUME_KEYS, "same")
    results.check_resumable(old, {**old, "commit": "another"})
    with pytest.raises(ValueError, match=f"cannot resume: {key} was 'same' and is now 'other'"):
        results.check_resumable(old, {**old, key: "other"})


def test_a_commit_is_of_this_repository_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(results.paths, "ROOT", tmp_path)
    assert provenance.environment_record()["commit"] is None


def test_tables_are_rounded_and_aligned():
    rows = [{"task": "a|b", "score": 1.005, "n": 3}, {"task": "c", "score": math.nan, "n": 4}]
    table = results.markdown_table(rows, digits=1)
    assert table.splitlines() == [
        "| task   |   score |   n |",
        "|:-------|--------:|----:|",
        r"| a\|b   |     1.0 |   3 |",
        "| c      |       - |   4 |",
    ]
    assert results.markdown_table(pd.DataFrame({"x": [-0.001]}, index=["hidden"])).endswith("| 0.00 |")
    assert results.markdown_table(pd.DataFrame({"x": np.float32([0.125])}), digits=3).endswith("| 0.125 |")
    assert results.markdown_table(pd.DataFrame({"x": []})).startswith("| x")


def test_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a folder"):
        results.check_output(tmp_path)
    with pytest.raises(ValueError, match="file is a file"):
        results.check_output(tmp_path / "file" / "below" / "x.json")
    results.check_output(tmp_path / "new" / "x.json")
