"""Answers that are weighed: scores from one prefill, checked by hand, and what a sample keeps."""

import json
import math

import pytest
import torch
from real_text import passages
from small_records import LAYERS, small_model, small_tokenizer

from sdtp_lib.data.real import real_records
from sdtp_lib.data.real.needles import OTHER_KINDS
from sdtp_lib.data.tasks import DATASETS, REAL
from sdtp_lib.evaluation.answers import encode_record, score_records
from sdtp_lib.evaluation.bootstrap import further_scores, summarise
from sdtp_lib.evaluation.longbench import measure
from sdtp_lib.evaluation.metrics import score
from sdtp_lib.evaluation.paired_differences import paired_differences
from sdtp_lib.evaluation.prompts import build_prompt, encode_answer
from sdtp_lib.pruning.schedule import PruningSchedule

SCHEDULE = PruningSchedule(layers=(2, 4), keep_ratio=0.7, min_local_tokens=8)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def records(model, tokenizer):
    def length(record):
        return len(encode_record(model, tokenizer, record)[1])

    texts = passages(sentences=1)
    return [record for task in REAL for record in real_records(task, texts, 420, length, 3)]


def by_hand(model, prompt, text):
    logits = model(input_ids=torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(1).gather(1, torch.tensor(text)[:, None])[:, 0], logits.argmax(1)


def test_scores_are_those_computed_by_hand(model, tokenizer, records):
    for record, sample in zip(records, score_records(model, tokenizer, records, batch_size=2), strict=True):
        text, prompt, _ = encode_record(model, tokenizer, record)
        means = {}
        for choice in record.get("choices", record["answers"][:1]):
            tokens = encode_answer(tokenizer, {**record, "answers": [choice]}, text)
            found, best = by_hand(model, prompt, tokens)
            means[choice] = float(found.mean())
        right = record["answers"][0]
        assert sample["nll"] == pytest.approx(-means[right], abs=1e-3)
        if record["dataset"] == "prose_nll":
            assert sample["score"] == float((best == torch.tensor(tokens)).float().mean()) and len(tokens) == 64
            assert "choice" not in sample and sample["prediction"] == ""
        else:
            assert sample["choice"] == (max(means, key=means.get) == right) and sample["chance"] == 0.25
            assert sample["score"] == score(record["dataset"], sample["prediction"], record["answers"])
            assert sample.get("found", 0) == (record["answers"][0] in sample["prediction"])
            assert sample.get("group") == record.get("group") and sample.get("depth") == record.get("depth")


@pytest.mark.parametrize("method", ["full", "attention", "random", "recency", "norm", "oracle"])
def test_samples_do_not_depend_on_the_batch(model, tokenizer, records, method):
    together, alone = (measure(model, tokenizer, records, method, SCHEDULE, batch_size=size)[1] for size in (3, 1))
    for one, other in zip(together, alone, strict=True):
        assert {**one, "nll": 0} == {**other, "nll": 0} and one["nll"] == pytest.approx(other["nll"], abs=1e-3)
        kept = [one["prompt_tokens"]] * LAYERS if method == "full" else SCHEDULE.lengths(one["prompt_tokens"], LAYERS)
        assert one["tokens_per_layer"] == kept


def test_pooled_scores_keep_other_tokens(model, tokenizer, records):
    options = {"schedule": SCHEDULE, "batch_size": 3}
    plain, pooled = (measure(model, tokenizer, records, "random", pool=pool, **options)[1] for pool in (1, 7))
    assert [sample["nll"] for sample in plain] != [sample["nll"] for sample in pooled]
    with pytest.raises(ValueError, match="pool must be an odd whole number, 1 or more, got 4"):
        measure(model, tokenizer, records, "random", pool=4, **options)


def test_sample_files_hold_no_text_of_the_data(model, tokenizer, records, tmp_path):
    summary, samples = measure(model, tokenizer, records, "full", folder=tmp_path, batch_size=2)
    stored = (tmp_path / "full.jsonl").read_text()
    for record in records:
        for text in (record["context"][:30], *record["answers"]):
            assert text not in stored
    rows = [json.loads(line) for line in stored.splitlines()[1:]]
    assert len(rows) == len(records) and all(len(row["prediction"]) <= 200 for row in rows)
    assert measure(model, tokenizer, records, "full", folder=tmp_path, batch_size=1) == (summary, samples)
    other = {**records[0], "answers": ["something else"], "choices": ["something else", *records[0]["choices"][1:]]}
    with pytest.raises(ValueError, match="holds needle record .* with another prompt or other answers"):
        measure(model, tokenizer, [other, *records[1:]], "full", folder=tmp_path)


def test_paired_differences_come_from_the_samples(model, tokenizer, records):
    full, pruned = (measure(model, tokenizer, records, method, SCHEDULE)[1] for method in ("full", "random"))
    found = paired_differences(full, pruned)
    assert set(found["tasks"]) == set(REAL) and found["tasks"]["needle"]["n"] == 3


NEEDLES = [
    {"dataset": "needle", "score": score, "nll": nll, "choice": choice, "chance": 0.25, "group": group}
    for score, nll, choice, group in [(1, 1.0, 1, "numbers"), (0, 3.0, 1, "words"), (1, 2.0, 0, "numbers")]
]


def test_further_scores_by_hand():
    found = further_scores(NEEDLES)
    assert {name: cell["mean"] for name, cell in found.items()} == {
        "nll": 2.0, "right_of_4": 66.6667, "numbers": 100.0, "words": 0.0
    }  # fmt: skip
    assert found["right_of_4"]["chance"] == 25 and found["numbers"]["n"] == 2
    assert found["nll"]["ci95"][0] >= 1 and found["nll"]["ci95"][1] <= 3
    assert further_scores([{"dataset": "few_shot", "score": 1}]) == {}
    prose = further_scores([{"dataset": "prose_nll", "score": 0.5, "nll": nll} for nll in (1.0, 2.0)])
    assert prose["perplexity"]["mean"] == pytest.approx(math.exp(1.5), abs=1e-3)
    low, high = prose["perplexity"]["ci95"]
    assert low == pytest.approx(math.e, abs=1e-3) and high == pytest.approx(math.e**2, abs=1e-3)


def test_a_summary_holds_them(model, tokenizer, records):
    tasks = summarise(score_records(model, tokenizer, records))["tasks"]
    assert tasks["needle"]["scores"].keys() == {"nll", "right_of_4", "numbers", "words"}
    assert tasks["documents_qa"]["scores"].keys() == {"nll", "right_of_4", "found"}
    assert tasks["prose_nll"]["scores"].keys() == {"nll", "perplexity"}


@pytest.mark.parametrize(
    "prediction, points",
    [(" 48213.\nThe", 1), ("the number 48213", 1), ("482134", 0), ("\n48213", 1), ("4821\n48213", 0), ("", 0)],
)
def test_a_needle_is_found_in_the_first_line_as_a_whole_word(prediction, points):
    assert score("needle", prediction, ["48213"]) == points


def test_prompts_end_with_the_cue_or_the_question(records):
    for record in records:
        prompt, name = build_prompt(record), record["dataset"]
        assert record["context"] in prompt and DATASETS[name].weighed
        if name == "needle_reworded":
            kind, thing = OTHER_KINDS[record["group"][:-1]], record["input"].split()[-2]
            assert prompt.endswith(f"\n\nThe hidden {kind} for our {thing} was")
        elif name.startswith("needle"):
            assert prompt.endswith(f"\n\nThe secret {record['group'][:-1]} of the {record['input'].split()[-2]} is")
        elif name == "documents_qa":
            assert prompt.endswith(f"\n\nQuestion: {record['input']}\nAnswer:")
        else:
            assert prompt == record["context"]
