"""Where a budget of FLOPs is spent: the family of schedules, the budget it keeps, and the loss that is searched by."""

import json

import pytest
import torch
from helpers import VOCABULARY, Reference, schedule_of, tiny_model, tiny_pruner
from hypothesis import given, settings
from hypothesis import strategies as st
from small_records import small_tokenizer

from sdtp_lib import PruningSchedule, TokenPruning
from sdtp_lib.data.pairs import training_pairs
from sdtp_lib.data.samples import Sample, encode_pairs
from sdtp_lib.experiments import schedule_search as search
from sdtp_lib.latency.flop_estimates import flop_ratio
from sdtp_lib.latency.flops import schedule_flops
from sdtp_lib.models.shapes import shape_config

CONFIG = shape_config()


@given(st.integers(1, 6), st.integers(1, 8), st.floats(0.01, 0.99), st.floats(0.1, 2))
def test_a_bent_schedule_leaves_what_it_is_told_and_cuts_harder_at_first(first, stages, left, bend):
    schedule = search.bent(first, stages, left, bend, 14)
    remaining = 1.0
    for ratio in schedule.ratios:
        remaining *= ratio
    assert remaining == pytest.approx(left) and len(schedule.layers) == stages and schedule.layers[0] == first
    ordered = sorted(schedule.ratios) if bend < 1 else sorted(schedule.ratios, reverse=True)
    assert bend == 1 or list(schedule.ratios) == pytest.approx(ordered)


def test_bend_1_is_the_papers_kind():
    assert search.bent(4, 10, 0.9**10, 1.0, 14).ratios == pytest.approx([0.9] * 10)


@pytest.mark.parametrize("name, ratio", [("fast", 2.6), ("fastest", 4.0)])
def test_searched_presets_reach_their_flop_ratio(name, ratio):
    assert ratio <= flop_ratio(PruningSchedule.preset(name, 14), 14, CONFIG) < 1.05 * ratio
    full, pruned = (schedule_flops(CONFIG, PruningSchedule.preset(each, 32), 8192) for each in ("none", name))
    assert ratio <= full / pruned < 1.05 * ratio


@settings(max_examples=25, deadline=None)
@given(st.floats(1.1, 5), st.integers(1, 4), st.integers(1, 6), st.sampled_from([1.0, 0.5, 0.25]))
def test_a_budget_is_met_and_not_wasted(ratio, first, stages, bend):
    found = search.within_budget(ratio, first, stages, bend, 14, CONFIG, 2048)
    if found is None:
        hardest = search.bent(first, stages, 1e-4, bend, 14)
        assert flop_ratio(hardest, 14, CONFIG, 2048) < ratio
        return
    there = found.stretched(14, 32)
    full = schedule_flops(CONFIG, PruningSchedule(()), 2048)
    assert ratio <= full / schedule_flops(CONFIG, there, 2048) < 1.05 * ratio


def test_candidates_fit_model_and_budget_and_are_named():
    found = search.candidates(2.6, [4, 13], [1, 3], [1.0, 0.5], 14)
    assert list(found) == [f"from layer 4, {n} stages, bend {bend}" for n in (1, 3) for bend in ("1", "0.5")]
    assert all(flop_ratio(schedule, 14, CONFIG) >= 2.6 for schedule in found.values())


@pytest.mark.parametrize("answer", [1, 4])
def test_the_loss_is_that_of_the_answer_under_the_masked_full_model(answer):
    model, schedule = tiny_model("llama"), schedule_of(0.5)
    pruner, generator = tiny_pruner(schedule.layers), torch.Generator().manual_seed(3)
    samples = [Sample(str(n), torch.randint(2, VOCABULARY, (n + answer,), generator=generator), n) for n in (30, 19)]
    expected = {None: [], pruner: []}
    for sample in samples:
        for scorer, losses in expected.items():
            used = schedule if scorer else schedule_of(1.0)
            logits, _ = Reference(model, used, scorer or pruner).run(sample.input_ids, sample.prompt_tokens)
            prompt = sample.prompt_tokens
            losses.append(torch.nn.functional.cross_entropy(logits[prompt - 1 : -1], sample.input_ids[prompt:]))
    full, pruned = (torch.stack(losses).mean().item() for losses in expected.values())
    assert search.answer_loss(model, samples) == pytest.approx(full, rel=1e-3)
    assert search.answer_loss(model, samples, TokenPruning(schedule, pruner)) == pytest.approx(pruned, rel=1e-3)
    assert abs(full - pruned) > 1e-3
    rows = search.search(model, samples, pruner, {"half": schedule, "all": schedule_of(1.0)})
    assert [row["loss"] for row in rows] == sorted(row["loss"] for row in rows)
    assert {row["name"]: row["loss"] for row in rows}["half"] == pytest.approx(pruned, rel=1e-3)
    assert "half" in search.search_table({"2": rows})


def test_every_budget_is_searched_among_the_schedules_that_reach_it(monkeypatch):
    monkeypatch.setattr(search, "search", lambda model, samples, scorer, schedules: list(schedules))
    model = tiny_model("llama")
    found = search.search_budgets(model, [], None, [1.2, 2], [2])
    assert list(found) == ["1.2", "2"]
    layers = model.config.num_hidden_layers
    assert found["1.2"] == list(search.candidates(1.2, [2], search.STAGES, search.BENDS, layers))


def test_bad_input_is_named():
    for bad in ((4, 2, 0.5, 0.0, 14), (4, 0, 0.5, 1.0, 14), (4, 2, 0.0, 1.0, 14), (4, 2, -0.5, 1.0, 14)):
        with pytest.raises(ValueError, match="needs stages"):
            search.bent(*bad)
    with pytest.raises(ValueError, match="no samples"):
        search.answer_loss(None, [])


def test_held_out_prompts_are_not_those_that_are_marked(tmp_path):
    tokenizer = small_tokenizer()
    ours = {sample.digest for sample in search.held_out(tokenizer, "demo", 5)}
    assert not ours & {sample.digest for sample in encode_pairs(training_pairs("demo", 40, 0), tokenizer, None, 40)}
    rows = [{"instruction": f"Say {n}", "response": f"Number {n}", "context": ""} for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    marked = encode_pairs(training_pairs(tmp_path, 20, 0), tokenizer, None, 20)
    held = search.held_out(tokenizer, str(tmp_path), 10)
    assert len(held) == 10 and not {s.digest for s in held} & {s.digest for s in marked}


def test_held_out_questions_of_squad_are_not_those_that_are_marked(tmp_path, monkeypatch):
    paragraphs = [
        {"title": f"Mill {n}", "context": f"Mill {n} by the river is kept by a family of {n}. " * 8,
         "questions": [{"question": f"Who keeps mill {n}?", "answers": [f"a family of {n}"]}]}
        for n in range(100, 130)
    ]  # fmt: skip
    (tmp_path / "squad_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in paragraphs))
    monkeypatch.setenv("SDTP_DATA", str(tmp_path))
    tokenizer = small_tokenizer()
    marked = {s.digest for s in encode_pairs(training_pairs("squad", 15, 0), tokenizer, None, 15)}
    assert not marked & {s.digest for s in search.held_out(tokenizer, "squad", 10)}
