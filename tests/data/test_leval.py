"""L-Eval's documents as records: options as choices, and what is refused."""

import json

import pytest

from sdtp_lib.data.real.leval import leval_records
from sdtp_lib.evaluation.metrics import score

OPTIONS = "What is it?\nA. a cat\nB. a dog\nC. a bird"
ROWS = [
    {"input": "A long text.", "instructions": [OPTIONS, "Who?\nA. he\nB. she"], "outputs": ["B", "A"]},
    {"input": "Another one.", "instructions": [OPTIONS], "outputs": ["C"]},
]


def write(folder, rows, name="tpo"):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_every_question_is_a_record(tmp_path):
    records = leval_records("tpo", write(tmp_path, ROWS))
    assert [record["_id"] for record in records] == ["tpo-0-0", "tpo-0-1", "tpo-1-0"]
    assert [record["context"] for record in records] == ["A long text.", "A long text.", "Another one."]
    assert [record["choices"] for record in records] == [["A", "B", "C"], ["A", "B"], ["A", "B", "C"]]
    assert [record["answers"] for record in records] == [["B"], ["A"], ["C"]]
    assert leval_records("tpo", tmp_path, 2) == records[:2]


def test_several_options_may_be_right(tmp_path):
    write(tmp_path, [{**ROWS[1], "outputs": ["AC"]}], "coursera")
    (record,) = leval_records("coursera", tmp_path)
    assert record["choices"] == ["A", "B", "C", "AB", "AC", "BC", "ABC"] and record["answers"] == ["AC"]


def test_questions_without_options_have_no_choices(tmp_path):
    (record,) = leval_records("gsm100", write(tmp_path, [{**ROWS[1], "outputs": [" 18 "]}], "gsm100"))
    assert "choices" not in record and record["answers"] == ["18"]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"outputs": ["B", ""]}, r'line 1, field outputs\[1\]: found "", wanted text that is not blank'),
        ({"outputs": ["B"]}, "line 1 has 2 instructions, but 1 outputs"),
        ({"outputs": ["B", "C"]}, r"line 1, field outputs\[1\]: 'C' is none of the question's options"),
        ({"input": None}, "line 1 has no input: found null"),
    ],
)
def test_bad_documents_are_named(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        leval_records("tpo", write(tmp_path, [ROWS[0] | change]))


@pytest.mark.parametrize("answer", ["eighteen", "$18", "18 eggs", "1/2", "nan", "1e3", "18."])
def test_an_answer_that_is_no_number_is_named_where_a_number_is_asked_for(tmp_path, answer):
    write(tmp_path, [ROWS[1] | {"outputs": ["1,800"]}, ROWS[1] | {"outputs": [answer]}], "gsm100")
    with pytest.raises(ValueError) as caught:
        leval_records("gsm100", tmp_path)
    where = f"{tmp_path / 'gsm100.jsonl'} line 2, field outputs[0]"
    assert str(caught.value) == f"{where}: {answer!r} is no plain number, such as 18 or 1,800.50"
    assert leval_records("gsm100", tmp_path, 1)[0]["answers"] == ["1,800"]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no file coursera.jsonl"):
        leval_records("coursera", tmp_path)
    with pytest.raises(ValueError, match="coursera is L-Eval's: give --data FOLDER with its coursera.jsonl in it"):
        leval_records("coursera", None)
    with pytest.raises(ValueError, match="tpo in .* holds no records"):
        leval_records("tpo", write(tmp_path, []))


@pytest.mark.parametrize(
    "dataset, prediction, answer, points",
    [
        ("tpo", " B. a dog", "B", 1), ("tpo", "(C)", "C", 1), ("tpo", "a bird", "C", 0), ("tpo", "", "A", 0),
        ("coursera", "A, C", "AC", 1), ("coursera", "CA", "AC", 1), ("coursera", "A and C", "AC", 1),
        ("coursera", "A", "AC", 0), ("coursera", "ABC", "AC", 0),
        ("gsm100", "16 - 7 = 9.\nThe answer is 18\n\nQuestion: 5 cats", "18", 1),
        ("gsm100", "so 9 * 2 = $18.", "18", 1),
        ("gsm100", "The answer is $1,800.00", "1800", 1), ("gsm100", "18 and 3", "18", 0), ("gsm100", "none", "18", 0),
    ],
)  # fmt: skip
def test_answers_are_scored_as_leval_means_them(dataset, prediction, answer, points):
    assert score(dataset, prediction, [answer]) == points
