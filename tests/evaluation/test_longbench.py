"""The evaluation path from records to Table 1, on a tiny random model with the demo's tokenizer."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_records import LAYERS, small_model, small_records, small_tokenizer

from sdtp_lib.data.corpora import longbench_records
from sdtp_lib.data.demo.corpus import TASKS, longbench_mini
from sdtp_lib.evaluation.answers import score_records
from sdtp_lib.evaluation.bootstrap import interval, summarise, table1
from sdtp_lib.evaluation.compare import TABLE1_METHODS, compare
from sdtp_lib.evaluation.longbench import evaluate, measure
from sdtp_lib.evaluation.prompts import build_prompt, encode, load_templates
from sdtp_lib.models.named_schedules import resolve_schedule
from sdtp_lib.paper import CATEGORIES
from sdtp_lib.pruning.context import TokenPruning
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.scorers.simple import RandomScorer
from sdtp_lib.scorers.token_pruner import TokenPruner
from sdtp_lib.training.demo_model import build_tokenizer

SCHEDULE = PruningSchedule(layers=(2, 4), keep_ratio=0.7, min_local_tokens=8)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def pruner():
    torch.manual_seed(1)
    return TokenPruner(32, tuple(range(1, LAYERS))).requires_grad_(False)


@pytest.fixture(scope="module")
def records():
    return small_records()


def answering(model, tokenizer, records, monkeypatch):
    """Let `model.generate` give each record's first answer instead of what the random weights say."""
    known = {}
    for record in records:
        answer = tokenizer(TASKS[record["dataset"]].before + record["answers"][0])["input_ids"]
        known[tuple(tokenizer(build_prompt(record))["input_ids"])] = answer

    def generate(input_ids, attention_mask, max_new_tokens, eos_token_id, **options):
        replies = [known[tuple(row[seen.bool()].tolist())] for row, seen in zip(input_ids, attention_mask, strict=True)]
        width = max(map(len, replies))
        assert width <= max_new_tokens
        return torch.cat([input_ids, torch.tensor([r + [eos_token_id] * (width - len(r)) for r in replies])], dim=1)

    monkeypatch.setattr(model, "generate", generate)


def test_right_answers_score_100_everywhere(model, tokenizer, records, monkeypatch):
    answering(model, tokenizer, records, monkeypatch)
    summary = summarise(score_records(model, tokenizer, records, batch_size=3))
    assert summary["average"] == 100 and summary["ci95"] == [100, 100] and summary["compression"] == 1
    assert {name: task["score"] for name, task in summary["tasks"].items()} == dict.fromkeys(TASKS, 100)


@pytest.mark.parametrize("pruned", [False, True])
def test_samples_come_in_order_and_do_not_depend_on_the_batch(model, tokenizer, records, pruner, pruned):
    pruning = TokenPruning(SCHEDULE, pruner) if pruned else None
    together, alone = (score_records(model, tokenizer, records, pruning, batch_size=size) for size in (4, 1))
    assert [sample["_id"] for sample in together] == [record["_id"] for record in records]
    assert together == alone
    assert any(sample["prediction"] for sample in together)


def test_tokens_per_layer_follow_the_schedule_row_by_row(model, tokenizer, records):
    samples = score_records(model, tokenizer, records, TokenPruning(SCHEDULE, RandomScorer()), batch_size=4)
    for sample in samples:
        assert sample["tokens_per_layer"] == SCHEDULE.lengths(sample["prompt_tokens"], LAYERS)
    summary = summarise(samples)
    prompt = sum(sample["prompt_tokens"] for sample in samples)
    present = sum(sum(sample["tokens_per_layer"]) for sample in samples) / LAYERS
    assert summary["compression"] == pytest.approx(prompt / present, abs=1e-3) and summary["compression"] > 1.2
    assert summary["tokens_per_layer"][0] == summary["prompt_tokens"]


def test_generation_stops_at_the_end_token(model, tokenizer, records, monkeypatch):
    monkeypatch.setattr(model.lm_head, "forward", lambda hidden: torch.eye(len(tokenizer))[[tokenizer.eos_token_id]] * (
        torch.ones(*hidden.shape[:2], 1)))  # fmt: skip
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    samples = score_records(model, tokenizer, records[:2], batch_size=2)
    handle.remove()
    assert [sample["prediction"] for sample in samples] == ["", ""] and len(calls) == 1


def test_score_records_refuses_before_the_model_runs(tokenizer, records, monkeypatch, model):
    monkeypatch.setattr(model, "generate", None)
    with pytest.raises(ValueError, match="batch_size must be"):
        score_records(model, tokenizer, records, batch_size=0)
    with pytest.raises(ValueError, match="few_shot record x has no context: an empty prompt"):
        score_records(model, tokenizer, [*records, {"dataset": "few_shot", "_id": "x", "context": " ", "input": ""}])
    with pytest.raises(ValueError, match="unknown dataset 'squad'"):
        score_records(model, tokenizer, [{"dataset": "squad", "context": "a", "input": ""}])


