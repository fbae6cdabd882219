"""Corpora: schema, uniqueness, and what is refused."""

import json

import pytest

from sdtp_lib.data.corpora import demo_pairs, longbench_records, read_jsonl
from sdtp_lib.data.demo.corpus import TASKS
from sdtp_lib.data.pairs import read_pairs

SCHEMA = {"input", "context", "answers", "length", "dataset", "language", "all_classes", "_id"}


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def record(**changes):
    row = {"input": "Who?", "context": "Anna did it.", "answers": ["Anna"], "length": 3, "dataset": "qasper"}
    return {**row, "language": "en", "all_classes": None, "_id": "a1", **changes}


def test_demo_pairs_take_the_categories_in_turn():
    pairs = demo_pairs(12, seed=1, tokens=(60, 100))
    assert [pair["dataset"] for pair in pairs] == [*TASKS, *TASKS, *TASKS][:12]
    assert len({pair["id"] for pair in pairs}) == 12 and len({pair["prompt"] for pair in pairs}) == 12
    assert pairs == demo_pairs(12, seed=1, tokens=(60, 100))
    others = demo_pairs(12, seed=2, tokens=(60, 100))
    assert not {pair["prompt"] for pair in pairs} & {pair["prompt"] for pair in others}


def test_demo_answers_follow_their_prompt():
    for pair in demo_pairs(20, seed=3, tokens=(60, 200)):
        assert set(pair) == {"id", "prompt", "answer", "dataset"}
        if pair["dataset"] in ("singledoc_qa", "report_summary"):  # the fact stands in the document, word for word
            cue = pair["prompt"].splitlines()[-1].removeprefix("Answer: ")
            first = pair["answer"].split(".")[0]
            assert f"{cue}{first}." in pair["prompt"]


@pytest.mark.parametrize("count, seed, problem", [(0, 1, "count"), (True, 1, "count"), (5, 2025, "LongBench-mini")])
def test_demo_pairs_refuse(count, seed, problem):
    with pytest.raises(ValueError, match=problem):
        demo_pairs(count, seed)


def test_dolly_from_a_file_and_a_folder(tmp_path):
    rows = [
        {"instruction": "Name a city.", "context": "", "response": "Oslo", "category": "open_qa"},
        {"instruction": "Who?", "context": "It was Anna. ", "response": " Anna ", "category": "closed_qa"},
        {"instruction": "Nothing", "context": "", "response": " ", "category": "open_qa"},
        {"instruction": "Last", "context": "", "response": "one", "category": "open_qa"},
    ]
    file = write_jsonl(tmp_path / "dolly.jsonl", rows)
    pairs = read_pairs(file)
    assert [pair["id"] for pair in pairs] == ["dolly-0", "dolly-1", "dolly-3"]
    assert pairs[0] == {
        "id": "dolly-0", "prompt": "Instruction: Name a city.\n\nResponse:", "answer": " Oslo", "dataset": "dolly"
    }  # fmt: skip
    assert "Context: It was Anna.\n\n" in pairs[1]["prompt"] and pairs[1]["answer"] == " Anna"
    assert read_pairs(tmp_path, limit=2) == pairs[:2]


def test_dolly_refuses_other_records_and_places(tmp_path):
    file = write_jsonl(tmp_path / "other.jsonl", [{"question": "?"}])
    with pytest.raises(ValueError, match="no instruction and response; it has question"):
        read_pairs(file)
    with pytest.raises(FileNotFoundError, match="neither a file nor a folder"):
        read_pairs(tmp_path / "missing")
    with pytest.raises(ValueError, match="limit"):
        read_pairs(file, limit=0)
    write_jsonl(tmp_path / "second.jsonl", [])
    with pytest.raises(FileNotFoundError, match="no single JSONL file"):
        read_pairs(tmp_path)


def test_mini_is_longbench_in_schema():
    for name in TASKS:
        rows = longbench_records(name, "mini", limit=2)
        assert len(rows) == 2 and all(set(row) == SCHEMA and row["dataset"] == name for row in rows)
    with pytest.raises(ValueError, match="unknown LongBench-mini dataset"):
        longbench_records("qasper", "mini", limit=1)


def test_longbench_from_a_folder(tmp_path):
    rows = [record(_id=str(i), all_classes=[]) for i in range(3)]
    write_jsonl(tmp_path / "qasper.jsonl", rows)
    got = longbench_records("qasper", tmp_path, limit=2)
    assert [row["_id"] for row in got] == ["0", "1"] and got[0]["all_classes"] is None
    with pytest.raises(FileNotFoundError, match="no file trec.jsonl"):
        longbench_records("trec", tmp_path)


@pytest.mark.parametrize(
    "changes, problem",
    [({"context": ""}, "no context"), ({"context": None}, "no context"), ({"context": " \n"}, "no context"),
     ({"answers": []}, "no answers")],
)  # fmt: skip
def test_a_record_that_tests_nothing_is_refused(tmp_path, changes, problem):
    write_jsonl(tmp_path / "qasper.jsonl", [record(**changes)])
    with pytest.raises(ValueError, match=f"qasper record a1 has {problem}"):
        longbench_records("qasper", tmp_path)


def test_a_missing_context_field_is_refused(tmp_path):
    row = record()
    del row["context"]
    write_jsonl(tmp_path / "qasper.jsonl", [row])
    with pytest.raises(ValueError, match="qasper record a1 has no context"):
        longbench_records("qasper", tmp_path)


def test_empty_and_damaged_files_are_refused(tmp_path):
    file = tmp_path / "qasper.jsonl"
    file.write_text("")
    with pytest.raises(ValueError, match="holds no records"):
        longbench_records("qasper", tmp_path)
    file.write_text(json.dumps(record()) + "\n{half")
    with pytest.raises(ValueError, match="line 2 is not a JSON object"):
        longbench_records("qasper", tmp_path)
    file.write_text("[1]\n")
    with pytest.raises(ValueError, match="line 1 is not a JSON object"):
        list(read_jsonl(file))


def test_the_hub_is_asked_by_pinned_revision(monkeypatch):
    import datasets

    asked = {}

    def load(*args, **kwargs):
        asked.update(args=args, **kwargs)
        return [record(question="Q", answer_prefix="A:")]

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = longbench_records("qasper", "Xnhyacinth/LongBench", limit=1)
    assert rows[0]["answer_prefix"] == "A:"
    assert asked["args"] == ("Xnhyacinth/LongBench", "qasper") and len(asked["revision"]) == 40

    def offline(*args, **kwargs):
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(FileNotFoundError, match="databricks/databricks-dolly-15k .* no route$"):
        read_pairs()
