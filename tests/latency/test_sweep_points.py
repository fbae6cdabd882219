"""Points of a sweep: a file each, merged by being there, and no speedup over other devices."""

import json
import math

import pytest
from cli.test_cli import SMALL
from result_files import latency_document

from sdtp_lib import plots, results
from sdtp_lib.latency import sweep_points
from sdtp_lib.latency.sweep_points import (
    devices,
    measure_point,
    merge_points,
    points_table,
    read_points,
    write_points,
)
from sdtp_lib.models import loading as models


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
    points = read_points(folder)
    merged = merge_points(points, like=points[0])
    found = {name: sorted(document["results"]) for name, document in merged.items()}
    assert found == {"keep09": ["1024", "512"], "keep07": ["1024"]}  # not what a GPU measured
    plots.speedup(merged)
    other = point("keep09", 2048, decode="grouped")
    merged = merge_points([*points, other], like=points[0])
    assert [*merged] == ["keep09, None", "keep07, None", "keep09, grouped"]


def test_each_row_is_one_run(folder):
    table = points_table(read_points(folder))
    assert table[["Devices", "Schedule", "Length"]].to_numpy().tolist() == [
        ["a processor", "keep07", 1024],
        ["a GPU", "keep09", 512],
        ["a processor", "keep09", 512],
        ["a processor", "keep09", 1024],
    ]
    twice = points_table([point("keep09", 512), point("keep09", 512), point("keep09", 512, mode="prefill")])
    assert twice["Mode"].tolist() == ["end2end", "end2end", "prefill"]  # none is dropped
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
    assert list(document["results"]) == ["64"] and document["results"]["64"]["speedup"]["prefill"] > 0
    (file,) = (tmp_path / "demo" / "points").iterdir()
    assert file.name.startswith("small_keep07_64_") and json.loads(file.read_text()) == document
    measure_point("demo", "small", "keep07", 64, **options)  # the same once more
    for change in ({"device_map": "auto"}, {"seed": 1}, {"repeats": 2}):
        measure_point("demo", "small", "keep07", 64, **{**options, **change})
    assert len(read_points(tmp_path / "demo" / "points")) == 4


def test_a_point_that_fails_raises_and_its_file_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    monkeypatch.setitem(models.SHAPES, "small", SMALL)

    def fail(*arguments):
        raise MemoryError("no more")

    monkeypatch.setattr("sdtp_lib.latency.sweep.alternate", fail)
    with pytest.raises(RuntimeError, match="64 tokens failed: MemoryError: no more"):
        measure_point("demo", "small", "keep07", 64, dtype="float32", repeats=1)
    (found,) = read_points(tmp_path / "demo" / sweep_points.FOLDER)
    assert found["results"] == {"64": {"error": "MemoryError: no more"}}
