"""`sdtp demo`: what it says is what was run, and the page is there whole or not at all."""

import pytest
from explorer_data import HOSTILE, made_up_demo
from folders import run, save_model, save_pruner

from sdtp_lib import TokenPruning, cli
from sdtp_lib.data import longbench_records
from sdtp_lib.evaluation.answers import encode_record, score_records
from sdtp_lib.explorer import demo as command
from sdtp_lib.latency import sweep_plan
from sdtp_lib.models import load_model, load_pruner
from sdtp_lib.pruning.schedule import PruningSchedule


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(what the demo found, its page)."""
    page = tmp_path_factory.mktemp("demo") / "runs" / "demo.html"
    return command.demo(page, repeats=1, dtype="float32"), page


@pytest.fixture(scope="module")
def evaluated():
    """(sample of the full model, sample of the pruned one, trace of the pruned prefill) as evaluation has them."""
    model, tokenizer = load_model("demo", dtype="float32")
    schedule = PruningSchedule.preset("paper", model.config.num_hidden_layers)
    pruning = TokenPruning(schedule, load_pruner(None, model, schedule))
    records = longbench_records("multidoc_qa", limit=1)
    (full,), (pruned,) = (score_records(model, tokenizer, records, each) for each in (None, pruning))
    _, ids, _ = encode_record(model, tokenizer, records[0])
    with pruning(model) as trace:
        model(input_ids=model.dummy_inputs["input_ids"].new_tensor([ids]))
    return full, pruned, trace


def test_answers_tokens_and_bytes_are_those_of_evaluation(found, evaluated):
    shown, (full, pruned, trace) = found[0], evaluated
    run = shown["runs"][0]
    assert shown["full"]["answer"] == full["prediction"].strip() and run["answer"] == pruned["prediction"].strip()
    assert full["score"] == pruned["score"] == 1.0 and shown["record"]["answer"] in pruned["prediction"]
    schedule = PruningSchedule.preset("paper", shown["num_layers"])
    assert run["present"] == pruned["tokens_per_layer"] == schedule.lengths(full["prompt_tokens"], shown["num_layers"])
    assert run["kv_bytes"] == trace.kv_bytes and sum(trace.kv_bytes) < sum(shown["full"]["kv_bytes"])


def test_the_report_says_what_was_found(found):
    shown, run = found[0], found[0]["runs"][0]
    lines = [line.split() for line in command.report(shown).splitlines()]
    before, after = sum(shown["full"]["kv_bytes"]), sum(run["kv_bytes"])
    sizes = [f"{before / 1e6:.2f}", "MB", f"{after / 1e6:.2f}", "MB", f"{100 * (1 - after / before):.0f}%", "saved"]
    assert ["KV", "cache", "after", "it", *sizes] in lines
    layers = [stage["layer"] for stage in run["stages"]]
    assert ["cut", "at", "layer", *map(str, layers)] in lines
    assert ["tokens", "kept", *(str(run["present"][layer]) for layer in layers)] in lines
    assert ["full", "model", *shown["full"]["answer"].split()] in lines and ["pruned", *run["answer"].split()] in lines


def test_the_page_is_written_and_nothing_else(found):
    shown, page = found
    html = page.read_text()
    assert "schedule paper" in html and "Pruned by sdtp" in html and shown["runs"][1]["name"] == "random"
    assert [path for path in page.parents[1].rglob("*") if path.is_file()] == [page]


def test_times_are_medians_of_each_side(monkeypatch, tmp_path):
    model = save_model(tmp_path)
    seconds = iter([9.0, 9.0, 1.0, 10.0, 20.0, 3.0, 2.0, 30.0])  # warm-up, then full, pruned, pruned, full, ...
    entered = []

    def timed(model, ids, new_tokens):
        entered.append(any(module._forward_pre_hooks for module in model.modules()))
        return sweep_plan.Run(ids.shape[1], next(seconds), None, None, [], 0, model.dtype, ids, None)

    monkeypatch.setattr(sweep_plan, "timed_run", timed)
    pruning = TokenPruning(PruningSchedule((2,)), command.make_scorer("random"))
    ids = model.dummy_inputs["input_ids"][:1]
    assert command.prefill_times(model, ids, pruning, 3) == [2.0, 20.0]
    assert entered == [True, False, False, True, True, False, False, True]


@pytest.mark.parametrize(
    "shipped, pruner", [(False, None), (False, "pruners/tiny/paper"), (True, None), (True, "paper")]
)
def test_a_model_without_a_pruner_is_pruned_by_attention_and_that_is_said(
    tmp_path, capsys, monkeypatch, shipped, pruner
):
    model, trained = save_model(tmp_path / "model"), shipped or pruner
    save_pruner(tmp_path / "pruners" / "tiny" / "paper", model)
    if shipped:
        monkeypatch.setattr("sdtp_lib.paths.PRUNERS", tmp_path / "pruners")
    (tmp_path / "prompt.txt").write_text("the door of the red house is green . " * 10)
    monkeypatch.chdir(tmp_path)
    named = ("--pruner", pruner) if pruner else ()
    small = ("--prompt-file", tmp_path / "prompt.txt", "--new-tokens", 3, "--repeats", 1, "--no-saliency")
    output = ("--output", tmp_path / "page.html")
    arguments = ["demo", "--model", tmp_path / "model", *named, *small, *output]
    assert cli.main([str(argument) for argument in arguments]) == 0
    said, page = capsys.readouterr().out, (tmp_path / "page.html").read_text()
    assert ("No pruner comes with this model" in said) is ("scored by attention" in said) is not bool(trained)
    assert ("Pruned by attention" in page) is not bool(trained) and "No saliency" in page
    assert "right answer" not in said and str(tmp_path / "page.html") in said


def test_a_prompt_too_short_to_cut_says_so_and_claims_no_gain(tmp_path):
    save_model(tmp_path / "model")
    (tmp_path / "prompt.txt").write_text("a green door")
    found = command.demo(tmp_path / "p.html", tmp_path / "model", prompt_file=tmp_path / "prompt.txt", repeats=1)
    said, reason = command.report(found), found["runs"][0]["reason"]
    assert reason and f"Nothing was cut: {reason}." in said and "as fast" not in said


def test_a_demo_that_fails_leaves_the_page_before_as_it_was(tmp_path, monkeypatch, capsys):
    save_model(tmp_path / "model")
    page, prompt = tmp_path / "page.html", tmp_path / "prompt.txt"
    page.write_text("mine")
    prompt.write_text("the door is green . " * 10)

    def fail(*_):
        raise RuntimeError("the clock stopped")

    monkeypatch.setattr(sweep_plan, "timed_run", fail)
    before = sorted(tmp_path.rglob("*"))
    status, said = run(capsys, "demo", "--model", tmp_path / "model", "--prompt-file", prompt, "--output", page)
    assert status == 1 and len(said) == 1 and "the clock stopped" in said[0]
    assert page.read_text() == "mine" and sorted(tmp_path.rglob("*")) == before


def test_nothing_of_prompt_or_answer_acts_on_the_terminal():
    found = made_up_demo(tokens=len(HOSTILE), texts=["\x1b[2J\r", *HOSTILE[1:]], stages=(2,))
    found["full"]["answer"] = "Clara\x1b[31m\nOslo"
    text = command.report(found)
    assert not set(text) & {"\x1b", "\r", "\x00", "\u202e"} and "Clara⟨001B⟩[31m Oslo" in text
    assert "2.00x as fast" in text


def test_an_answer_that_is_a_number_stays_as_it_is():
    found = made_up_demo()
    found["full"]["answer"] = "1e3"
    assert ["full", "model", "1e3"] in [line.split() for line in command.report(found).splitlines()]
