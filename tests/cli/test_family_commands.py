"""Every family of the table through every command, from a folder."""

import json

import pytest
from folders import run, save_model, save_pruner, write_pairs
from small_records import write_records

from sdtp_lib.models.identity import fingerprint
from sdtp_lib.pruning.families import FAMILIES
from sdtp_lib.scorers.token_pruner import TokenPruner

TINY = {"gemma3_text": "gemma3"}  # family -> its name among the tests' tiny models


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with records, a prompt and pairs; the families' models are put beside them."""
    home = tmp_path_factory.mktemp("families")
    write_records(home / "data")
    write_pairs(home / "pairs.jsonl")
    (home / "prompt.txt").write_text("the door of the red house is green . " * 10)
    return home


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, home):
    model = save_model(home / request.param, TINY.get(request.param, request.param))
    save_pruner(home / f"{request.param}-pruner", model, request.param)
    return request.param


def test_mark_and_train(family, home, capsys):
    marks, out = home / f"{family}-marks", home / f"{family}-trained"
    model = ("--model", home / family, "--schedule", "keep07")
    marked = run(capsys, "mark", *model, "--data", home / "pairs.jsonl", "--num-samples", 10, "--output", marks)
    assert marked == (0, [])
    assert run(capsys, "train", *model, "--marks", marks, "--epochs", 1, "--output", out) == (0, [])
    record = TokenPruner.from_pretrained(out).record
    assert record["fingerprint"] == TokenPruner.from_pretrained(home / f"{family}-pruner").record["fingerprint"]


def test_training_in_float16_is_refused_before_anything_is_written(home, capsys):
    model = save_model(home / "float16")
    pairs, marks, out = write_pairs(home / "few.jsonl", 3), home / "float16-marks", home / "float16-trained"
    common = ("--model", home / "float16", "--dtype", "float16")
    assert run(capsys, "mark", *common, "--data", pairs, "--num-samples", 3, "--output", marks) == (0, [])
    assert json.loads((marks / "manifest.json").read_text())["fingerprint"] == fingerprint(model)
    status, said = run(capsys, "train", *common, "--marks", marks, "--output", out)
    assert status == 2 and "bfloat16 or float32" in said[0] and not out.exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_evaluate(family, dtype, home, capsys):
    out = home / f"{family}-{dtype}.json"
    status = run(
        capsys, "evaluate", "--model", home / family, "--pruner", home / f"{family}-pruner", "--data", home / "data",
        "--tasks", "few_shot", "code_completion", "--limit", 2, "--method", "sdtp", "--schedule", "keep07",
        "--dtype", dtype, "--output", out,
    )  # fmt: skip
    assert status == (0, [])
    settings, *samples = map(json.loads, out.with_suffix(".samples.jsonl").read_text().splitlines())
    assert settings["settings"]["attention"] in ("sdpa", "eager") and len(samples) == 4
    for sample in samples:
        present = sample["tokens_per_layer"]
        assert present[0] == sample["prompt_tokens"] > present[-1] and not sample["truncated"]
    pruner = json.loads(out.read_text())["metadata"]["pruner"]
    assert pruner["name"] == f"{family}-pruner" and pruner["same_weights"] is True


def test_profile(family, home, capsys):
    out = home / f"{family}-latency.json"
    status = run(
        capsys, "profile", "--model", home / family, "--pruner", home / f"{family}-pruner", "--mode", "prefill",
        "--config", "keep07", "--lengths", 64, "--repeats", 1, "--output", out,
    )  # fmt: skip
    assert status == (0, [])
    document = json.loads(out.read_text())
    record = document["results"]["64"]
    assert "error" not in record and 0 < record["flops"]["ratio"] < 1
    assert record["sdtp"]["tokens_kept"] < 64 and document["metadata"]["pruner"]["name"] == f"{family}-pruner"


def test_explore(family, home, capsys):
    out = home / f"{family}.html"
    status = run(
        capsys, "explore", "--model", home / family, "--pruner", home / f"{family}-pruner", "--new-tokens", 3,
        "--prompt-file", home / "prompt.txt", "--output", out,
    )  # fmt: skip
    assert status == (0, [])
    assert f"{family}-pruner" in out.read_text()


def test_demo(family, home, capsys):
    """Without a pruner: the attention of every family is known."""
    out = home / f"{family}-demo.html"
    status = run(
        capsys, "demo", "--model", home / family, "--new-tokens", 3, "--repeats", 1, "--schedule", "keep07",
        "--prompt-file", home / "prompt.txt", "--output", out,
    )  # fmt: skip
    assert status == (0, []) and "Pruned by attention" in out.read_text()
