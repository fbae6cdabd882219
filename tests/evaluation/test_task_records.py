"""Records of any task for a model: their sources, their lengths, and what a result says of them."""

import json
import shutil

import pytest
from folders import run, save_model
from real_text import write_squad
from small_records import small_model, small_tokenizer, write_records

from sdtp_lib.evaluation.longbench import evaluate
from sdtp_lib.evaluation.task_records import TaskRecords, records_digest

NEEDLES = ["needle", "needle_multi", "needle_reworded", "documents_qa", "prose_nll"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_squad(tmp_path_factory.mktemp("data"), sentences=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, max_position_embeddings=1100)
    return folder


def build(names, data, limit=2, tokens=None, **options):
    return TaskRecords(names, data, limit, tokens).build(small_model(), small_tokenizer(), **options)


def test_a_digest_tells_records_apart(data):
    records = build(NEEDLES, data, tokens=400)
    assert records_digest(records) == records_digest(build(NEEDLES, data, tokens=400))
    assert records_digest(records) != records_digest(records[1:])
    assert len(records_digest(records)) == 16 and len(records) == 2 * len(NEEDLES)


def test_other_tasks_are_cut_to_the_length(tmp_path):
    write_records(tmp_path / "mini")
    whole, cut = build(["singledoc_qa"], tmp_path / "mini"), build(["singledoc_qa"], tmp_path / "mini", tokens=100)
    assert cut == [{**record, "longest": 100} for record in whole]


def test_the_length_is_recorded_that_prompts_have(data, tmp_path):
    write_records(tmp_path / "mini")
    (tmp_path / "mini" / "tpo.jsonl").write_text(
        json.dumps({"input": "Text.", "instructions": ["Who?\nA. he\nB. she"], "outputs": ["A"]}) + "\n"
    )

    def of(names, folder, tokens=None):
        return TaskRecords(names, folder, 2, tokens).tokens

    assert of(NEEDLES, data) == 1024 and of(NEEDLES, data, 400) == 400
    assert of(["tpo"], tmp_path / "mini") == 7500 and of(["few_shot"], tmp_path / "mini") is None
    assert of(["few_shot", "tpo"], tmp_path / "mini") == {"few_shot": None, "tpo": 7500}
    assert of(["few_shot", "tpo"], tmp_path / "mini", 400) == 400
    assert [record["longest"] for record in build(["tpo"], tmp_path / "mini")] == [7500]


def test_sources_are_recorded_by_name_alone(data, monkeypatch):
    assert TaskRecords(["needle"], None, 1).origin == {"data": ["pydoc"], "data_revision": None}
    assert TaskRecords(["needle"], data, 1).origin == {"data": [data.name], "data_revision": None}
    monkeypatch.setenv("SDTP_DATA", str(data))
    assert TaskRecords(["documents_qa"], "squad", 1).origin["data"] == [data.name]


def test_a_length_beyond_the_model_is_refused(data):
    with pytest.raises(ValueError, match="needle: a prompt of 500 tokens and an answer of 16 do not fit .* 512 posit"):
        build(["needle"], data, tokens=500)


def test_evaluate_on_real_text(folder, data, tmp_path):
    options = dict(limit=3, model=folder, data=data, tokens=400, dtype="float32")
    full = evaluate(NEEDLES, "full", output=tmp_path / "full.json", **options)
    result = json.loads((tmp_path / "full.json").read_text())
    assert result == full and full["metadata"]["tokens"] == 400 and full["metadata"]["data"] == [data.name]
    assert full["tasks"].keys() == {*NEEDLES}
    for name, task in full["tasks"].items():
        assert task["n"] == 3 and 360 <= task["prompt_tokens"] <= 400 and "nll" in task["scores"], name
    whole = evaluate(NEEDLES[:1], "strongest", "2:0.5,3:0.7", pool="sentences", **options)["metadata"]
    assert whole["pool"] == "sentences" and whole["schedule"]["keep_ratio"] == [0.5, 0.7]
    pruned = evaluate(NEEDLES, "attention", "2:0.5", pool=3, **options)
    digests = {result["metadata"]["records_digest"] for result in (full, pruned)}
    assert len(digests) == 1 and pruned["metadata"]["pool"] == 3 and pruned["metadata"]["schedule"]["layers"] == [2]


def test_the_command_runs_on_pythons_documentation(folder, tmp_path, capsys):
    asked = ["--tasks", "needle", "--limit", "1", "--dtype", "float32", "--output", tmp_path / "result.json"]
    status, said = run(capsys, "evaluate", "--model", folder, *asked)
    assert (status, said) == (0, [])
    assert json.loads((tmp_path / "result.json").read_text())["metadata"]["tokens"] == 1024


@pytest.mark.parametrize(
    "options, said",
    [
        (["documents_qa"], "documents_qa needs paragraphs with questions, which Python's documentation has not; give "
         "--data squad, or --data FOLDER with a squad_test.jsonl in it"),
        (["needle", "--data", "."], "folder . has no file squad_test.jsonl"),
        (["needle", "--tokens", "3"], "--tokens must be a whole number from 64 to 4294967295, got 3"),
        (["needle", "--method", "random", "--schedule", "3:x"],
         "schedule '3:x' names no cuts; they are written as 15:0.3 or 8:0.5,15:0.4"),
        (["needle", "--method", "random", "--pool", "2"], "pool must be an odd whole number, 1 or more, got 2"),
        (["needle", "--method", "random", "--pool", "0"], "pool must be an odd whole number, 1 or more, got 0"),
        (["needle", "--method", "random", "--pool", "words"],
         "argument --pool: 'words' is neither an odd whole number nor 'sentences'"),
        (["needle", "--method", "oracle", "--pool", "3"],
         "method 'oracle' must be shown the answers; it takes no pool, got 3"),
        (["needle", "--pool", "3"], "method 'full' scores no tokens; it takes no pool, got 3"),
        (["needle", "--tokens", "5000"],
         "needle: a prompt of 5000 tokens and an answer of 16 do not fit the model's 1100 positions"),
        (["documents_qa", "--data", "DATA", "--tokens", "900"],
         "documents_qa record 0: the text is too short for 900 tokens"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(folder, data, tmp_path, capsys, monkeypatch, options, said):
    (tmp_path / "short").mkdir()
    lines = (data / "squad_test.jsonl").read_text().splitlines()
    (tmp_path / "short" / "squad_test.jsonl").write_text("\n".join(lines[:4]) + "\n")
    monkeypatch.chdir(tmp_path)
    options = [str(tmp_path / "short") if option == "DATA" else option for option in options]
    output = tmp_path / "out" / "result.json"
    arguments = ["--tasks", *options, "--model", folder, "--dtype", "float32", "--output", output]
    status, lines = run(capsys, "evaluate", *arguments)
    assert status == 2 and len(lines) == 1 and lines[0].startswith(f"sdtp: error: {said}")
    assert not output.exists()
    shutil.rmtree(tmp_path / "short")
