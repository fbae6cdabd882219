"""Points of a sweep: a file each, merged by being there, and no speedup over other devices."""

import json
import math

import pytest
from result_files import latency_document
from test_cli import SMALL

from sdtp_lib import latency_plots, models, results, sweep_points
from sdtp_lib.sweep_points import devices, measure_point, merge_points, points_table, read_points, write_points


def point(config, length, **metadata):
    return latency_document(config, lengths=(length,), **metadata)


@pytest.fixture
def folder(tmp_path):
    for number, document in enumerate(
        [point("keep09", 1024), point("keep09", 512), point("keep07", 1024), point("keep09", 512, device="a GPU")]
    ):
        results.write_json(tmp_path / "points" / f"{number}.json", document)
    return tmp_path / "points"


def test_points_that_differ_in_length_alone_are_one_sweep(folder):
    merged = merge_points(read_points(folder))
    assert {name: [*document["results"]] for name, document in merged.items()} == {
        "keep09, a processor": ["512", "1024"],
        "keep07, a processor": ["1024"],
        "keep09, a GPU": ["512"],
    }
    assert merge_points([point("keep09", 512)]).keys() == {"keep09"}
    latency_plots.speedup(merged)


def test_each_row_is_one_run(folder):
    table = points_table(read_points(folder))
    assert table[["Devices", "Schedule", "Length"]].to_numpy().tolist() == [
        ["a GPU", "keep09", 512],
        ["a processor", "keep07", 1024],
        ["a processor", "keep09", 512],
        ["a processor", "keep09", 1024],
    ]
    row = points_table([point("keep09", 1024)]).iloc[0]
    assert row["Prefill x"] == row["Full prefill (s)"] / row["Pruned (s)"] == 1.25 + 1 / 8
    assert row["End2End x"] == pytest.approx(row["Full total (s)"] / row["Pruned total (s)"])
    assert "Failed" not in table


def test_a_point_that_failed_is_shown_as_such(folder):
    failed = point("keep08", 4096)
    failed["results"] = {"4096": {"error": "OutOfMemoryError: no more"}}
    row = points_table([*read_points(folder), failed]).set_index("Schedule").loc["keep08"]
    assert row["Failed"] == "OutOfMemoryError: no more" and math.isnan(row["Prefill x"])


def test_devices_are_named_with_their_number():
    assert devices({"device": "H200"}) == "H200"
    assert devices({"device": "H200", "tensor_parallel": 4}) == "H200, split over 4 processes"
    assert devices({"device": "H200", "devices": ["0", "cpu"]}) == "H200, layers on 0, cpu"


def test_the_table_is_written_beside_the_points(folder, tmp_path):
    write_points(folder, tmp_path / "sweep.md")
    text = (tmp_path / "sweep.md").read_text()
    assert text.count("\n|") == 5 and "no speedup here is over fewer devices" in text


def test_other_files_are_refused(folder):
    (folder / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="other.json is no latency file"):
        read_points(folder)
    with pytest.raises(FileNotFoundError, match="no points in"):
        read_points(folder / "nothing")


def test_a_point_is_measured_into_a_file_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    monkeypatch.setitem(models.SHAPES, "small", SMALL)
    options = dict(dtype="float32", repeats=1, mode="prefill")
    document = measure_point("demo", "small", "keep07", 64, **options)
    measure_point("demo", "small", "keep07", 96, **options, device_map="auto")
    files = {file.name: json.loads(file.read_text()) for file in (tmp_path / "demo" / "points").iterdir()}
    assert sorted(files) == ["small_float32_auto_keep07_prefill_96.json", "small_float32_keep07_prefill_64.json"]
    assert files["small_float32_keep07_prefill_64.json"] == document and document["metadata"]["profile"] == "demo"
    assert list(document["results"]) == ["64"] and document["results"]["64"]["speedup"]["prefill"] > 0


def test_a_point_that_fails_raises_and_its_file_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    monkeypatch.setitem(models.SHAPES, "small", SMALL)

    def fail(*arguments):
        raise MemoryError("no more")

    monkeypatch.setattr("sdtp_lib.benchmark.alternate", fail)
    with pytest.raises(RuntimeError, match="64 tokens failed: MemoryError: no more"):
        measure_point("demo", "small", "keep07", 64, dtype="float32", repeats=1)
    (found,) = read_points(tmp_path / "demo" / sweep_points.FOLDER)
    assert found["results"] == {"64": {"error": "MemoryError: no more"}}
