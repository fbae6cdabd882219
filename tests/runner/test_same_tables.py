"""The comparison of two runs: times may differ, nothing else."""

import shutil
import subprocess
import sys

import pytest
from result_files import latency_document
from same_tables import differences

from sdtp_lib import paths, results

ROWS = [{"Length": 64, "Prefill (s)": 1.5, "Prefill x": 2.0, "KV reduction %": 34.0}]


@pytest.fixture
def runs(tmp_path):
    """Two runs with the same results."""
    home = tmp_path / "one" / "results"
    results.write_json(home / "table.json", {"metadata": {"commit": "a"}, "data": {"score": 1.0, "prefill x": [2.0]}})
    results.write_json(home / "prefill" / "latency_results_keep09.json", latency_document("keep09", (64,)))
    results.append_jsonl(home / "log.jsonl", [{"time": 1.0, "kept": 3}])
    results.write_text(home / "table.md", results.markdown_table(ROWS) + "\n\nwords\n")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    return tmp_path


def change(file, edit):
    document = results.read_json(file)
    edit(document)
    results.write_json(file, document)


def test_times_commits_and_training_are_no_difference(runs):
    home = runs / "other" / "results"
    change(home / "table.json", lambda table: (table["data"].update({"prefill x": [3.0]}), table.update(metadata={})))
    change(home / "prefill" / "latency_results_keep09.json",
           lambda latency: latency["results"]["64"]["sdtp"].update(prefill_latency_seconds=9.0))  # fmt: skip
    results.write_text(home / "log.jsonl", '{"time": 2.0, "kept": 3}\n')
    slower = [{**ROWS[0], "Prefill (s)": 100.25, "Prefill x": 1.0}]
    results.write_text(home / "table.md", results.markdown_table(slower) + "\n\nwords\n")
    results.write_text(home / "training" / "marks.json", "{}")
    assert differences(runs / "one", runs / "other") == []


@pytest.mark.parametrize("name, edit", [
    ("table.json", lambda table: table["data"].update(score=2.0)),
    ("prefill/latency_results_keep09.json", lambda latency: latency["results"]["64"]["sdtp"].update(tokens_kept=1)),
])  # fmt: skip
def test_another_number_is_one(runs, name, edit):
    change(runs / "other" / "results" / name, edit)
    assert differences(runs / "one", runs / "other") == [name]


def test_rows_columns_and_files_count_too(runs):
    home = runs / "other" / "results"
    results.write_text(home / "table.md", results.markdown_table([{**ROWS[0], "KV reduction %": 35.0}]) + "\n\nwords\n")
    results.append_jsonl(home / "log.jsonl", [{"time": 1.0, "kept": 3}])
    (home / "table.json").unlink()
    assert differences(runs / "one", runs / "other") == ["log.jsonl", "table.json", "table.md"]


def test_it_is_a_command(runs):
    command = [sys.executable, str(paths.ROOT / "tests" / "same_tables.py"), str(runs / "one"), str(runs / "other")]
    assert "4 tables, all the same" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (runs / "other" / "results" / "table.md").unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "1 of 4 tables differ: table.md" in done.stderr
