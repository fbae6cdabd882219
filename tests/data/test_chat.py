"""Chat templates: the ids that transformers itself gives, no special token twice, and an answer that starts exactly."""

import pytest
from chat_tokenizers import INST, THINKS, TURNS, chat_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from small_records import small_tokenizer

from sdtp_lib.data import chat
from sdtp_lib.scorers.token_pruner import TokenPruner

TEXT = st.text(alphabet=st.one_of(st.sampled_from(" \n\t[]{}<>%'\"abé🙂"), st.characters(exclude_categories=["Cs"])))
ANSWERS = TEXT.filter(str.strip)


@st.composite
def conversations(draw, system=True):
    """Turns before an answer: user and assistant in turns, the user last, a system turn first or not."""
    contents = draw(st.lists(TEXT, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2))
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    first = [{"role": "system", "content": draw(TEXT)}] if system and draw(st.booleans()) else []
    return first + turns


def own(tokenizer, turns, **options):
    return tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **options)


@settings(max_examples=60, deadline=None)
@given(conversations(), ANSWERS)
def test_the_ids_are_those_of_the_template(turns, answer):
    tokenizer = chat_tokenizer()
    prompt = chat.prompt_ids(tokenizer, turns, True)
    assert prompt == own(tokenizer, turns, add_generation_prompt=True)
    assert prompt[0] == tokenizer.bos_token_id and tokenizer.bos_token_id not in prompt[1:2]
    whole = own(tokenizer, [*turns, {"role": "assistant", "content": answer}])
    ids = prompt + chat.answer_ids(tokenizer, turns, answer, True)
    assert tokenizer.decode(ids) == tokenizer.decode(whole).rstrip()  # the line end after the turn is not the model's
    assert tokenizer.decode(ids[len(prompt) :]) == answer + tokenizer.eos_token
    if not answer[0].isspace():  # or one token may hold white space of prompt and answer
        assert ids == whole[: len(ids)]


@settings(max_examples=60, deadline=None)
@given(conversations(system=False), ANSWERS)
def test_an_answer_starts_right_after_a_prompt_that_no_token_ends(turns, answer):
    tokenizer = chat_tokenizer(INST)
    prompt = chat.prompt_ids(tokenizer, turns, True)
    ids = chat.answer_ids(tokenizer, turns, answer, True)
    assert prompt == own(tokenizer, turns, add_generation_prompt=True)
    assert tokenizer.decode(ids) == f" {answer}{tokenizer.eos_token}"


@settings(max_examples=60, deadline=None)
@given(conversations(), st.sampled_from(["system", "user", "assistant"]))
def test_the_positions_of_a_role_are_the_tokens_of_what_it_says(turns, role):
    tokenizer, said = chat_tokenizer(), [turn["content"] for turn in turns if turn["role"] == role]
    if not said:
        with pytest.raises(ValueError, match=f"no message has the role '{role}'; there are: .*user"):
            chat.role_positions(tokenizer, turns, role)
        return
    ids, found = chat.prompt_ids(tokenizer, turns, True), chat.role_positions(tokenizer, turns, role)
    assert found == sorted(set(found)) and all(0 <= place < len(ids) for place in found)
    marked = "".join(tokenizer.decode([ids[place]]) for place in found)
    if all(text.isascii() for text in said):  # a token may hold part of a letter, or of what stands beside a message
        assert "".join("".join(said).split()) in "".join(marked.split())
    others = [place for place in range(len(ids)) if place not in found]
    outside = [turn for turn in turns if turn["role"] != role]
    assert len(others) >= len(outside)  # the marks of every turn at least


def test_a_system_prompt_is_found_where_another_says_the_same():
    tokenizer, text = chat_tokenizer(), "Who? Anna."
    turns = [{"role": role, "content": text} for role in ("system", "user", "assistant", "user")]
    ids = chat.prompt_ids(tokenizer, turns, True)
    for role, count in (("system", 1), ("user", 2), ("assistant", 1)):
        assert tokenizer.decode([ids[i] for i in chat.role_positions(tokenizer, turns, role)]).count(text) == count
    assert max(chat.role_positions(tokenizer, turns)) < min(chat.role_positions(tokenizer, turns, "user"))


