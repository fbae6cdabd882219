"""Tasks on real text: lengths, needles, questions among documents, prose; on made-up paragraphs counted in words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_text import passages, words_of

from sdtp_lib.data.real import real_records
from sdtp_lib.data.real.build import BUILDERS, SEED
from sdtp_lib.data.real.filling import LEAST, stands_in
from sdtp_lib.data.real.needles import OTHER_THINGS
from sdtp_lib.data.real.passages import Passage
from sdtp_lib.data.real.questions import answering

PASSAGES = passages()
TASK = st.sampled_from(sorted(BUILDERS))


def build(task, tokens=220, limit=4, **options):
    return real_records(task, PASSAGES, tokens, words_of, limit, **options)


@settings(max_examples=40, deadline=None)
@given(task=TASK, tokens=st.integers(140, 700), seed=st.integers(0, 1000))
def test_prompts_have_the_wanted_length(task, tokens, seed):
    for record in build(task, tokens, 2, seed=seed):
        assert LEAST * tokens <= words_of(record) <= tokens


@settings(max_examples=40, deadline=None)
@given(task=TASK, tokens=st.integers(140, 500), seed=st.integers(0, 1000))
def test_choices_all_stand_in_the_context_and_one_alone_is_right(task, tokens, seed):
    for record in build(task, tokens, 2, seed=seed):
        if task == "prose_nll":
            assert "choices" not in record
            continue
        right, *wrong = record["choices"]
        assert right == record["answers"][0] and len(wrong) == 3
        for choice in record["choices"]:
            assert choice in record["context"]
        assert not any(stands_in(choice, right) or stands_in(right, choice) for choice in wrong)
        assert len({choice.casefold() for choice in record["choices"]}) == 4


@settings(max_examples=30, deadline=None)
@given(task=st.sampled_from(["needle", "needle_multi"]), seed=st.integers(0, 1000))
def test_needles_stand_once_and_their_values_nowhere_else(task, seed):
    for number, record in enumerate(build(task, seed=seed)):
        context, cue, value = record["context"], record["input"], record["answers"][0]
        assert context.count(f"{cue} {value}. ") + context.endswith(f"{cue} {value}.") == 1
        assert context.count(value) == 1 and value.isdigit() == (number % 2 == 0)
        assert record["group"] == ("numbers" if value.isdigit() else "words")
        assert context.count("The secret ") == (1 if task == "needle" else 4)
        before = context[: context.index(cue)]
        share = len(before.split()) / len(context.split())
        assert share == pytest.approx(record["depth"], abs=0.25)  # a depth in sentences, which differ in length
        rest = context.replace(f"{cue} {value}. ", "").replace(f" {cue} {value}.", "")
        assert "  " not in rest


@settings(max_examples=20, deadline=None)
@given(task=st.sampled_from(["needle", "needle_multi"]), seed=st.integers(0, 1000))
def test_the_evidence_of_a_needle_is_its_sentence(task, seed):
    for record in build(task, seed=seed):
        start, end = record["evidence"]
        assert record["context"][start:end] == f"{record['input']} {record['answers'][0]}."


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_reworded_needle_shares_no_word_with_what_asks_for_it(seed):
    for record in build("needle_reworded", seed=seed):
        start, end = record["evidence"]
        hidden, (value,) = record["context"][start:end], record["answers"]
        assert hidden.startswith("The secret ") and hidden.endswith(f" is {value}.")
        assert record["context"].count(value) == 1
        assert {*hidden.lower().split()} & {*record["input"].lower().split()} == {"the"}


def test_no_word_of_a_reworded_needle_is_asked_for_by_itself():
    said, asked = zip(*OTHER_THINGS, strict=True)
    assert len({*said, *asked}) == 2 * len(OTHER_THINGS)


def test_the_evidence_of_a_question_is_the_sentence_of_its_paragraph_that_answers():
    for record in build("documents_qa", limit=20):
        start, end = record["evidence"]
        sentence, seed = record["context"][start:end], int("".join(filter(str.isdigit, record["input"])))
        assert sentence.startswith(f"It was founded in {1000 + seed} by ") and sentence.endswith(".")
        assert record["answers"][0] in sentence and sentence in PASSAGES[seed].text


def test_of_two_sentences_with_the_answer_the_one_that_is_asked_about_is_evidence():
    passage = Passage("", "In 1873 it rained. The mill was built in 1873 of stone. It burned.")
    assert answering(passage, "When was the mill built?", "1873") == "The mill was built in 1873 of stone."


def test_needles_lie_at_all_depths():
    depths = [record["depth"] for record in build("needle", limit=60)]
    assert min(depths) < 0.1 and max(depths) > 0.9 and 0.35 < sum(depths) / len(depths) < 0.65


def test_the_other_needles_are_the_wrong_choices():
    for record in build("needle_multi"):
        for choice in record["choices"]:
            assert f"is {choice}." in record["context"]


def test_documents_are_of_other_articles_and_one_answers():
    for record in build("documents_qa", limit=20):
        seed = int("".join(filter(str.isdigit, record["input"])))
        documents = record["context"].split("\n\n")
        assert [text.split(":")[0] for text in documents] == [f"Document {i + 1}" for i in range(len(documents))]
        gold = PASSAGES[seed]
        assert sum(gold.text in text for text in documents) == 1
        others = [passage for passage in PASSAGES if passage.title == gold.title and passage is not gold]
        assert not any(passage.text[:40] in record["context"] for passage in others)
    places = {next(i for i, text in enumerate(record["context"].split("\n\n"))
                   if record["answers"][0] in text) for record in build("documents_qa", limit=20)}  # fmt: skip
    assert len(places) > 1, "the answer would always lie at one place"


def test_wrong_spans_are_of_the_answers_kind():
    for record in build("documents_qa", tokens=600, limit=20):
        kinds = {choice.isdigit() for choice in record["choices"]}
        assert len(kinds) == 1, record["choices"]


def test_every_question_is_asked_once():
    records = build("documents_qa", limit=1000)
    assert len(records) == sum(len(passage.questions) for passage in PASSAGES)
    assert len({record["input"] for record in records}) == len(records)


def test_prose_goes_on_where_the_context_ends():
    text = "\n\n".join(passage.text for passage in [*PASSAGES, *PASSAGES])
    for record in build("prose_nll"):
        assert f"{record['context']} {record['answers'][0]}" in text
        assert len(record["answers"][0].split(" ")) == 64


@settings(max_examples=20, deadline=None)
@given(task=TASK, seed=st.integers(0, 1000))
def test_records_depend_on_the_seed_and_not_on_the_limit(task, seed):
    once, again = build(task, limit=2, seed=seed), build(task, limit=3, seed=seed)
    assert once == again[:2]
    assert build(task, limit=2, seed=seed + 1) != once
    names = [record["_id"] for record in again]
    assert len({*names}) == 3 and all(f"-{seed}-" in name for name in names)


def test_the_usual_seed_is_fixed():
    assert build("needle") == build("needle", seed=SEED)


@pytest.mark.parametrize("task", sorted(BUILDERS))
def test_too_little_text_is_told(task):
    with pytest.raises(ValueError, match=rf"{task} record 0: the text is too short for 9000 tokens: all of it makes "):
        build(task, tokens=9000)


@pytest.mark.parametrize("task", ["needle", "needle_multi", "needle_reworded", "documents_qa"])
def test_no_room_for_text_is_told(task):
    with pytest.raises(ValueError, match=rf"{task} record 0: 5 tokens leave no room for text"):
        build(task, tokens=5)


def test_a_question_whose_paragraph_is_too_long_is_passed_over():
    long = [Passage(passage.title, passage.text * 9, passage.questions) for passage in PASSAGES[:2]]
    asked = {question for passage in PASSAGES[2:] for question, _ in passage.questions}
    records = real_records("documents_qa", long + PASSAGES[2:], 220, words_of, 999)
    assert {record["input"] for record in records} == asked
    assert [record["_id"].rsplit("-", 1)[1] for record in records] == [str(number) for number in range(len(records))]


def test_a_question_that_leaves_room_for_no_sentence_is_passed_over():
    def asked(name, words):
        years = " ".join(f"In {year} it rained." for year in (1501, 1502, 1503, 1504))
        text = f"It began in 1500. {years} {'It went on. ' * ((words - 20) // 3)}"
        return Passage(name, text, ((f"When did {name} begin?", ("1500",)),))

    others = [Passage(f"Other {n}", f"{'and so on ' * 30}to the end.") for n in range(6)]  # a sentence each
    found = {
        size: [record["input"] for record in real_records("documents_qa", [*sizes, *others], 200, words_of, 9)]
        for size, sizes in {"both": [asked("short", 50), asked("long", 80)], "one": [asked("long", 80)]}.items()
    }
    assert found["both"] == found["one"] == ["When did long begin?"]
    with pytest.raises(ValueError, match="record 0: the text is too short for 200 tokens"):
        real_records("documents_qa", [asked("short", 50), *others], 200, words_of, 9)


def test_the_limit_is_reached_although_questions_are_passed_over():
    long = [Passage(passage.title, passage.text * 9, passage.questions) for passage in PASSAGES[:8]]
    assert len(real_records("documents_qa", long + PASSAGES[8:], 220, words_of, 20)) == 20


def test_a_document_that_stands_twice_costs_no_question():
    again = Passage("Another article", PASSAGES[0].text, ())
    asked = sum(len(passage.questions) for passage in PASSAGES)
    assert len(real_records("documents_qa", [*PASSAGES, again], 220, words_of, 999)) == asked


def test_what_is_not_there_is_told():
    with pytest.raises(ValueError, match="unknown task 'haystack'; known: needle, needle_multi, needle_rew"):
        real_records("haystack", PASSAGES, 100, words_of)
    bare = [type(passage)(passage.title, passage.text) for passage in PASSAGES]
    with pytest.raises(ValueError, match="needs paragraphs with questions, .*--data squad"):
        real_records("documents_qa", bare, 200, words_of)
