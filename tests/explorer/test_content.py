"""The explorer's data: tokens that add up to the prompt, scores that decided, the saliency of the right answer."""

import json

import pytest
import torch
from chat_tokenizers import chat_tokenizer
from explorer_data import HOSTILE
from helpers import HIDDEN
from small_records import LAYERS, small_model, small_records, small_tokenizer

from sdtp_lib import PruningSchedule
from sdtp_lib.evaluation.oracle import OracleScorer
from sdtp_lib.evaluation.prompts import build_prompt
from sdtp_lib.explorer import content as exploration
from sdtp_lib.explorer.content import answer_ids, token_texts
from sdtp_lib.scorers.simple import RandomScorer
from sdtp_lib.scorers.token_pruner import TokenPruner
from sdtp_lib.training.saliency import token_saliency

SCHEDULE = PruningSchedule(layers=(2, 4), keep_ratio=0.6, min_local_tokens=6, sink_tokens=3)
PROMPT = build_prompt(small_records(1)[0])


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(1)
    scorers = {"sdtp": TokenPruner(HIDDEN, SCHEDULE.layers).eval(), "oracle": OracleScorer()}
    return exploration.exploration(small_model(), small_tokenizer(), PROMPT, scorers, SCHEDULE, "Oslo", new_tokens=4)


@pytest.mark.parametrize("text", [PROMPT, "".join(HOSTILE), "Zoë 🙂 é\n\n  two  blanks ", " "])
def test_token_texts_add_up_to_the_prompt(text):
    ids, texts = token_texts(small_tokenizer(), text)
    assert ids == small_tokenizer()(text)["input_ids"] and len(texts) == len(ids)
    assert "".join(part for part in texts if part != exploration.PART) == text
    assert all(texts)


def test_a_special_token_is_shown_by_its_name():
    tokenizer = small_tokenizer()
    name = tokenizer.eos_token
    assert token_texts(tokenizer, f"a{name}b")[1] == ["a", name, "b"]


def test_every_number_is_plain_json(found):
    assert json.loads(json.dumps(found)) == found


