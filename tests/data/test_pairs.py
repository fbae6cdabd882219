"""Lines of training data: each of three kinds, alone or mixed, and what is refused by file and line."""

import json

import pytest
import torch
from chat_tokenizers import INST, chat_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from small_records import small_tokenizer

from sdtp_lib.data.chat import answer_ids, prompt_ids
from sdtp_lib.data.pairs import read_pairs
from sdtp_lib.data.samples import encode_pairs

OWN = {"prompt": "Who did it?", "answer": " Anna", "more": 3}
DOLLY = {"instruction": "Name a city.", "context": "", "response": "Oslo", "category": "open_qa"}
ASKED = [{"role": "system", "content": ""}, {"role": "user", "content": "Who?"}]
CHAT = {"prompt": "Who?", "messages": [*ASKED, {"role": "assistant", "content": "Anna", "mood": "sure"}]}
AFTER = [{"role": "user", "content": "Thanks."}]


def written(folder, *rows):
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "own.jsonl"


def test_kinds_may_be_mixed(tmp_path):
    file = written(tmp_path, OWN, {**CHAT, "messages": CHAT["messages"] + AFTER}, {**DOLLY, "response": " "}, DOLLY)
    first, second, third = read_pairs(file)
    assert first == {"id": "own-0", "prompt": "Who did it?", "answer": " Anna", "dataset": "own"}
    assert second == {"id": "own-1", "prompt": ASKED, "answer": "Anna", "dataset": "own", "where": f"{file} line 2"}
    assert third["id"] == "dolly-3" and third["prompt"] == "Instruction: Name a city.\n\nResponse:"
    assert read_pairs(file, limit=1) == [first]


def test_samples_are_what_the_model_reads(tmp_path):
    tokenizer, pairs = chat_tokenizer(), read_pairs(written(tmp_path, OWN, CHAT, DOLLY))
    for sample, pair in zip(encode_pairs(pairs, tokenizer, None, 3), pairs, strict=True):
        turns = pair["prompt"] if pair["dataset"] == "own" and "where" in pair else [
            {"role": "user", "content": pair["prompt"]}]  # fmt: skip
        options = {"tokenize": True, "return_dict": False}
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, **options)
        whole = [*turns, {"role": "assistant", "content": pair["answer"].strip()}]
        assert sample.input_ids[: sample.prompt_tokens].tolist() == prompt
        ids = tokenizer.apply_chat_template(whole, **options)
        assert sample.input_ids.tolist() == ids[: len(sample.input_ids)]
        assert tokenizer.decode(ids[len(sample.input_ids) :]) == "\n"


def test_datasets_that_take_no_template_and_plain_models_get_text(tmp_path):
    few_shot = {"id": "a", "prompt": "Who?", "answer": " Anna", "dataset": "few_shot"}
    tokenizer = chat_tokenizer()
    plain = [*tokenizer("Who?")["input_ids"], *tokenizer(" Anna", add_special_tokens=False)["input_ids"]]
    for pairs, chosen, switch in (([few_shot], tokenizer, None), ([{**few_shot, "dataset": "own"}], tokenizer, False)):
        (sample,) = encode_pairs(pairs, chosen, None, 1, switch)
        assert sample.input_ids.tolist() == plain
    (sample,) = encode_pairs([{**few_shot, "dataset": "own"}], small_tokenizer(), None, 1)
    assert sample.input_ids.tolist() == plain[1:]  # it puts no token first


ROLES = st.sampled_from(["system", "user", "assistant"])
TURNS = st.lists(
    st.fixed_dictionaries({"role": ROLES, "content": st.text(" \na<[é\U0001f642", max_size=4)}), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(TURNS)
def test_any_turns_are_a_prompt_with_an_answer_or_a_named_error(tmp_path_factory, turns):
    file = written(tmp_path_factory.mktemp("any"), {"messages": turns})
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    asked = any(turn["role"] == "user" and turn["content"].strip() for turn in turns[:last])
    try:
        (pair,) = read_pairs(file)
    except ValueError as error:
        assert f"{file} line 1" in str(error) and "\n" not in str(error)
        assert not asked or not turns[last]["content"].strip()
        return
    assert asked and pair["prompt"] == turns[:last] and pair["answer"] == turns[last]["content"]
    tokenizer = chat_tokenizer()
    (sample,) = encode_pairs([pair], tokenizer, None, 1)
    prompt, answer = (
        prompt_ids(tokenizer, turns[:last], True),
        answer_ids(tokenizer, turns[:last], pair["answer"], True),
    )
    assert torch.equal(sample.input_ids, torch.tensor(prompt + answer)) and sample.prompt_tokens == len(prompt)


@pytest.mark.parametrize("row, said", [
    ({"question": "?"}, "has no prompt and answer, no messages, and no instruction and response; it has question"),
    ({}, "it has nothing"), ({"prompt": "Who?"}, "has no answer"), ({"answer": "Anna"}, "has no prompt"),
    ({**OWN, "answer": " "}, "has no answer: found \" \""), ({**OWN, "prompt": 3}, "field prompt: found 3"),
    ({"messages": []}, "has no messages"), ({"messages": "Who?"}, "messages.*found \"Who"),
    ({"messages": [{"role": "bot", "content": "a"}]}, r"messages\[0\].role: found \"bot\", wanted one of system, user"),
    ({"messages": [{"role": "user", "content": None}]}, r"messages\[0\].content: found null"),
    ({"messages": [{"role": "user"}]}, r"has no content in messages\[0\]"),
    ({"messages": ASKED}, "no turn of the assistant after one of the user"),
    ({"messages": CHAT["messages"][2:]}, "no turn of the assistant after one of the user"),
    ({"messages": [*ASKED, {"role": "assistant", "content": ""}]}, r"messages\[2\].content: found no text"),
])  # fmt: skip
def test_a_bad_line_is_refused_by_file_and_line(tmp_path, row, said):
    with pytest.raises(ValueError, match=f"own.jsonl line 2.*({said})") as caught:
        read_pairs(written(tmp_path, OWN, row))
    assert "\n" not in str(caught.value)


def test_turns_without_a_template_are_refused_by_file_line_and_tokenizer(tmp_path):
    pairs, plain = read_pairs(written(tmp_path, OWN, CHAT)), small_tokenizer()
    with pytest.raises(
        ValueError, match="own.jsonl line 2: messages need a chat template, which the tokenizer of .* not"
    ):
        encode_pairs(pairs, plain, None, 2)
    with pytest.raises(ValueError, match="own.jsonl line 2: messages need a chat template, which is switched off"):
        encode_pairs(pairs, chat_tokenizer(), None, 2, False)
    with pytest.raises(ValueError, match="own.jsonl line 2: the chat template refuses it: no system role"):
        encode_pairs(pairs, chat_tokenizer(INST), None, 2)


def test_the_pinned_revision_is_dollys_alone(monkeypatch):
    import datasets

    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, revision, **_: asked.append(revision) or [DOLLY])
    read_pairs()
    read_pairs("owner/chats")
    assert len(asked[0]) == 40 and asked[1] is None
