"""What a pruner's record says about its use: pooled over what, under which schedules; attention in a pruner's place."""

import pytest
import torch
from helpers import HIDDEN, random_prompts, schedule_of, tiny_model, tiny_pruner
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule, TokenPruner, TokenPruning
from sdtp_lib.scorers.attention import LastWindowAttentionScorer
from sdtp_lib.scorers.attention_pruner import AttentionPruner
from sdtp_lib.scorers.files import CARD_FILE
from sdtp_lib.scorers.model_card import model_card
from sdtp_lib.scorers.pooled import PooledScorer
from sdtp_lib.scorers.pooling import pool_of, pooled
from sdtp_lib.scorers.sentences import SentenceScorer
from sdtp_lib.scorers.strongest_head import StrongestHeadScorer
from sdtp_lib.scorers.use import as_used, own_schedules, use

SCHEDULES = {"1.6": PruningSchedule((2, 4), (0.5, 0.25)), "2.2": PruningSchedule((3,), 0.1)}


def test_a_record_without_use_leaves_the_pruner_as_it_is():
    pruner = tiny_pruner((2,))
    assert own_schedules(pruner.record) == {} and as_used(pruner) is pruner and pool_of(pruner) == 1


@given(st.integers(0, 20).map(lambda half: 2 * half + 1))
def test_a_folder_gives_its_use_back(tmp_path_factory, width):
    folder, pruner = tmp_path_factory.mktemp("use"), tiny_pruner((2, 3, 4))
    pruner.record = {"use": use(SCHEDULES, width)}
    pruner.save_pretrained(folder)
    loaded = TokenPruner.from_pretrained(folder)
    found = own_schedules(loaded.record)
    assert found == SCHEDULES and [*found] == [*SCHEDULES]
    assert pool_of(as_used(loaded)) == width and isinstance(as_used(loaded), PooledScorer) is (width > 1)


def test_sentences_are_told_by_the_folder_alone(tmp_path):
    pruner = tiny_pruner((2, 3, 4))
    pruner.record = {"use": use(SCHEDULES, "sentences", (5, 9))}
    pruner.save_pretrained(tmp_path)
    used = as_used(TokenPruner.from_pretrained(tmp_path))
    assert pool_of(used) == "sentences" and used.ends == (5, 9) and own_schedules(pruner.record) == SCHEDULES


@pytest.mark.parametrize("bad", [{"use": 3}, {"use": {"schedules": [1]}}, {"use": {"schedules": {"1.6": {"x": 1}}}}])
def test_a_use_that_is_none_is_named(bad):
    with pytest.raises(ValueError, match="no schedules that can be used"):
        own_schedules(bad)


def test_an_even_width_is_refused_when_it_is_written():
    with pytest.raises(ValueError, match="pool must be an odd"):
        use(SCHEDULES, 4)


def test_pooling_takes_the_place_of_another_one():
    pruner = tiny_pruner((2,))
    by_sentence = pooled(pooled(pruner, 7), "sentences", [5])
    assert by_sentence == SentenceScorer(pruner, (5,)) and pooled(by_sentence, 3) == PooledScorer(pruner, 3)
    assert pooled(pooled(pruner, 7), 3) == PooledScorer(pruner, 3) and pooled(PooledScorer(pruner, 7), 1) is pruner


@pytest.mark.parametrize("heads, scorer", [("mean", LastWindowAttentionScorer), ("max", StrongestHeadScorer)])
def test_attention_in_a_pruners_place_cuts_as_attention_does(tmp_path, heads, scorer):
    model, schedule, record = tiny_model("llama"), schedule_of(0.5), {"use": use({"1.6": schedule_of(0.5)}, 1)}
    AttentionPruner(HIDDEN, schedule.layers, record, window=5, heads=heads).save_pretrained(tmp_path)
    loaded = TokenPruner.from_pretrained(tmp_path)
    assert loaded.kind == "attention" and (loaded.window, loaded.heads) == (5, heads) and not loaded.state_dict()
    ids, mask = random_prompts([40, 31])
    kept = []
    for each in (loaded, scorer(5)):
        with TokenPruning(schedule, each)(model) as trace:
            model(input_ids=ids, attention_mask=mask)
        kept.append(trace.kept_positions)
    assert all(torch.equal(kept[0][layer], kept[1][layer]) for layer in schedule.layers)
    assert "at 3 of its layers" in (tmp_path / CARD_FILE).read_text()


def test_heads_that_are_none_are_named():
    with pytest.raises(ValueError, match="unknown heads 'best'; known: mean, max"):
        AttentionPruner(HIDDEN, (2,), heads="best")


def test_the_card_of_a_tuned_pruner_shows_what_it_costs():
    cell = {"difference": 0.25, "ci95": [0.1, 0.4], "verdict": "higher"}
    full = {"asked": "", "method": "full", "flops": 1.0, "prefill": 1.0, "nll": 2.0, "ci95": [1.0, 3.0]}
    tuned = {**full, "asked": "1.6", "method": "tuned", "above_full": cell}
    record = {
        "score": "question_aware", "use": use(SCHEDULES, 7), "searched": {"1.6": [{"score": "paper", "nll": 2.5}]},
        "tuning": {"data": "own.jsonl", "median_tokens": 700, "prompts": {"held_out": 12}},
        "measured": [full, tuned, {**tuned, "method": "attention", "above_tuned": cell}],
    }  # fmt: skip
    config = {"hidden_size": 8, "layers": [2, 3, 4], "record": record}
    card = model_card(config)
    assert "a module that reads the question, pooled over 7" in card and '("1.6", model' in card
    assert "At 1.6x attention is worse than what was tuned (+0.250 [0.100, 0.400])" in card
    assert "At 1.6x what was tuned costs, as its answers are less likely than the full model's (+0.250 [" in card
    assert "| tuned" in card and "12 prompts" in card and "own.jsonl" in card and "0.500, 0.250" in card
    assert "No trained module was better" in model_card({**config, "record": {**record, "score": "attention"}})
    assert "## Use" not in model_card({**config, "record": {"use": record["use"]}})