def test_a_long_prompt_loses_its_middle(tokenizer):
    text = " ".join(longbench_mini("singledoc_qa", 1, tokens=(200, 200))[0]["context"].split())
    whole, cut = encode(tokenizer, text, 10_000)
    assert not cut and whole == tokenizer(text)["input_ids"]
    for limit in (2, 51, len(whole) - 1):
        ids, cut = encode(tokenizer, text, limit)
        assert cut and len(ids) == limit
        assert ids == whole[: limit // 2] + whole[-(limit - limit // 2) :]
    with pytest.raises(ValueError, match="no room"):
        encode(tokenizer, text, 1)


def test_the_chat_template_goes_around_a_shortened_prompt():
    tokenizer = build_tokenizer(documents=20)
    tokenizer.chat_template = "[{{ messages[0]['content'] }}]{% if add_generation_prompt %}>{% endif %}"
    ids, cut = encode(tokenizer, "The city of Anna is Oslo.", 50, chat=True)
    assert tokenizer.decode(ids) == "[The city of Anna is Oslo.]>" and not cut
    ids, cut = encode(tokenizer, "The city of Anna is Oslo. " * 20, 30, chat=True)
    text = tokenizer.decode(ids)
    assert cut and len(ids) == 30 and text.startswith("[The city") and text.endswith("]>")
    tokenizer.chat_template = "{{ 'The old coat. ' * 3 }}{{ messages[0]['content'] }}"
    around = len(tokenizer("The old coat. " * 3)["input_ids"])
    assert tokenizer.decode(encode(tokenizer, "x" * 200, 2 * around + 2, chat=True)[0]).startswith("The old coat. " * 3)
    with pytest.raises(ValueError, match="no room"):
        encode(tokenizer, "x" * 200, 2 * around + 1, chat=True)


def test_truncated_prompts_are_counted(model, tokenizer):
    long = longbench_mini("singledoc_qa", 2, seed=7, tokens=(700, 700))
    samples = score_records(model, tokenizer, long)
    assert [sample["prompt_tokens"] for sample in samples] == [512 - 16] * 2
    assert summarise(samples)["tasks"]["singledoc_qa"]["truncated"] == 2


def test_prompts_of_longbench(tmp_path):
    record = {"dataset": "qasper", "context": "Text {x}.\n", "input": "Who?", "_id": "1"}
    assert "\n\nArticle: Text {x}.\n" in build_prompt(record) and "\n\nQuestion: Who?\n" in build_prompt(record)
    hub = {**record, "question": "Q: Who?\n", "answer_prefix": "A:"}
    assert build_prompt(hub) == "Text {x}.\nQ: Who?\nA:"
    assert build_prompt({**hub, "question": "Who? A: "}) == "Text {x}.\nWho? A: "
    (tmp_path / "dataset2prompt.json").write_text(json.dumps({"qasper": "Read {context} then {input}"}))
    templates = load_templates(tmp_path)
    assert build_prompt(record, templates) == "Read Text {x}.\n then Who?"
    assert "Text {x}.\nNext line" in build_prompt({**record, "dataset": "lcc", "input": ""}, templates)
    assert load_templates(None) == {} == load_templates(tmp_path / "missing")
    for damaged in ("{", "[1]", '{"qasper": "no place"}'):
        (tmp_path / "dataset2prompt.json").write_text(damaged)
        with pytest.raises(ValueError, match="dataset2prompt.json"):
            load_templates(tmp_path)


@pytest.mark.parametrize(
    "template, prompt",
    [
        ("{context} {input}", "T {input} {0} \\1 Q {context}"),
        ("{context} {question} {}", "T {input} {0} \\1 {question} {}"),
        ('Answer as {"a": 1}: {context}', 'Answer as {"a": 1}: T {input} {0} \\1'),
        ("{{ {context} }} {context!r} {0} {context:>9} {", "{{ T {input} {0} \\1 }} {context!r} {0} {context:>9} {"),
        ("%s $context {context}", "%s $context T {input} {0} \\1"),
    ],
)
def test_only_the_known_places_of_a_template_are_filled_in_and_once(tmp_path, template, prompt):
    record = {"dataset": "qasper", "context": "T {input} {0} \\1", "input": "Q {context}", "_id": "1"}
    (tmp_path / "dataset2prompt.json").write_text(json.dumps({"qasper": template}))
    assert build_prompt(record, load_templates(tmp_path)) == prompt


@given(st.text(), st.text(), st.text(alphabet="{}contexinpu!:r0 "), st.text(alphabet="{}contexinpu!:r0 "))
def test_a_template_holds_any_text(before, after, context, question):
    record = {"dataset": "qasper", "context": f"c{context}", "input": question, "_id": "1"}
    before, after = (text.replace("{context}", "").replace("{input}", "") for text in (before, after))
    filled = build_prompt(record, {"qasper": f"{before}|{{context}}|{{input}}|{after}"})
    assert filled == f"{before}|c{context}|{question}|{after}"


def sample(dataset, value, tokens=100, layers=(100, 50)):
    return {
        "_id": "0", "dataset": dataset, "prompt_tokens": tokens, "truncated": False, "tokens_per_layer": list(layers),
        "prediction": "", "answers": ["a"], "score": value,
    }  # fmt: skip


def test_summary_by_hand():
    samples = [sample("qasper", value) for value in (1.0, 0.0, 0.5)]
    samples += [sample("narrativeqa", 1.0), sample("lcc", 0.25)]
    summary = summarise(samples)
    assert summary["average"] == pytest.approx((50 + 100 + 25) / 3, abs=1e-3)  # over datasets, not over samples
    assert summary["categories"]["SingleDoc"]["score"] == 75 and summary["categories"]["SingleDoc"]["n"] == 4
    assert list(summary["categories"]) == ["SingleDoc", "Code"]
    assert summary["tasks"]["qasper"] | {"ci95": 0} == {
        "score": 50, "n": 3, "ci95": 0, "stderr": round(50 / 3**0.5, 4), "category": "SingleDoc", "metric": "f1",
        "prompt_tokens": 100, "truncated": 0,
    }  # fmt: skip
    assert summary["tasks"]["lcc"]["stderr"] is None and summary["stderr"] is None  # one sample has no spread
    assert summary["compression"] == pytest.approx(100 / 75, abs=1e-4)
    with pytest.raises(ValueError, match="no samples"):
        summarise([])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(0, 100), min_size=1, max_size=20), min_size=1, max_size=4), st.integers(0, 99))
