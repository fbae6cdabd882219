"""Results that a notebook measures itself, or shows as the repository stores them."""

import pytest
from helpers import tiny_model
from result_files import latency_document

from sdtp_lib import paths, results
from sdtp_lib.experiments.stored import stored_or_measured, stored_or_own, stored_or_swept, stored_sweep


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one stored result, and folders of this run's own beside it."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path / "mine"))
    results.write_json(tmp_path / "results/long/costs.json", {"metadata": {}, "data": [1, 2]})
    latency = latency_document("keep09", (64,), mode="prefill")
    results.write_json(tmp_path / "results/long/prefill/latency_results_keep09.json", latency)
    return tmp_path


def test_data_are_stored_or_measured_and_written(repository):
    model, calls = tiny_model(), []
    assert stored_or_measured("long", "costs", lambda: calls.append(1), model, "demo") == [1, 2]
    assert not calls and not (repository / "mine").exists()
    assert stored_or_measured(None, "costs", lambda: [3], model, "demo", seed=5) == [3]
    written = results.read_json(repository / "mine/demo/costs.json")
    assert written["data"] == [3] and written["metadata"]["profile"] == "demo" and written["metadata"]["seed"] == 5
    with pytest.raises(FileNotFoundError):
        stored_or_measured("long", "steps", lambda: [3], model, "demo")


def test_details_may_have_any_name(repository):
    stored_or_measured(None, "costs", lambda: [3], tiny_model(), "demo", source="squad", name="a")
    about = results.read_json(repository / "mine/demo/costs.json")["metadata"]
    assert (about["source"], about["name"]) == ("squad", "a") and len(about["fingerprint"]) == 16


def test_without_a_profile_a_run_shows_its_own(repository):
    assert stored_or_own("long", "costs", [9]) == [1, 2] and stored_or_own(None, "costs", [9]) == [9]


def test_sweeps_are_stored_or_run_into_the_folder(repository):
    def run(folder):
        results.write_json(folder / "latency_results_keep07.json", latency_document("keep07", (32,), mode="prefill"))

    stored = stored_or_swept("long", ["keep09"], "prefill", "demo", run)
    assert list(stored["keep09"]["results"]) == ["64"] and stored == stored_sweep("long", ["keep09"], "prefill")
    assert not (repository / "mine").exists()
    swept = stored_or_swept(None, ["keep07"], "prefill", "demo", run)
    assert list(swept["keep07"]["results"]) == ["32"] and (repository / "mine/demo/prefill").is_dir()
    with pytest.raises(FileNotFoundError):
        stored_or_swept("long", ["keep08"], "prefill", "demo", run)