def test_present_tokens_follow_the_schedule_and_the_cache(found):
    tokens = len(found["tokens"])
    for run in found["runs"]:
        assert run["present"] == run["kv_lengths"] == SCHEDULE.lengths(tokens, LAYERS)
        assert run["kv_bytes"] == [n * found["full"]["kv_bytes"][0] // tokens for n in run["kv_lengths"]]
        assert run["present"] == [sum(last >= layer for last in run["last_layer"]) for layer in range(LAYERS)]
    assert found["full"]["kv_lengths"] == [tokens] * LAYERS


def test_the_scores_shown_are_those_that_decided(found):
    for run in found["runs"]:
        assert [stage["layer"] for stage in run["stages"]] == list(SCHEDULE.layers)
        for stage in run["stages"]:
            here = [column for column, score in enumerate(stage["scores"]) if score is not None]
            assert here == [c for c, last in enumerate(run["last_layer"]) if last >= stage["layer"] - 1]
            sinks, local = SCHEDULE.forced(len(here))
            assert stage["sinks"] == sinks and here.index(stage["local_from"]) == len(here) - local
            movable = [c for c in here if stage["sinks"] <= c < stage["local_from"]]
            by_score = sorted(movable, key=lambda c: (stage["scores"][c], c), reverse=True)
            room = SCHEDULE.keep(len(here), layer=stage["layer"]) - sinks - local
            stayed = {c for c in movable if run["last_layer"][c] >= stage["layer"]}
            assert stayed == set(by_score[:room]) and len(stayed) == room > 0


def test_the_saliency_is_that_of_the_answer(found):
    tokenizer = small_tokenizer()
    ids, answer = tokenizer(PROMPT)["input_ids"], tokenizer(" Oslo")["input_ids"]
    whole = torch.tensor([ids + answer])
    asked = torch.arange(whole.shape[1])[None] >= len(ids)
    values = token_saliency(small_model(), whole, torch.ones_like(whole), asked, range(LAYERS))[0, :, : len(ids)]
    torch.testing.assert_close(torch.tensor(found["saliency"]["values"]), values)
    assert found["saliency"]["given"] and found["saliency"]["answer"] == "Oslo"
    oracle = found["runs"][1]["stages"][0]["scores"]
    torch.testing.assert_close(torch.tensor(oracle), values[2])


def test_a_prompt_is_the_users_turn_of_a_chat_model_and_shown_as_it_is_asked():
    model, tokenizer = small_model(), chat_tokenizer()
    turn = [{"role": "user", "content": PROMPT}]
    asked = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    for wanted, text in ((None, asked), (False, tokenizer.bos_token + PROMPT)):
        scorers = {"r": RandomScorer()}
        found = exploration.exploration(
            model, tokenizer, PROMPT, scorers, SCHEDULE, "Oslo", new_tokens=3, chat_template=wanted
        )
        assert "".join(found["tokens"]) == text and (found["chat_template"] is None) == (wanted is False)
        assert found["saliency"]["answer"] == "Oslo"
        assert len(found["tokens"]) == len(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_a_pruner_of_plain_prompts_is_warned_of_in_a_chat(caplog):
    pruner = TokenPruner(HIDDEN, SCHEDULE.layers, {"chat_template": None}).eval()
    exploration.exploration(
        small_model(), chat_tokenizer(), PROMPT, {"sdtp": pruner}, SCHEDULE, saliency=False, new_tokens=1
    )
    said = [record.getMessage() for record in caplog.records if record.name.startswith("sdtp_lib")]
    assert ["in no chat template and is used on" in line for line in said] == [True]


def test_agreement_is_the_share_of_the_most_salient_that_is_present():
    saliency = torch.tensor([[1.0, 2.0, 3.0, 4.0], [9.0, 1.0, 5.0, 0.0], [4.0, 3.0, 2.0, 1.0]])
    assert exploration._agreement(saliency, [2, 0, 1, 2]) == [1.0, pytest.approx(2 / 3), 0.5]
    assert exploration._agreement(None, [0]) is None


def test_without_an_answer_the_full_models_own_is_marked():
    model, tokenizer = small_model(), small_tokenizer()
    found = exploration.exploration(model, tokenizer, PROMPT, {"random": RandomScorer()}, SCHEDULE, new_tokens=5)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=5, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert found["full"]["answer"] == tokenizer.decode(out, skip_special_tokens=True).strip() != ""
    assert found["saliency"]["answer"] == found["full"]["answer"] and not found["saliency"]["given"]


def test_the_saliency_can_be_left_out_and_a_short_prompt_says_why_nothing_was_cut():
    model, tokenizer = small_model(), small_tokenizer()
    short = exploration.exploration(model, tokenizer, "The old", {"r": RandomScorer()}, SCHEDULE, saliency=False)
    (run,) = short["runs"]
    assert short["saliency"] is None and run["agreement"] is None
    assert "too short" in run["reason"] and set(run["last_layer"]) == {LAYERS - 1}
    assert all(score is None for stage in run["stages"] for score in stage["scores"])


def test_what_cannot_be_shown_is_refused():
    model, tokenizer = small_model(), small_tokenizer()

    def ask(text, answer=None, **options):
        return exploration.exploration(model, tokenizer, text, {"r": RandomScorer()}, SCHEDULE, answer, **options)

    with pytest.raises(ValueError, match="the model takes 512"):
        ask("The old coat. " * 200)
    with pytest.raises(ValueError, match="no tokens"):
        ask("")
    with pytest.raises(ValueError, match="answer is empty"):
        ask(PROMPT, " ")


def test_an_answer_follows_a_blank_unless_there_is_one():
    tokenizer = small_tokenizer()
    with_blank, without = (tokenizer(text)["input_ids"] for text in (" Oslo", "Oslo"))
    assert answer_ids(tokenizer, "is", "Oslo") == answer_ids(tokenizer, "is", " Oslo") == with_blank
    assert answer_ids(tokenizer, "is ", "Oslo") == without