def test_interval_is_ordered_inside_the_range_and_seeded(groups, seed):
    low, high = interval(groups, seed)
    lowest, highest = (sum(map(pick, groups)) / len(groups) for pick in (min, max))
    assert lowest - 1e-3 <= low <= high <= highest + 1e-3
    assert interval(groups, seed) == [low, high]


def test_interval_has_the_width_of_theory():
    low, high = interval([[0.0, 100.0] * 200])
    assert (high - low) / 2 == pytest.approx(1.96 * 50 / 20, rel=0.1)
    with pytest.raises(ValueError, match="at least one score"):
        interval([[1.0], []])


def test_compare_gives_table_1(model, tokenizer, records, pruner):
    schedules = {method: SCHEDULE for method in TABLE1_METHODS if not method.endswith("-low")}
    schedules["sdtp-low"] = PruningSchedule(layers=(4,), keep_ratio=0.9, min_local_tokens=8)
    results = compare(model, tokenizer, records[::2], pruner, schedules=schedules, batch_size=8)
    table = table1(results)
    assert list(table.columns[:8]) == ["method", *CATEGORIES, "AVG", "1/tau"]
    assert list(table["method"]) == ["full", "sdtp", "sdtp-low", "random", "recency"]
    full, sdtp, low, random, recency = table["1/tau"]
    assert full == 1 and 1 < low < sdtp == random == recency
    assert "against_full" not in results["full"]
    for result in list(results.values())[1:]:
        difference = result["against_full"]["average"]["difference"]
        assert difference == pytest.approx(result["average"] - results["full"]["average"], abs=1e-3)
    assert table["AVG"][1] == results["sdtp"]["average"] and table["AVG ci95"][1] == results["sdtp"]["ci95"]
    assert table1({"x": summarise([sample("lcc", 1.0)])})["FewShot"].isna().all()


def test_low_rows_take_the_low_preset(model, tokenizer, records, pruner, monkeypatch):
    asked = []
    monkeypatch.setattr("sdtp_lib.evaluation.compare.measure", lambda *args, **_: asked.append(args[3:5]) or ({}, []))
    compare(model, tokenizer, records, pruner, ["norm", "sdtp-low", "attention"])
    assert asked == [("norm", "paper"), ("sdtp", "low"), ("attention", "paper")]
    with pytest.raises(ValueError, match="unknown method 'best'"):
        compare(model, tokenizer, records, pruner, ["full", "best"])
    with pytest.raises(ValueError, match="needs a trained pruner"):
        compare(model, tokenizer, records, None, ["full", "sdtp"])
    compare(model, tokenizer, records, pruner, ["norm-sentences"])
    assert asked.pop() == ("norm", "paper")
    for bad in ("full-sentences", "full-pool7", "oracle-pool7", "norm-pool4"):
        with pytest.raises(ValueError, match="pool"):
            compare(model, tokenizer, records, pruner, ["norm", bad])
    assert len(asked) == 3


