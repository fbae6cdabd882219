"""Dense LongBench-mini: most of a document could be asked for, and what is asked for is there, once."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule, QuestionAwarePruner, TokenPruner, paths
from sdtp_lib.data.corpora import demo_pairs, longbench_records
from sdtp_lib.data.demo.corpus import KINDS, TASKS, count_pieces, longbench_mini
from sdtp_lib.data.demo.dense import ALL_TASKS, DENSE_BUILDERS, DENSE_TASKS, longbench_dense
from sdtp_lib.data.demo.questions import CHOICE_DATASETS, TWICE_DATASETS, two_questions
from sdtp_lib.data.demo.words import RELATIONS
from sdtp_lib.data.tasks import DATASETS, expand_tasks
from sdtp_lib.evaluation.longbench import measure
from sdtp_lib.evaluation.metrics import score
from sdtp_lib.models import load_model, load_pruner
from sdtp_lib.training.demo_model import DENSE_LENGTHS, Stream, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(documents=400)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(DENSE_BUILDERS)), st.integers(200, 2048), st.integers(0, 999))
def test_at_least_half_of_a_document_is_candidate_answers_and_every_answer_is_there(name, tokens, seed):
    doc = DENSE_BUILDERS[name](random.Random(seed), tokens)
    assert 0.7 * tokens < count_pieces(doc.context) < 1.3 * tokens
    if name == "dense_multidoc_qa":  # chains share links
        values = facts_of(doc.context).values()
    else:
        values = [answer for _, answer in doc.pairs]
    assert sum(map(count_pieces, values)) > 0.5 * count_pieces(doc.context)
    assert len(set(question for question, _ in doc.pairs)) > 0.6 * len(doc.pairs)  # a few may be asked twice
    for _, answer in doc.pairs:
        assert all(sentence.rstrip(".") in doc.context for sentence in answer.split(". "))


def facts_of(context):
    """(kind, name) -> value of every fact "kind name value." of a dense_multidoc_qa document."""
    sentences = [s.split(": ")[-1].split() for s in context.replace("\n", " ").split(".")]
    facts = [((kind, name), " ".join(value)) for kind, name, *value in (s for s in sentences if len(s) > 2)
             if kind in (*KINDS, *RELATIONS)]  # fmt: skip
    assert len(dict(facts)) == len(facts)  # a key has one value
    return dict(facts)


@settings(deadline=None)
@given(st.integers(0, 400))
def test_every_look_up_leads_on(seed):
    (record,) = longbench_dense("dense_multidoc_qa", 1, seed, (300, 600))
    said = facts_of(record["context"])
    *kinds, name = record["input"].split()
    steps = []
    for kind in reversed(kinds):
        steps.append(f"{kind} {name} {said[kind, name]}")
        name = said[kind, name]
    assert len(steps) in (2, 3)
    assert record["answers"] == [". ".join(steps).split(maxsplit=2)[2]]
    prompt = DENSE_TASKS["dense_multidoc_qa"].prompt(record["context"], record["input"])
    assert prompt.endswith("Answer: " + " ".join(steps[0].split()[:2]))


def test_the_owner_of_the_decisions_is_asked_for():
    (record,) = longbench_dense("dense_report_summary", 1, 3)
    owner = " ".join(record["input"].split()[1:])
    prompt = DENSE_TASKS["dense_report_summary"].prompt(record["context"], record["input"])
    assert prompt.endswith(f"first {owner}") and f"first {owner} {record['answers'][0].split('. ')[0]}" in prompt
    assert record["context"].count("first ") > 3


def test_records_repeat_with_the_seed_and_are_found_by_name():
    for name in DENSE_TASKS:
        assert longbench_dense(name, 3, seed=4) == longbench_dense(name, 3, seed=4) != longbench_dense(name, 3, seed=5)
        assert longbench_records(name, "mini", 2) == longbench_dense(name, 2)
    assert expand_tasks("longbench_dense") == list(DENSE_TASKS)
    assert [DATASETS[name].category for name in DENSE_TASKS] == [DATASETS[name].category for name in TASKS]
    with pytest.raises(ValueError, match="unknown dense dataset 'qa'; known: dense_singledoc_qa"):
        longbench_dense("qa", 1)


@pytest.mark.parametrize("name", DENSE_TASKS)
def test_a_whole_answer_fits_the_limit_and_scores_full_marks(name, tokenizer):
    for record in longbench_dense(name, 10):
        (answer,) = record["answers"]
        assert len(tokenizer(answer)["input_ids"]) + 2 <= DATASETS[name].max_new_tokens
        assert score(name, answer, record["answers"], record["all_classes"]) == pytest.approx(1.0)


def test_training_pairs_are_half_dense():
    pairs = demo_pairs(20, 0, dense=True)
    assert [pair["dataset"] for pair in pairs] == 2 * [*TASKS, *DENSE_TASKS]
    assert {pair["dataset"] for pair in demo_pairs(20, 0)} == set(TASKS)


def test_dense_training_rows_hold_answers_of_all_kinds(tokenizer):
    stream = Stream(tokenizer, 10**6, 0, 12, 2176, dense=True)
    kinds, lengths = set(), set()
    for ids, each in stream:
        assert ids.shape == each.shape and ids.shape[1] in DENSE_LENGTHS
        kinds |= set(each.unique().tolist())
        lengths.add(ids.shape[1])
    assert len(lengths) > 1 and len([k for k in kinds if k >= 4 + len(TASKS)]) == len(DENSE_TASKS)


@pytest.mark.parametrize("name", TWICE_DATASETS)
def test_two_different_questions_on_one_document(name):
    for record in two_questions(name, 3, tokens=(300, 400)):
        second = record["second"]
        assert second["input"] != record["input"]
        task = ALL_TASKS[name]
        assert task.prompt("", second["input"]) != task.prompt("", record["input"])
        assert all(s.rstrip(".") in record["context"] for s in second["answers"][0].split(". "))
    assert two_questions(name, 2) == two_questions(name, 2)


def test_two_questions_need_a_document_with_two():
    assert "report_summary" not in TWICE_DATASETS and set(CHOICE_DATASETS) <= set(TWICE_DATASETS)
    with pytest.raises(ValueError, match="no second question for 'report_summary'"):
        two_questions("report_summary", 1)
    assert longbench_mini("few_shot", 1)[0].keys() < two_questions("few_shot", 1)[0].keys()


def test_the_dense_model_reads_what_the_shorter_documents_ask_for():
    model, tokenizer = load_model("demo-dense")
    records = [record for name in DENSE_TASKS for record in longbench_dense(name, 2, seed=11, tokens=(200, 300))]
    full, _ = measure(model, tokenizer, records, "full")
    schedule = PruningSchedule.preset("keep07", model.config.num_hidden_layers)
    shipped = load_pruner(None, model, schedule)
    aware = load_pruner(paths.QUESTION_PRUNERS / "demo-dense" / "question_aware", model, schedule)
    assert type(shipped) is TokenPruner and type(aware) is QuestionAwarePruner
    pruned, _ = measure(model, tokenizer, records, "sdtp", schedule, aware)
    assert full["average"] > 80 and 0 < pruned["average"] <= 100
