"""The harness's task of four spans that stand in real documents."""

import pytest
from lm_eval.tasks import TaskManager
from real_text import write_squad

from sdtp_lib.evaluation.harness.command import TASKS
from sdtp_lib.evaluation.harness.tasks import CHARACTERS
from sdtp_lib.evaluation.prompts import build_prompt


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_squad(tmp_path_factory.mktemp("data"), articles=12)


def load(**metadata):
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    return manager.load(["documents_choice"])["tasks"]["documents_choice"]


@pytest.mark.parametrize("how", ["named", "variable"])
def test_each_prompt_has_four_spans_of_its_documents_and_one_is_right(folder, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("SDTP_DATA", str(folder))
    task = load(records=6, **({"data": str(folder)} if how == "named" else {}))
    docs = list(task.test_docs())
    assert len(docs) == 6 and len({doc["gold"] for doc in docs}) > 1  # the right one is not always the first
    for doc in docs:
        assert 0.9 * CHARACTERS <= len(build_prompt(doc)) <= CHARACTERS and task.doc_to_text(doc) == build_prompt(doc)
        assert len(doc["choices"]) == 4 and all(choice in doc["context"] for choice in doc["choices"])
        assert doc["choices"][task.doc_to_target(doc)] == doc["answers"][0]
        assert task.doc_to_choice(doc) == [f" {choice}" for choice in doc["choices"]]