def test_schedules_are_checked_against_the_model(model, tokenizer, records):
    assert resolve_schedule("low", model).layers == (4, 5)
    with pytest.raises(ValueError, match="layer 6"):
        measure(model, tokenizer, records, "random", PruningSchedule(layers=(6,)))
    with pytest.raises(ValueError, match="unknown schedule"):
        measure(model, tokenizer, records, "random", "keep05")


@pytest.fixture(scope="module")
def folder(model, tokenizer, pruner, records, tmp_path_factory):
    """A folder with `model`, `pruner` and `data` as `evaluate` takes them."""
    root = tmp_path_factory.mktemp("evaluation")
    model.save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    pruner.save_pretrained(root / "pruner")
    (root / "data").mkdir()
    for name in TASKS:
        rows = [record for record in records if record["dataset"] == name]
        (root / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.mark.parametrize("method", ["full", "sdtp", "random", "h2o", "oracle"])
def test_evaluate_writes_what_it_returns(folder, tmp_path, method):
    output = tmp_path / "deep" / f"{method}.json"
    result = evaluate(
        "longbench_mini", method, SCHEDULE, limit=1, model=folder / "model", pruner=folder / "pruner", output=output,
        data=folder / "data", dtype="float32", device="cpu", profile="demo",
    )  # fmt: skip
    stored = json.loads(output.read_text())
    assert stored["tasks"] == result["tasks"] and stored["average"] == result["average"]
    assert set(stored["tasks"]) == set(TASKS) and all(task["n"] == 1 for task in stored["tasks"].values())
    assert (stored["compression"] == 1) == (method == "full")
    metadata = stored["metadata"]
    assert metadata["method"] == method and metadata["limit"] == 1 and metadata["tasks"] == list(TASKS)
    assert metadata["schedule"]["layers"] == ([] if method == "full" else [2, 4])
    header, *lines = [json.loads(line) for line in output.with_suffix(".samples.jsonl").read_text().splitlines()]
    assert header["settings"]["method"] == method
    assert {line["dataset"] for line in lines} == set(TASKS) and len(lines) == len(TASKS)
    assert all("prediction" in line for line in lines)
    assert {path.name for path in output.parent.iterdir()} == {f"{method}.json", f"{method}.samples.jsonl"}


@pytest.mark.parametrize(
    "changes, error, problem",
    [
        ({"tasks": "glue"}, ValueError, "unknown task 'glue'"),
        ({"method": "best"}, ValueError, "unknown method 'best'"),
        ({"schedule": "keep05"}, ValueError, "unknown schedule 'keep05'"),
        ({"schedule": PruningSchedule(layers=(9,))}, ValueError, "layer 9"),
        ({"limit": 0}, ValueError, "limit"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"data": "missing/folder/here"}, FileNotFoundError, "missing/folder/here"),
        ({"model": "missing/model/here"}, FileNotFoundError, "missing/model/here"),
        ({"pruner": "missing/pruner"}, FileNotFoundError, "missing/pruner"),
        ({"pruner": None}, ValueError, "pruner"),
        ({"positions": "odd"}, ValueError, "positions"),
        ({"pool": 4, "model": "missing/model/here"}, ValueError, "pool must be an odd"),  # before the model is loaded
        ({"pool": -1, "model": "missing/model/here"}, ValueError, "pool must be an odd"),
        ({"pool": 3, "method": "full", "model": "missing/model/here"}, ValueError, "'full' scores no tokens"),
        ({"pool": 3, "method": "oracle", "model": "missing/model/here"}, ValueError, "'oracle' must be shown"),
    ],
)
def test_evaluate_refuses_before_anything_is_written(folder, tmp_path, changes, error, problem):
    options = {
        "tasks": "few_shot", "method": "sdtp", "schedule": SCHEDULE, "limit": 1, "model": folder / "model",
        "pruner": folder / "pruner", "data": folder / "data", "dtype": "float32", "device": "cpu",
    }  # fmt: skip
    with pytest.raises(error, match=problem) as caught:
        evaluate(**{**options, **changes}, output=tmp_path / "out" / "result.json")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="is a folder"):
        evaluate(**options, output=tmp_path)


def test_evaluate_needs_a_tokenizer(folder, model, tmp_path):
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="bare has no tokenizer"):
        evaluate("few_shot", "full", limit=1, model=tmp_path / "bare", data=folder / "data", device="cpu")


def test_mini_prompts_have_the_promised_length():
    tokenizer = build_tokenizer(documents=400)
    for name in TASKS:
        for record in longbench_records(name, "mini", limit=5):
            assert 200 <= len(tokenizer(build_prompt(record))["input_ids"]) <= 1200
