"""The embedded default: corpus, tokenizer, training rows, and the shipped checkpoint."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtp_lib import paths
from sdtp_lib.data.demo import words
from sdtp_lib.data.demo.corpus import BUILDERS, TASKS, count_pieces, longbench_mini
from sdtp_lib.evaluation.longbench import measure
from sdtp_lib.models import load_model
from sdtp_lib.training.demo_model import LENGTHS, Stream, build_tokenizer, train

FIELDS = {"input", "context", "answers", "length", "dataset", "language", "all_classes", "_id"}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(documents=400)


@pytest.mark.parametrize("dataset", BUILDERS)
def test_records_follow_the_schema_and_repeat_with_the_seed(dataset):
    records = longbench_mini(dataset, 5, seed=3)
    assert records == longbench_mini(dataset, 5, seed=3) != longbench_mini(dataset, 5, seed=4)
    assert all(set(r) == FIELDS and r["context"] and r["answers"][0] for r in records)
    assert len({r["_id"] for r in records}) == 5


@pytest.mark.parametrize("dataset", BUILDERS)
def test_prompts_have_256_to_1024_tokens_and_the_answer_is_in_the_context(dataset, tokenizer):
    for record in longbench_mini(dataset, 25):
        prompt = TASKS[dataset].prompt(record["context"], record["input"])
        assert 256 <= len(tokenizer(prompt)["input_ids"]) <= 1024
        answer = record["answers"][0]
        assert all(sentence.rstrip(".") in record["context"] for sentence in answer.split(". "))


def test_two_look_ups_are_needed_for_multidoc_qa():
    for record in longbench_mini("multidoc_qa", 20):
        kind, relation, first = record["input"].replace(" of the ", " of ").split(" of ")
        context = record["context"]
        assert TASKS["multidoc_qa"].prompt(context, record["input"]).endswith(f"The {relation} of {first} is")
        second = context.split(f"The {relation} of {first} is ")[1].split(".")[0]
        value = context.split(f"The {kind} of {second} is ")[1].split(".")[0]
        assert record["answers"] == [f"{second}. The {kind} of {second} is {value}"]
        assert context.count(f"The {kind} of ") >= 2  # the kind alone does not tell the answer


@pytest.mark.parametrize("dataset", ["singledoc_qa", "multidoc_qa", "report_summary"])
def test_most_tokens_are_filler(dataset):
    for record in longbench_mini(dataset, 10):
        sentences = record["context"].replace("\n", " ").split(". ")
        facts = sum(count_pieces(sentence) for sentence in sentences if " is " in sentence)
        assert facts < 0.35 * count_pieces(record["context"])


def test_unknown_dataset_is_refused_by_name():
    with pytest.raises(ValueError, match="'qasper'"):
        longbench_mini("qasper", 1)


@given(text=st.text(max_size=60))
@settings(max_examples=50, deadline=None)
def test_tokenizer_encodes_any_text(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text


def test_corpus_words_are_single_tokens():
    tokenizer = build_tokenizer()
    for word in [*words.NAMES, *words.CITIES, *words.COLOURS, *words.FILL_NOUNS]:
        assert len(tokenizer(f" {word}")["input_ids"]) == 1, word


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.9])
def test_training_rows_fit_and_mark_their_answers(tokenizer, progress):
    stream = Stream(tokenizer, seed=1, start=0, steps=10, tokens=2176)
    rng = random.Random(0)
    for length in LENGTHS:
        for build in (stream.copying, stream.recall, lambda r, n: stream.document(r, n, progress)):
            for _ in range(5):
                ids, kinds = build(rng, length)
                assert len(ids) == len(kinds) <= length
                assert max(kinds) >= 2


def test_batches_repeat_with_the_seed_whatever_the_start(tokenizer):
    whole = list(Stream(tokenizer, seed=1, start=0, steps=3, tokens=1088))
    tail = list(Stream(tokenizer, seed=1, start=2, steps=3, tokens=1088))
    assert torch.equal(whole[2][0], tail[0][0]) and torch.equal(whole[2][1], tail[0][1])


@pytest.mark.slow
def test_a_resumed_training_run_equals_a_straight_one(tmp_path, monkeypatch):
    options = dict(tokens=512, lr=1e-3, seed=0, device="cpu", save_every=2)
    straight = train(tmp_path / "straight", steps=4, **options)

    batches = Stream.__iter__

    def three(self):
        for step, batch in enumerate(batches(self), self.start):
            if step == 3:
                raise RuntimeError("interrupted")
            yield batch

    monkeypatch.setattr(Stream, "__iter__", three)
    with pytest.raises(RuntimeError, match="interrupted"):
        train(tmp_path / "resumed", steps=4, **options)
    monkeypatch.undo()
    resumed = train(tmp_path / "resumed", steps=4, **options)
    for name, weight in straight.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


@pytest.mark.slow
def test_shipped_model_reaches_its_bar_on_fresh_records():
    """At least 85 on average and 75 in every category on 100 records each of a seed not used in training."""
    model, tokenizer = load_model("demo", dtype="bfloat16")
    records = [record for name in BUILDERS for record in longbench_mini(name, 100)]
    summary, _ = measure(model, tokenizer, records, "full")
    assert summary["average"] >= 85
    assert min(cell["score"] for cell in summary["categories"].values()) >= 75


def test_shipped_checkpoint_is_small_and_holds_no_pickle():
    files = [path for path in paths.DEMO_CHECKPOINT.iterdir()] + [path for path in paths.DEMO_PRUNER.iterdir()]
    assert sum(path.stat().st_size for path in files) < 10e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jsonl", ".md"}
