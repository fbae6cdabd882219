"""Training prompts made of SQuAD's training articles."""

import json

import pytest

from sdtp_lib.data.pairs import training_pairs
from sdtp_lib.data.real.training_pairs import question_pairs


@pytest.fixture
def folder(tmp_path):
    rows = [
        {
            "title": f"Article {number}",
            "context": f"The river of valley {number} is {number + 40} miles long. " + "It runs by old mills. " * 11,
            "questions": [
                {"question": f"How long is river {number}?", "answers": [f"{number + 40} miles"]},
                {"question": f"Of which valley is river {number}?", "answers": [f"valley {number}"]},
            ],
        }
        for number in range(12)
    ]
    (tmp_path / "squad_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_each_prompt_holds_its_answer_and_ends_with_the_question(folder):
    pairs = question_pairs(folder, 20, seed=1, characters=(600, 1500))
    assert len({pair["prompt"].rpartition("Question: ")[2] for pair in pairs}) == 20
    for pair in pairs:
        context, _, asked = pair["prompt"].rpartition("Question: ")
        assert pair["answer"].strip() in context and asked.endswith("\nAnswer:") and len(pair["prompt"]) <= 1500
    assert min(len(pair["prompt"]) for pair in pairs) < 1000 < max(len(pair["prompt"]) for pair in pairs)


def test_the_seed_draws_questions_and_the_first_ones_do_not_depend_on_the_count(folder):
    first = question_pairs(folder, 6, seed=1)
    assert question_pairs(folder, 12, seed=1)[:6] == first != question_pairs(folder, 6, seed=2)


def test_backwards_the_last_questions_come_first(folder):
    short = (600, 1500)  # characters, which all 24 fit
    order = question_pairs(folder, 24, 1, short)
    assert question_pairs(folder, 5, 1, short, backwards=True) == order[:-6:-1]


def test_too_many_are_asked_for(folder):
    with pytest.raises(ValueError, match="asked for 25 prompts, but only 24 of 24"):
        question_pairs(folder, 25, seed=0)


def test_squad_stands_for_the_folder_that_the_environment_names(folder, monkeypatch):
    monkeypatch.setenv("SDTP_DATA", str(folder))
    assert training_pairs("squad", 5, 3) == question_pairs(folder, 5, 3)


def test_a_folder_without_the_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="squad_train"):
        question_pairs(tmp_path, 1, seed=0)
