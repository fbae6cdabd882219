"""`sdtp tune` from prompts to a folder that every command takes: on a tiny model, and once on the demo's."""

import json
from dataclasses import replace

import pytest
from folders import run, save_model

from sdtp_lib.evaluation.harness.arguments import load
from sdtp_lib.evaluation.longbench import evaluate
from sdtp_lib.experiments.tuning import command as tuning
from sdtp_lib.experiments.tuning import loss_file
from sdtp_lib.experiments.tuning.effort import QUICK
from sdtp_lib.experiments.tuning.measurement import WORDS
from sdtp_lib.models.loading import load_model, load_pruner
from sdtp_lib.models.named_schedules import resolve_schedule
from sdtp_lib.scorers.files import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

SMALL = replace(QUICK, train=9, search=3, held_out=5, epochs=2, stages=(1,), first_look=2, finalists=3, repeats=1)
FOLDER = {CARD_FILE, CONFIG_FILE, WEIGHTS_FILE}


def write_prompts(path, count=40, titles=20):
    """Prompts with answers about some documents."""
    rows = [
        {"prompt": f"the box {n} has a key . " * 12 + "What is in it ?", "answer": " a key", "title": f"d{n % titles}"}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    save_model(folder / "model")
    write_prompts(folder / "prompts.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "QUICK", SMALL)
        yield folder


def command(home, output, *more):
    start = ("tune", "--model", home / "model", "--data", home / "prompts.jsonl", "--quick", "--device", "cpu")
    return (*start, "--output", output, "--flop-ratio", 1.2, 1.3, *more)


@pytest.fixture(scope="module")
def tuned(home):
    from sdtp_lib.cli import main

    assert main([str(argument) for argument in command(home, home / "pruner")]) == 0
    return home / "pruner"


def record_of(folder):
    return json.loads((folder / CONFIG_FILE).read_text())["record"]


def test_the_folder_says_what_was_done_and_holds_no_prompts(tuned):
    assert {path.name for path in tuned.iterdir()} == FOLDER
    record, card = record_of(tuned), (tuned / CARD_FILE).read_text()
    assert [*record["use"]["schedules"]] == ["1.2", "1.3"] and 9 <= record["tuning"]["documents"] <= 17
    assert record["tuning"]["prompts"] == SMALL.wanted
    used = {layer for schedule in record["use"]["schedules"].values() for layer in schedule["layers"]}
    assert {*json.loads((tuned / CONFIG_FILE).read_text())["layers"]} == used
    rows = {(row["asked"], row["method"]): row for row in record["measured"]}
    assert {("", "full"), ("1.2", "tuned"), ("1.3", "tuned"), ("1.3", "random"), ("1.3", WORDS)} <= {*rows}
    assert any("paper" in method for _, method in rows) and any(m.startswith("attention") for _, m in rows)
    for (asked, _), row in rows.items():
        assert not asked or float(asked) <= row["flops"] < 1.05 * float(asked)
        assert row["prefill"] > 0 and row["n"] == 5
    best = min(record["places"]["1.2"], key=lambda row: row["nll"])["layer"]
    assert "## Where one cut costs least" in card and f"1 from layer {best}" in {
        row["schedule"] for row in record["searched"]["1.2"]
    }
    assert "box" not in card and "5 prompts" in card and "| tuned" in card


def test_every_command_takes_it_with_its_schedule_and_pooling(home, tuned, capsys):
    record, model = record_of(tuned), ("--model", home / "model", "--pruner", tuned, "--device", "cpu")
    found = evaluate("few_shot", "sdtp", limit=2, model=home / "model", pruner=tuned, device="cpu")
    assert found["metadata"]["schedule"] == record["use"]["schedules"]["1.2"]
    assert found["metadata"]["pool"] == record["use"]["pool"]
    other = evaluate("few_shot", "sdtp", "1.3", 2, home / "model", tuned, pool=3, device="cpu")
    assert other["metadata"]["schedule"] == record["use"]["schedules"]["1.3"] and other["metadata"]["pool"] == 3
    (home / "prompt.txt").write_text("the box holds a key . " * 20 + "What is in the box ?")
    page = home / "page.html"
    assert run(capsys, "explore", *model, "--prompt-file", home / "prompt.txt", "--output", page) == (0, [])
    assert "schedule 1.2" in page.read_text()
    again = ("--prompt-file", home / "prompt.txt", "--output", page, "--repeats", 1, "--new-tokens", 2)
    assert run(capsys, "demo", *model, *again, "--schedule", "1.3") == (0, [])
    file = home / "latency.json"
    timed = ("profile", *model, "--mode", "prefill", "--lengths", 200, "--repeats", 1, "--output", file)
    assert run(capsys, *timed) == (0, [])
    metadata = json.loads(file.read_text())["metadata"]
    assert metadata["config"] == "1.2" and metadata["schedule"] == record["use"]["schedules"]["1.2"]
    assert run(capsys, *timed, "--resume") == (0, [])
    network, _ = load_model(home / "model", "float32", "cpu")
    schedule = resolve_schedule("1.3", network, tuned)
    assert load_pruner(tuned, network, schedule)
    for method in ("sdtp", "random"):
        *_, pruning = load(home / "model", tuned, 1.3, method, device="cpu")
        assert pruning.schedule == schedule
    status, said = run(capsys, "evaluate", "--tasks", "few_shot", "--method", "sdtp", "--schedule", "1.7", *model)
    assert status == 2 and "no schedule '1.7'; known: 1.2, 1.3" in said[0]


def test_a_killed_tuning_goes_on_to_the_same_folder(home, tuned, tmp_path, capsys, monkeypatch):
    real, left, output = loss_file.sample_loss, [20], tmp_path / "pruner"

    def dies(*given):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(loss_file, "sample_loss", dies)
    status, said = run(capsys, *command(home, output))
    assert status == 130 and "--resume" in said[-1] and {path.name for path in output.iterdir()} == {"work"}
    assert run(capsys, *command(home, output))[0] == 2
    status, said = run(capsys, *command(home, output, "--resume", "--seed", 1))
    assert status == 2 and "cannot resume" in said[0] and len(said) == 1
    left[0] = 10_000
    assert run(capsys, *command(home, output, "--resume")) == (0, [])
    first, second = (record_of(folder) for folder in (tuned, output))
    for row in first["measured"] + second["measured"]:
        row.pop("prefill")  # measured anew
    assert first == second and (output / WEIGHTS_FILE).read_bytes() == (tuned / WEIGHTS_FILE).read_bytes()
    assert run(capsys, *command(home, output, "--resume")) == (0, [])
    assert run(capsys, *command(home, output))[0] == 2


@pytest.mark.parametrize(
    "more, word",
    [
        (("--data", "{home}/few.jsonl"), "too few to tune on"),
        (("--data", "{home}/nothing.jsonl"), "nothing.jsonl"),
        (("--flop-ratio", "0.5"), "above 1"),
        (("--flop-ratio", "40"), "no schedule searched reaches"),
        (("--max-tokens", "3"), "fit max_tokens=3"),
        (("--model", "mistral-7b"), "no tokenizer"),
        (("--output", "{home}/prompts.jsonl"), "is the input"),
        (("--chat-template",), "no chat template"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(home, tmp_path, capsys, more, word):
    write_prompts(home / "few.jsonl", 10)
    status, said = run(capsys, *command(home, tmp_path / "out", *(text.format(home=home) for text in more)))
    assert status == 2 and len(said) == 1 and word in said[0] and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_demo_is_tuned_and_is_better_than_chance(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "QUICK", QUICK)  # `home` made it smaller, for the whole module
    output = tmp_path / "pruner"
    options = ("--model", "demo", "--data", "demo", "--flop-ratio", 1.6, "--quick", "--output", output)
    assert run(capsys, "tune", *options) == (0, [])
    rows = {row["method"]: row for row in record_of(output)["measured"]}
    assert rows["random"]["above_tuned"]["verdict"] == "higher"
    assert rows["tuned"]["above_full"]["difference"] < 0.2
    found = evaluate("multidoc_qa", "sdtp", limit=5, pruner=output)
    assert found["compression"] > 1.2
