"""Two questions on one cache: what is asked, of which tokens, and that a killed run goes on."""

import json

import pytest
import torch
from small_records import small_model, small_tokenizer

from sdtp_lib import PruningSchedule, TokenPruning
from sdtp_lib.data.demo.dense import ALL_TASKS
from sdtp_lib.data.demo.questions import two_questions
from sdtp_lib.data.tasks import DATASETS
from sdtp_lib.experiments import second_question as twice
from sdtp_lib.pruning.versions import find_cache
from sdtp_lib.scorers.simple import RandomScorer, RecencyScorer

SCHEDULE = PruningSchedule((2, 3), 0.5, sink_tokens=1, min_local_tokens=4)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def records():
    return [record for name in ("singledoc_qa", "few_shot") for record in two_questions(name, 2, 7, (60, 120))]


def answers(model, tokenizer, record, pruning):
    """Both answers without a cache that is handed on: the whole conversation is run anew for the second."""
    task = ALL_TASKS[record["dataset"]]
    first = tokenizer(task.prompt(record["context"], record["input"]))["input_ids"]
    second = tokenizer(task.prompt("", record["second"]["input"]))["input_ids"]
    limit = DATASETS[record["dataset"]].max_new_tokens
    options = {"max_new_tokens": limit, "do_sample": False, "pad_token_id": tokenizer.eos_token_id,
               "eos_token_id": tokenizer.eos_token_id}  # fmt: skip
    out = model.generate(input_ids=torch.tensor([first]), **options)
    both = torch.cat([out, torch.tensor([second])], dim=1)
    again = model.generate(input_ids=both, **options)
    return [tokenizer.decode(out[0, len(first) :], skip_special_tokens=True),
            tokenizer.decode(again[0, both.shape[1] :], skip_special_tokens=True)]  # fmt: skip


def test_the_full_model_answers_as_if_all_of_it_were_read_anew(model, tokenizer, records):
    for record, sample in zip(records, twice.ask_twice(model, tokenizer, records), strict=True):
        first, second = answers(model, tokenizer, record, None)
        assert sample["prediction"] == first and sample["second"]["prediction"] == second
        assert sample["answers"] == record["answers"] and sample["second"]["answers"] == record["second"]["answers"]


def test_the_second_question_is_asked_of_the_pruned_cache(model, tokenizer, records, monkeypatch):
    """Keys per layer grow by the second question and the answers alone, from what the first prefill left."""
    seen = []
    pruning = TokenPruning(SCHEDULE, RecencyScorer())
    real = type(model).generate

    def watched(self, **inputs):
        out = real(self, **inputs)
        seen.append([layer.keys.shape[-2] for layer in find_cache(inputs.values()).layers])
        return out

    monkeypatch.setattr(type(model), "generate", watched)
    (sample,) = twice.ask_twice(model, tokenizer, records[:1], pruning)
    left = SCHEDULE.lengths(sample["prompt_tokens"], model.config.num_hidden_layers)
    for keys in seen:
        grown = [now - then for now, then in zip(keys, left, strict=True)]
        assert len(set(grown)) == 1 and grown[0] >= 0
    assert left[-1] < 0.5 * left[0]


def test_scores_of_each_turn_blends_and_the_table(model, tokenizer, records, tmp_path):
    blends = twice.blends(RecencyScorer(), RandomScorer(0), [0.0, 1.0])
    scorers = {"full": None, **blends, "random": None}
    rows = twice.second_question(model, tokenizer, records, SCHEDULE, scorers, tmp_path)
    assert [row["method"] for row in rows] == ["full", "blend 0", "blend 1", "random"]
    assert [row["share"] for row in rows] == [None, 0.0, 1.0, None] and all(row["n"] == 4 for row in rows)
    for row in rows:
        for turn in ("first", "second"):
            low, high = row[f"{turn}_ci95"]
            assert 0 <= low <= row[turn] <= high <= 100
    assert "second question" in twice.twice_table(rows)


def test_a_killed_run_goes_on_and_asks_nothing_twice(model, tokenizer, records, tmp_path, monkeypatch):
    scorers, whole = {"recency": None}, tmp_path / "whole"
    expected = twice.second_question(model, tokenizer, records, SCHEDULE, scorers, whole)
    lines = (whole / "twice-recency.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + len(records) and "second" in json.loads(lines[1])
    part = tmp_path / "part"
    part.mkdir()
    (part / "twice-recency.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    asked, real = [], twice._two_answers
    monkeypatch.setattr(twice, "_two_answers", lambda *a: asked.append(1) or real(*a))
    assert twice.second_question(model, tokenizer, records, SCHEDULE, scorers, part) == expected
    assert len(asked) == 2 and (part / "twice-recency.jsonl").read_text() == "".join(lines)
    with pytest.raises(ValueError, match="schedule"):
        twice.second_question(model, tokenizer, records, "keep07", scorers, part)


def test_records_of_both_sets():
    found = twice.twice_records(["ordinary", "dense"], 1, (60, 120))
    assert [r["dataset"] for r in found][:2] == ["singledoc_qa", "multidoc_qa"]
    assert {r["dataset"].startswith("dense_") for r in found} == {True, False}
    assert not [r for r in twice.twice_records(["dense"], 1, (60, 120)) if not r["dataset"].startswith("dense_")]
