"""`sdtp profile` and `sdtp evaluate` on one model that two processes hold between them."""

import json

import pytest
import torch
from evaluation.test_sample_files import lines
from helpers import tiny_model
from launch import launch
from small_records import small_model, small_tokenizer, write_records

from sdtp_lib.evaluation.longbench import evaluate
from sdtp_lib.latency import sweep as benchmark
from sdtp_lib.latency.files import check_alike
from sdtp_lib.latency.timing import Run
from sdtp_lib.models.workers import Workers


class Two(Workers):
    """The main one of two processes, both of which hold the same."""

    def __init__(self):
        super().__init__(together=True)
        self.count = 2

    def of_all(self, value):
        return [value, value]


def test_who_holds_a_model_together_does_all_of_the_work():
    assert Two().share([1, 2, 3]) == Two().gather([1, 2, 3]) == [1, 2, 3]


def test_bytes_are_those_of_all_processes_and_seconds_of_one():
    run = dict(
        prefill=1.0, decode=None, total=None, kv_lengths=[3], kv_dtype=torch.float32, new_tokens=torch.zeros(1, 1)
    )
    runs = {
        "none": [Run(3, **run, kv_bytes=10, peak_bytes=None)] * 2,
        "keep09": [Run(3, **run, kv_bytes=7, peak_bytes=5)],
    }
    found = benchmark._bytes_of_all(runs, Two())
    assert {name: [(run.kv_bytes, run.peak_bytes) for run in each] for name, each in found.items()} == {
        "none": [(20, None)] * 2,
        "keep09": [(14, 10)],
    }
    assert found["keep09"][0].prefill == 1.0 and benchmark._bytes_of_all(runs, Workers()) == runs


def test_speedups_of_other_numbers_of_processes_are_not_put_side_by_side():
    one, two = ({"metadata": {"device": "GPU", **more}} for more in ({}, {"tensor_parallel": 2}))
    with pytest.raises(ValueError, match="b.json has tensor_parallel 2, but a.json has None"):
        check_alike({"a.json": one, "b.json": two}, "prefill")


@pytest.mark.slow
def test_a_profile_of_two_processes(tmp_path):
    """A folder's model and a shape, whose random weights the processes read from a folder that is gone afterwards."""
    tiny_model("llama", layers=6).save_pretrained(tmp_path / "model")
    script, pruner = tmp_path / "script.py", tmp_path / "pruner"
    benchmark.models.TokenPruner(32, [1, 2, 3, 4, 5]).save_pretrained(pruner)
    script.write_text(
        "import sys, tempfile\nfrom cli.test_cli import SMALL\n"
        "from sdtp_lib import cli\nfrom sdtp_lib.models import loading as models\n"
        f"tempfile.tempdir = '{tmp_path}'\n"
        "models.SHAPES['small'] = SMALL\nsys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = ["profile", "--mode", "end2end", "--config", "keep07", "--lengths", 40, 64, "--repeats", 1]
    command += ["--dtype", "float32", "--tensor-parallel", "--decode", "grouped", "--chunk", 16]
    alone = benchmark.profile(
        "end2end", "keep07", [40], tmp_path / "model", pruner, "float32", device="cpu", repeats=1,
        output=tmp_path / "alone.json",
    )  # fmt: skip
    assert "tensor_parallel" not in alone["metadata"]
    for options in (["--model", "small"], ["--model", tmp_path / "model", "--pruner", pruner]):
        done = launch(script, *command, *options, "--output", tmp_path / "both.json")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("40 tokens") == 1  # one process shows the table
        both = json.loads((tmp_path / "both.json").read_text())
        assert both["metadata"]["tensor_parallel"] == 2 and list(both["results"]) == ["40", "64"]
    ours, theirs = both["results"]["40"], alone["results"]["40"]
    for side in ("baseline", "sdtp"):
        for key in ("kv_lens_after_prefill", "kv_cache_bytes", "new_tokens"):
            assert ours[side][key] == theirs[side][key], key
    assert ours["limit"]["prefill_causal"] == theirs["limit"]["prefill_causal"]
    assert not list(tmp_path.glob("sdtp-*"))


@pytest.mark.slow
def test_a_length_that_fails_one_process_ends_all_and_the_lengths_before_it_are_there(tmp_path):
    """And so does a main process that fails alone while the others wait for it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nfrom cli.test_cli import SMALL\nfrom sdtp_lib import cli\n"
        "from sdtp_lib.latency import sweep as benchmark\nfrom sdtp_lib.models import loading as models\n"
        "from sdtp_lib.models.workers import Workers\n"
        "models.SHAPES['small'], alternate = SMALL, benchmark.alternate\n"
        "def failing(model, sides, length, plan, bar):\n"
        "    if length == 64 and os.environ['RANK'] == '1':\n"
        "        raise RuntimeError('no more memory')\n"
        "    return alternate(model, sides, length, plan, bar)\n"
        "benchmark.alternate = failing\n"
        "if sys.argv[1] == 'main':\n"
        "    Workers.of_launch('cpu').on_main(lambda: 1 // 0)\n"
        "sys.exit(cli.main(sys.argv[2:]))\n"
    )
    command = ["profile", "--mode", "prefill", "--config", "keep07", "--lengths", 40, 64, 72, "--repeats", 1]
    command += ["--model", "small", "--tensor-parallel", "--output", tmp_path / "out.json"]
    failed = launch(script, "other", *command)
    assert failed.returncode != 0 and "no more memory" in failed.stderr
    assert list(json.loads((tmp_path / "out.json").read_text())["results"]) == ["40"]
    failed = launch(script, "main", *command)
    assert failed.returncode != 0 and "ZeroDivisionError" in failed.stderr
    assert "the main process failed" in failed.stderr


@pytest.mark.slow
def test_an_evaluation_by_two_processes_that_share_a_model(tmp_path):
    pytest.importorskip("lm_eval", reason="LongBench's metrics are lm-evaluation-harness's")
    small_model().save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    write_records(tmp_path / "data")
    same = dict(tasks="longbench_mini", method="random", schedule="keep07", dtype="float32", batch_size=2)
    alone = evaluate(
        **same, device="cpu", model=tmp_path / "model", data=tmp_path / "data", output=tmp_path / "alone.json"
    )
    command = [
        "-m",
        "sdtp_lib.cli",
        "evaluate",
        "--tasks",
        "longbench_mini",
        "--method",
        "random",
        "--schedule",
        "keep07",
    ]
    command += ["--batch-size", 2, "--dtype", "float32", "--model", tmp_path / "model", "--data", tmp_path / "data"]
    done = launch(*command, "--tensor-parallel", "--output", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| average") == 1
    found = json.loads((tmp_path / "out.json").read_text())
    assert found.pop("metadata") == {**alone["metadata"], "tensor_parallel": 2, "threads": 1}
    assert found == {name: value for name, value in alone.items() if name != "metadata"}
    ours, theirs = (lines(tmp_path / f"{stem}.samples.jsonl") for stem in ("out", "alone"))
    assert ours[1:] == theirs[1:] and not list(tmp_path.glob("*.part*"))
    again = launch(*command, "--tensor-parallel", "--output", tmp_path / "out.json", "--resume")
    assert again.returncode == 0 and lines(tmp_path / "out.samples.jsonl") == ours