def test_a_message_that_the_template_leaves_out_has_no_positions():
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}]
    silent = INST.replace("raise_exception('no system role')", "''")
    with pytest.raises(ValueError, match="leaves out message 0, of the role 'system'"):
        chat.role_positions(chat_tokenizer(silent), turns)
    assert chat.role_positions(chat_tokenizer(silent), turns, "user")


def test_plain_text_is_the_users_turn():
    tokenizer = chat_tokenizer()
    turn = [{"role": "user", "content": "Who?"}]
    assert chat.prompt_ids(tokenizer, "Who?", True) == chat.prompt_ids(tokenizer, turn, True)
    assert chat.answer_ids(tokenizer, "Who?", "Anna", True) == chat.answer_ids(tokenizer, turn, "Anna", True)
    assert chat.prompt_text(tokenizer, "Who?", False) == "Who?"


def test_without_a_template_text_stays_as_it_is():
    tokenizer = chat_tokenizer()
    assert chat.prompt_ids(tokenizer, "Who?", False) == tokenizer("Who?")["input_ids"]
    assert chat.prompt_ids(tokenizer, "Who?", False)[0] == tokenizer.bos_token_id
    assert tokenizer.decode(chat.answer_ids(tokenizer, "Who?", " Anna", False)) == " Anna"
    with pytest.raises(ValueError, match="messages need a chat template, which is switched off"):
        chat.prompt_ids(tokenizer, [{"role": "user", "content": "Who?"}], False)


def test_the_switch():
    plain, with_one = small_tokenizer(), chat_tokenizer()
    assert [chat.uses_template(with_one, wanted) for wanted in (None, True, False)] == [True, True, False]
    assert [chat.uses_template(plain, wanted) for wanted in (None, False)] == [False, False]
    with pytest.raises(ValueError, match="has no chat template"):
        chat.uses_template(plain, True)
    taken = {name: chat.takes_template(name) for name in ("qasper", "trec", "lcc", "singledoc_qa", "few_shot", None)}
    assert [name for name, takes in taken.items() if takes] == ["qasper", "singledoc_qa", None]


def test_what_a_template_cannot_do_is_refused():
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}]
    with pytest.raises(ValueError, match="refuses it: no system role"):
        chat.prompt_ids(chat_tokenizer(INST), turns, True)
    with pytest.raises(ValueError, match="where the answer begins is unknown"):
        chat.answer_ids(chat_tokenizer(THINKS), turns, "Anna", True)


def test_the_digest_tells_templates_apart():
    tokenizer = chat_tokenizer()
    digest = chat.template_digest(tokenizer, True)
    assert digest == chat.template_digest(chat_tokenizer(), True) != chat.template_digest(chat_tokenizer(INST), True)
    assert chat.template_digest(tokenizer, False) is None
    tokenizer.chat_template = {"default": TURNS, "tool_use": INST}
    assert chat.template_digest(tokenizer, True) == digest


@pytest.mark.parametrize(
    "record, used, words",
    [({}, "aa", ""), ({}, None, ""), ({"chat_template": "aa"}, "aa", ""), ({"chat_template": None}, None, ""),
     ({"chat_template": "aa"}, "bb", "in chat template aa and is used on prompts in chat template bb"),
     ({"chat_template": "aa"}, None, "in chat template aa and is used on prompts in no chat template"),
     ({"chat_template": None}, "bb", "in no chat template and is used on prompts in chat template bb")],
)  # fmt: skip
def test_a_pruner_of_another_template_is_warned_of_in_one_line(caplog, record, used, words):
    chat.warn_of_other_template(TokenPruner(8, (1,), record), used)
    chat.warn_of_other_template(None, used)
    assert [words in line and "\n" not in line for line in caplog.messages] == [True] * bool(words)
