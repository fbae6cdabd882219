"""The parts of a tuning: the split, the losses on disk, the candidates, what is held apart from other work."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from helpers import HIDDEN, VOCABULARY, tiny_model, tiny_pruner
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib.data.pairs import read_pairs
from sdtp_lib.data.samples import Sample
from sdtp_lib.experiments.tuning import candidates, places, record_file
from sdtp_lib.experiments.tuning import loss_file as losses
from sdtp_lib.experiments.tuning.command import check_ratios
from sdtp_lib.experiments.tuning.effort import POOLS, QUICK
from sdtp_lib.experiments.tuning.modules import cut_down
from sdtp_lib.experiments.tuning.splits import FEWEST, split
from sdtp_lib.latency.flop_estimates import flop_ratio
from sdtp_lib.options import SENTENCES
from sdtp_lib.scorers.attention_pruner import AttentionPruner
from sdtp_lib.scorers.pooling import pooled
from sdtp_lib.scorers.strongest_head import StrongestHeadScorer
from sdtp_lib.scorers.token_pruner import pruner_class

WANTED = {"train": 24, "search": 8, "held_out": 12}


def samples_of(count, tokens=40, answer=3):
    ids = [torch.randint(2, VOCABULARY, (tokens + answer,), generator=torch.Generator().manual_seed(n))
           for n in range(count)]  # fmt: skip
    return [Sample(f"own-{n}", each, tokens) for n, each in enumerate(ids)]


@given(st.lists(st.integers(1, 9), min_size=12, max_size=60), st.integers(0, 2**32 - 1))
def test_no_document_is_in_two_parts_and_nothing_is_lost_or_doubled(sizes, seed):
    samples = samples_of(sum(sizes), tokens=4, answer=1)
    names = [f"document {n}" for n, size in enumerate(sizes) for _ in range(size)]
    documents = {sample.id: name for sample, name in zip(samples, names, strict=True)}
    try:
        parts = split(samples, documents, WANTED, seed)
    except ValueError as error:
        assert "too few" in str(error) and len(samples) < 2 * sum(WANTED.values())
        return
    where = {name: {documents[sample.id] for sample in part} for name, part in parts.items()}
    assert all(not where[a] & where[b] for a in where for b in where if a != b)
    assert Counter(s.id for part in parts.values() for s in part).most_common(1)[0][1] == 1
    assert all(FEWEST[name] <= len(part) <= WANTED[name] for name, part in parts.items())
    again = split(samples, documents, WANTED, seed)
    assert {name: [s.id for s in part] for name, part in parts.items()} == {
        name: [s.id for s in part] for name, part in again.items()
    }


def test_plenty_of_prompts_fill_every_part_and_the_same_prompt_twice_stays_together():
    samples = samples_of(60)
    twice = [replace(sample, id=f"{sample.id}, again") for sample in samples]
    parts = split([*samples, *twice], {}, WANTED, 3)
    assert {name: len(part) for name, part in parts.items()} == WANTED
    prompts = [{s.digest for s in part} for part in parts.values()]
    assert sum(map(len, prompts)) == len(set.union(*prompts))


def test_too_few_prompts_or_documents_are_refused_with_their_numbers():
    with pytest.raises(ValueError, match=r"10 prompts about 10 documents are too few.*8 train, 3 search, 5 held_out"):
        split(samples_of(10), {}, WANTED, 0)
    samples = samples_of(50)
    with pytest.raises(ValueError, match="50 prompts about 2 documents"):
        split(samples, {s.id: str(n % 2) for n, s in enumerate(samples)}, WANTED, 0)


def test_data_say_which_document_a_prompt_is_about(tmp_path):
    rows = [
        {"prompt": "Who?", "answer": " I", "title": "Rome"}, {"prompt": "Who?", "answer": " I", "id": "a/b/1"},
        {"prompt": "Who?", "answer": " I", "id": "plain-7"},
        {"instruction": "Who?", "response": "I", "context": "Of me."}, {"prompt": "Who?", "answer": " I", "id": 7},
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [pair.get("document") for pair in read_pairs(tmp_path)] == ["Rome", "a/b", None, "Of me.", None]


def test_losses_are_taken_once_and_a_torn_line_again(tmp_path, monkeypatch):
    model, samples, asked = tiny_model("llama"), samples_of(3), []
    real = losses.sample_loss
    monkeypatch.setattr(losses, "sample_loss", lambda *given: asked.append(given) or real(*given))
    file = tmp_path / "losses.jsonl"
    first = losses.LossFile(file).take(model, {"full": None}, samples, "test")
    assert len(asked) == 3 and first["full"] == [real(model, sample) for sample in samples]
    again = losses.LossFile(file).take(model, {"full": None}, samples, "test")
    assert len(asked) == 3 and again == first
    file.write_bytes(file.read_bytes()[:-9])
    assert losses.LossFile(file).take(model, {"full": None}, samples, "test") == first and len(asked) == 4
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.parametrize("ratio", [1.1, 1.25])
def test_schedules_reach_the_ratio_on_the_models_own_shape(ratio):
    model = tiny_model("llama")
    found = candidates.schedules_for(model, ratio, 400, QUICK)
    assert {name.split()[-1] for name in found} == {"2"} and len(found) == 2
    for schedule in found.values():
        assert ratio <= flop_ratio(schedule, 6, model.config, 400) < 1.05 * ratio
    with pytest.raises(ValueError, match="no schedule searched reaches a FLOP ratio of 50"):
        candidates.schedules_for(model, 50, 400, QUICK)


def test_one_cut_is_tried_at_every_layer_that_reaches_the_ratio(tmp_path):
    model, samples = tiny_model("llama", layers=10), samples_of(3, 120)
    file = losses.LossFile(tmp_path / "l.jsonl")
    found = places.look(model, samples, [1.2, 2.5], 120, QUICK, (3, 5), file)
    assert {each.schedule.layers for each in found[1.2]} == {(layer,) for layer in range(1, 7)}
    assert {each.schedule.layers[0] for each in found[2.5]} < {*range(1, 7)}  # a late cut saves too little
    for ratio, rows in found.items():
        assert [row.loss for row in rows] == sorted(row.loss for row in rows)
        for row in rows:
            assert flop_ratio(row.schedule, 10, model.config, 120) >= ratio
            pruning = row.pruning({places.LOOKS: pooled(StrongestHeadScorer(32), SENTENCES, (3, 5))})
            assert row.losses == tuple(losses.sample_loss(model, sample, pruning) for sample in samples)
    recorded = places.by_layer(found)["1.2"]
    assert [row["layer"] for row in recorded] == [*range(1, 7)] and {row["prompts"] for row in recorded} == {3}


def test_the_search_compares_every_score_at_its_best_and_keeps_the_best(tmp_path):
    model, samples = tiny_model("llama"), samples_of(6, 120)
    schedules = candidates.schedules_for(model, 1.2, 120, QUICK)
    layers = sorted(candidates.layers_of({1.2: schedules}))
    scorers = {"paper": tiny_pruner(layers), "attention": AttentionPruner(HIDDEN, layers)}
    ways = candidates.ways_of(scorers, (3, 5))
    rows = candidates.search(model, samples, ways, 1.2, schedules, QUICK, losses.LossFile(tmp_path / "l.jsonl"))
    assert len(rows) == len(ways) * len(schedules)
    finalists = [row for row in rows if len(row.losses) == 6]
    assert {(row.score, row.pool) for row in finalists} == {*ways} == {(s, p) for s in scorers for p in POOLS}
    assert [row.loss for row in finalists] == sorted(row.loss for row in finalists) and rows[0] in finalists
    assert candidates.best_score({1.2: rows}) == {1.2: rows[0]}
    other = [replace(row, losses=(row.loss + 9 * (row.score == rows[0].score),)) for row in finalists]
    both = candidates.best_score({1.2: rows, 1.5: other})
    assert {(each.score, each.pool) for each in both.values()} == {(both[1.2].score, both[1.2].pool)}
    assert both[1.2].score != rows[0].score


@pytest.mark.parametrize("kind", ["mlp", "question_aware", "attention"])
def test_a_pruner_cut_down_scores_its_layers_as_before(kind):
    torch.manual_seed(0)
    pruner = pruner_class(kind)(HIDDEN, (1, 2, 4, 5))
    small = cut_down(pruner, [4, 2], {"epochs": 1})
    assert small.layers == (2, 4) and small.record == {"epochs": 1} and small.options == pruner.options
    if kind != "attention":
        hidden = torch.randn(2, 30, HIDDEN)
        assert torch.equal(small(4, hidden), pruner(4, hidden))


def test_an_output_is_free_or_goes_on_with_its_own_settings(tmp_path):
    settings = {"model": "m", "seed": 0, "flop_ratios": [1.6]}
    record_file.check_free(tmp_path, False)
    assert record_file.finished(tmp_path, settings) is None
    record_file.begin(tmp_path, settings)
    with pytest.raises(ValueError, match="unfinished tuning; go on with --resume"):
        record_file.check_free(tmp_path, False)
    record_file.check_free(tmp_path, True)
    assert record_file.finished(tmp_path, settings) is None
    with pytest.raises(ValueError, match="cannot resume: seed was 0 and is now 1"):
        record_file.finished(tmp_path, {**settings, "seed": 1})
    pruner = tiny_pruner((2,))
    pruner.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a pruner that was not tuned"):
        record_file.finished(tmp_path, settings)
    pruner.record = {"tuning": settings}
    pruner.save_pretrained(tmp_path)
    assert record_file.finished(tmp_path, settings) == {"tuning": settings}
    with pytest.raises(ValueError, match="already holds a pruner"):
        record_file.check_free(tmp_path, False)
    record_file.end(tmp_path)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("bad", [[], [1.0], [float("nan")], [float("inf")], [2.0, 2.0], [1.6, 0.5]])
def test_a_flop_ratio_is_above_1_and_given_once(bad):
    with pytest.raises(ValueError, match="--flop-ratio takes different numbers above 1"):
        check_ratios(bad)
