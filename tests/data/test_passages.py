"""Where real prose comes from: Python's documentation, SQuAD's paragraphs from a folder or the Hub."""

import json

import pytest
from real_text import write_squad

import sdtp_lib.data.real.passages as module
from sdtp_lib.data.real import read_passages
from sdtp_lib.data.real.passages import SQUAD_HUB, SQUAD_REVISION, TRAINING_ARTICLES, Passage, pieces


def test_pythons_documentation_needs_no_data():
    found = read_passages("pydoc")
    assert found == read_passages("pydoc")
    text = "\n\n".join(passage.text for passage in found)
    assert 300_000 < len(text) < 1_000_000 and "assert" in {passage.title for passage in found}
    assert not any(line.lstrip().startswith("+--") for line in text.splitlines()), "tables are no prose"
    assert not any(passage.questions for passage in found)


def test_pieces_are_the_whole_text():
    passages = [Passage("a", "One is here. Two\nis there! Three?\n\n    code = 1\n\nFour"), Passage("b", "Five.")]
    found = pieces(passages)
    assert found == ["One is here. ", "Two\nis there! ", "Three?\n\n    ", "code = 1\n\n", "Four\n\n", "Five.\n\n"]


def test_squad_from_a_folder(tmp_path, monkeypatch):
    folder = write_squad(tmp_path)
    found = read_passages(folder)
    assert len(found) == 24 and found[0].title == "Article_0"
    assert found[5].questions == (("When was number 5 founded?", ("1005",)), ("Who founded 5?", ("Masteraf",)))
    monkeypatch.setenv("SDTP_DATA", str(folder))
    assert read_passages("squad") == found


def test_squad_from_the_hub_leaves_out_what_pruners_are_trained_on(monkeypatch):
    asked = []

    def rows_of(source, name, split, revision):
        asked.append((source, name, split, revision))
        for title in ("Oxygen", "Normans"):
            for number in range(2):
                row = {"title": title, "context": f"{title} is good.", "question": f"What {number}?",
                       "answers": {"text": ["good", "good"], "answer_start": [10, 10]}}  # fmt: skip
                yield "row", row

    monkeypatch.setattr(module, "rows_of", rows_of)
    monkeypatch.delenv("SDTP_DATA", raising=False)
    assert read_passages("squad") == [
        Passage("Oxygen", "Oxygen is good.", (("What 0?", ("good",)), ("What 1?", ("good",))))
    ]
    assert asked == [(SQUAD_HUB, None, "validation", SQUAD_REVISION)] and "Normans" in TRAINING_ARTICLES


ROW = {"title": "Oxygen", "context": "A gas.", "questions": [{"question": "What?", "answers": ["gas"]}]}


@pytest.mark.parametrize(
    "row, said",
    [
        ({**ROW, "questions": [{"question": "What?"}]}, r"line 2 has no answers in questions\[0\]; it has question"),
        ({**ROW, "questions": [{"question": "What?", "answers": []}]},
         r'line 2, field questions\[0\].answers: found \[\], wanted a list of texts, such as \["Perth"\]'),
        ({"title": "Oxygen", "questions": []}, "line 2 has no context; it has title, questions"),
        ({**ROW, "context": " "}, "line 2 has no context: found "),
        ({**ROW, "title": "Normans"}, "line 2: pruners are trained on article Normans, so it evaluates nothing"),
    ],
)  # fmt: skip
def test_bad_records_are_named(tmp_path, row, said):
    (tmp_path / "squad_test.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (ROW, row)))
    with pytest.raises(ValueError, match=said):
        read_passages(tmp_path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no file squad_test.jsonl"):
        read_passages(tmp_path)
    with pytest.raises(FileNotFoundError, match="is neither a file nor a folder"):
        read_passages(tmp_path / "nowhere")
    (tmp_path / "squad_test.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no paragraphs"):
        read_passages(tmp_path)
