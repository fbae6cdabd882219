"""Records from files: for every kind, every field with every wrong value is refused by file, line and field."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_files import latency_document
from small_records import small_model, small_records, small_tokenizer

from sdtp_lib import cli
from sdtp_lib.data import records
from sdtp_lib.data.corpora import longbench_records
from sdtp_lib.data.pairs import read_pairs
from sdtp_lib.data.samples import encode_pairs
from sdtp_lib.evaluation.answers import score_records
from sdtp_lib.evaluation.prompts import load_templates
from sdtp_lib.evaluation.sample_files import SampleFile
from sdtp_lib.experiments.second_question import ask_twice
from sdtp_lib.latency import sweep as benchmark
from sdtp_lib.latency.files import read_latency
from sdtp_lib.training import marks

QASPER = {"input": "Who?", "context": "Anna did it.", "answers": ["Anna"], "length": 3, "dataset": "qasper",
          "language": "en", "all_classes": None, "_id": "a1"}  # fmt: skip
TREC = {**QASPER, "dataset": "trec", "all_classes": ["Anna", "Paul"]}
HUB = {**{key: value for key, value in QASPER.items() if key != "input"}, "question": "Who?", "answer_prefix": "A:"}
DOLLY = {"instruction": "Name a city.", "context": "", "response": "Oslo", "category": "open_qa"}
HEADER = {"settings": {"seed": 0}}
SCORED = {"prediction": "a", "answers": ["a"], "score": 0.5}
SAMPLE = {"_id": "a1", "dataset": "qasper", "prompt_tokens": 9, "digest": "d", "truncated": False,
          "tokens_per_layer": [9, 5], "second": dict(SCORED), **SCORED}  # fmt: skip
MANIFEST = {"format_version": 1, "model": "m", "fingerprint": "f", "layers": [2],
            "samples": [{"id": "s0", "digest": "d", "tokens": 3, "prompt_tokens": 2}],
            "shards": {"x": "sha"}}  # fmt: skip

WRONG = {  # the right kind of a field -> values of the wrong kinds
    "text": [None, 3, 0.5, True, [], ["a"], {}, {"a": "b"}],
    "texts": [None, "Perth", "", 3, True, [], {}, {"a": "b"}, [3], ["a", None], ["a", ["b"]], ["a", True], ["a", " "]],
    "number": ["3", True, [3], {}, -1, float("inf"), float("nan")],
    "count": [None, "3", True, [3], {}, -1, 3.0, 2.5],
    "counts": [None, 3, "3", [], ["3"], [True], [-1], [3.0], {}],
    "object": [None, 3, "a", True, [], ["a"]],
}
BLANK = ["", " \n"]
MAYBE_TEXTS = [value for value in WRONG["texts"] if value not in (None, [])]
MAYBE_TEXT = [value for value in WRONG["text"] if value is not None]
ID = [value for value in WRONG["text"] if value not in (None, 3)] + BLANK

LONGBENCH_FIELDS = {
    "context": WRONG["text"] + BLANK, "answers": WRONG["texts"], "length": WRONG["number"], "dataset": MAYBE_TEXT,
    "language": MAYBE_TEXT, "all_classes": MAYBE_TEXTS, "_id": ID,
}  # fmt: skip
SCORED_FIELDS = {"prediction": WRONG["text"], "answers": WRONG["texts"], "score": [None, "1", True, -0.1, 1.1, []]}
SAMPLE_FIELDS = {
    "_id": WRONG["text"] + BLANK, "dataset": WRONG["text"] + BLANK, "digest": WRONG["text"], **SCORED_FIELDS,
    "prompt_tokens": WRONG["count"], "truncated": ["no", 0, []], "tokens_per_layer": WRONG["counts"][1:],
    "second": WRONG["object"][1:], **{f"second.{name}": values for name, values in SCORED_FIELDS.items()},
}  # fmt: skip
SECONDS = ["1", True, [], 0, -1, float("inf"), float("nan")]
LATENCY_FIELDS = {
    "metadata": WRONG["object"], "metadata.config": MAYBE_TEXT, "metadata.mode": MAYBE_TEXT, "metadata.model": [3, []],
    "results": [*WRONG["object"], {}, {"long": {"error": "full"}}, {"-1": {"error": "full"}}, {"0": {"error": "full"}}],
    "results.512": WRONG["object"], "results.512.baseline": WRONG["object"],
    "results.512.baseline.prefill_latency_seconds": [None, *SECONDS],
    "results.512.baseline.spread": [3, "a", {"prefill": 3}, {"prefill": ["a", "b"]}, {"prefill": [1.0]}],
    "results.512.sdtp.total_latency_seconds": SECONDS, "results.512.sdtp.memory_gb": SECONDS,
    "results.512.speedup": [3, "a", []], "results.512.speedup.prefill": SECONDS,
    "results.512.flops.ratio": SECONDS, "results.512.kv_reduction": ["1", True, []],
}  # fmt: skip
REQUIRED = {
    "longbench": ["input", "context", "answers"], "hub": ["answer_prefix", "context", "answers"],
    "classes": ["all_classes"], "dolly": ["instruction", "response"], "marks": [*MANIFEST],
    "samples": ["_id", "dataset", "digest", "prompt_tokens", *SCORED, "second.score"], "header": ["settings"],
    "latency": ["metadata", "results", "results.512.baseline", "results.512.baseline.prefill_latency_seconds"],
}  # fmt: skip


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def set_field(record, field, value):
    *path, last = field.split(".")
    record = here = copy.deepcopy(record)
    for part in path:
        here = here[part]
    here[last] = value
    return record


def without(record, field):
    *path, last = field.split(".")
    record = here = copy.deepcopy(record)
    for part in path:
        here = here[part]
    del here[last]
    return record


def read_longbench(folder, record, dataset="qasper"):
    (folder / f"{dataset}.jsonl").write_text(lines({**QASPER, "_id": "a0", "dataset": dataset,
                                                    "all_classes": ["Anna"]}, record))  # fmt: skip
    return longbench_records(dataset, folder)


def read_dolly(folder, record):
    (folder / "dolly.jsonl").write_text(lines(DOLLY, record))
    return read_pairs(folder)


def read_samples(folder, record):
    (folder / "s.jsonl").write_text(lines(HEADER, record))
    return SampleFile(folder / "s.jsonl", {"seed": 0}).samples


def read_header(folder, record):
    (folder / "s.jsonl").write_text(lines(record))
    return SampleFile(folder / "s.jsonl", {"seed": 0}).samples


def read_manifest(folder, record):
    (folder / marks.MANIFEST_FILE).write_text(json.dumps(record))
    return marks._read_manifest(folder)


def read_sweep(folder, record):
    (folder / "l.json").write_text(json.dumps(record))
    return read_latency(folder / "l.json", ["keep09"], "end2end")


READERS = {  # kind -> (reader, a good record, the place that an error names, field -> wrong values)
    "longbench": (read_longbench, QASPER, "qasper.jsonl line 2", {**LONGBENCH_FIELDS, "input": WRONG["text"]}),
    "hub": (read_longbench, HUB, "qasper.jsonl line 2",
            {**LONGBENCH_FIELDS, "input": MAYBE_TEXT, "question": MAYBE_TEXT, "answer_prefix": WRONG["text"]}),
    "classes": (lambda folder, record: read_longbench(folder, record, "trec"), TREC, "trec.jsonl line 2",
                {"all_classes": WRONG["texts"]}),
    "dolly": (read_dolly, DOLLY, "dolly.jsonl line 2",
              {"instruction": WRONG["text"], "response": WRONG["text"], "context": MAYBE_TEXT, "category": MAYBE_TEXT}),
    "samples": (read_samples, SAMPLE, "s.jsonl line 2", SAMPLE_FIELDS),
    "header": (read_header, HEADER, "s.jsonl line 1", {"settings": WRONG["object"]}),
    "marks": (read_manifest, MANIFEST, "manifest.json",
              {"model": WRONG["text"], "fingerprint": WRONG["text"], "layers": WRONG["counts"],
               "samples": [None, 3, "a", [], {}, ["a"], [{}], [{**MANIFEST["samples"][0], "tokens": "3"}]],
               "shards": [*WRONG["object"], {"x": 3}], "format_version": [None, "1", 2, True, 1.5]}),
    "latency": (read_sweep, latency_document("keep09"), "l.json", LATENCY_FIELDS),
}  # fmt: skip
CASES = [(kind, field, value) for kind, (*_, fields) in READERS.items() for field in fields for value in fields[field]]


@pytest.mark.parametrize("kind", READERS)
def test_a_good_record_is_read(tmp_path, kind):
    read, record, *_ = READERS[kind]
    assert read(tmp_path, record) or kind == "header"


@pytest.mark.parametrize("kind, field, value", CASES, ids=[f"{k}-{f}-{v!r}" for k, f, v in CASES])
def test_a_wrong_value_is_refused_by_file_line_and_field(tmp_path, kind, field, value):
    read, record, place, _ = READERS[kind]
    with pytest.raises(ValueError) as caught:
        read(tmp_path, set_field(record, field, value))
    said = str(caught.value).replace("format version", "format_version")
    assert f"{tmp_path}/{place}" in said and field.rpartition(".")[2] in said
    assert "\n" not in said and len(said) < 400


@pytest.mark.parametrize("kind, field", [(kind, field) for kind, fields in REQUIRED.items() for field in fields])
def test_a_missing_field_is_refused_by_file_line_and_field(tmp_path, kind, field):
    read, record, place, _ = READERS[kind]
    with pytest.raises(ValueError, match=f"{place}.* has no {field.rpartition('.')[2]}"):
        read(tmp_path, without(record, field))


OPTIONAL = {"longbench": ["length", "dataset", "language", "all_classes", "_id"], "dolly": ["context", "category"],
            "samples": ["truncated", "tokens_per_layer", "second"], "hub": ["length", "dataset"],
            "latency": ["results.512.sdtp", "results.512.kv_reduction", "results.512.speedup.total",
                        "metadata.config"]}  # fmt: skip


@pytest.mark.parametrize("kind, field", [(kind, field) for kind, fields in OPTIONAL.items() for field in fields])
def test_an_optional_field_may_be_missing_or_null(tmp_path, kind, field):
    read, record, *_ = READERS[kind]
    assert read(tmp_path, without(record, field))
    if field != "metadata.config":
        assert read(tmp_path, set_field(record, field, None))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(field=st.sampled_from([*QASPER]), value=ANY, more=st.dictionaries(st.text(max_size=5), ANY, max_size=2))
def test_whatever_a_field_holds_is_a_record_or_a_named_error(tmp_path_factory, field, value, more):
    folder = tmp_path_factory.mktemp("any")
    try:
        found = read_longbench(folder, {**more, **QASPER, field: value})[1]
    except ValueError as error:
        assert "qasper.jsonl line 2" in str(error) and "\n" not in str(error)
        return
    assert isinstance(found["context"], str) and found["context"].strip() and isinstance(found["input"], str)
    assert found["answers"] and all(isinstance(answer, str) and answer.strip() for answer in found["answers"])
    assert found["all_classes"] is None or all(isinstance(name, str) for name in found["all_classes"])
    assert found["dataset"] == "qasper" and isinstance(found["_id"], str)


def test_a_string_of_answers_is_not_taken_letter_by_letter(tmp_path):
    (tmp_path / "qasper.jsonl").write_text(lines({**QASPER, "answers": "Perth"}))
    message = r'qasper.jsonl line 1, qasper record a1, field answers: found "Perth", wanted a list .* \["Perth"\]'
    with pytest.raises(ValueError, match=message):
        longbench_records("qasper", tmp_path)


def test_evaluate_refuses_it_by_one_line_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sdtp_lib.evaluation.longbench.load_with_tokenizer", None)
    (tmp_path / "qasper.jsonl").write_text(lines({**QASPER, "answers": "Perth"}))
    output = tmp_path / "new" / "out.json"
    arguments = ["evaluate", "--tasks", "qasper", "--method", "full", "--data", str(tmp_path), "--output", str(output)]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("sdtp: error: ") and "field answers" in said and said.count("\n") == 1
    assert not output.parent.exists()


@pytest.mark.parametrize("first, second", [("a1", "a1"), (7, "7"), ("1", None)])
def test_two_records_of_one_id_are_refused_by_both_lines(tmp_path, first, second):
    """A run with them ended well and could never be resumed; a record without an id has its number."""
    rows = [{**QASPER, "_id": first}, {**QASPER, "_id": second, "context": "Another."}]
    (tmp_path / "qasper.jsonl").write_text(lines(*rows))
    with pytest.raises(ValueError, match=rf"qasper.jsonl line 2 has the same id '{first}' as .*qasper.jsonl line 1"):
        longbench_records("qasper", tmp_path)


def test_other_kinds_refuse_an_id_that_occurs_twice(tmp_path):
    (tmp_path / "s.jsonl").write_text(lines(HEADER, SAMPLE, {**SAMPLE, "_id": "b"}, SAMPLE))
    with pytest.raises(ValueError, match="s.jsonl line 4 is damaged: .* same id 'qasper a1' as line 2; .* delete"):
        SampleFile(tmp_path / "s.jsonl", {"seed": 0})
    with pytest.raises(ValueError, match="manifest.json is damaged: sample 2 has the same id 's0' as sample 1"):
        read_manifest(tmp_path, {**MANIFEST, "samples": MANIFEST["samples"] * 2})
    (tmp_path / "dataset2prompt.json").write_text('{"qasper": "{context}", "qasper": "{context} {input}"}')
    with pytest.raises(ValueError, match="dataset2prompt.json is damaged: key 'qasper' comes twice"):
        load_templates(tmp_path)


def test_a_record_of_another_dataset_is_refused(tmp_path):
    (tmp_path / "qasper.jsonl").write_text(lines({**QASPER, "dataset": "trec"}))
    with pytest.raises(ValueError, match='qasper.jsonl line 1, .* field dataset: found "trec"'):
        longbench_records("qasper", tmp_path)
    (tmp_path / "qasper.jsonl").write_text(lines({**QASPER, "dataset": "my own"}))
    assert longbench_records("qasper", tmp_path)[0]["dataset"] == "qasper"


@pytest.mark.parametrize("templates, said", [
    ('["{context}"]', "found"), ('{"qasper": 3}', "qasper: found 3"), ('{"qasper": null}', "has no qasper: found null"),
    ('{"qasper": ["{context}"]}', "field qasper"), ('{"qasper": "{input}"}', "wanted text with {context} in it"),
    ('{"qasper": "{ context }"}', "field qasper"), ("", "it is empty"), ('{"qasper": "{context}"', "line|column 23"),
])  # fmt: skip
def test_templates_that_are_none_are_refused(tmp_path, templates, said):
    (tmp_path / "dataset2prompt.json").write_text(templates)
    with pytest.raises(ValueError, match=f"dataset2prompt.json.*({said})"):
        load_templates(tmp_path)


@pytest.mark.parametrize("field, value", [("answers", "Perth"), ("answers", [3]), ("_id", None), ("all_classes", "a")])
def test_records_made_in_python_are_checked_too(field, value, monkeypatch):
    model, tokenizer, good = small_model(), small_tokenizer(), small_records(1)
    monkeypatch.setattr(model, "generate", None)
    bad = [good[0], {**good[1], field: value}]
    with pytest.raises(ValueError, match=f"multidoc_qa record .*{field}"):
        score_records(model, tokenizer, bad)
    with pytest.raises(ValueError, match="record 3 has the same id 'singledoc_qa .*' as record 1"):
        score_records(model, tokenizer, [*good[:2], good[0]])
    twice = {**good[0], "second": {"input": "city", "answers": "Perth"}}
    with pytest.raises(ValueError, match=r"singledoc_qa record .*field second.answers: found \"Perth\""):
        ask_twice(model, tokenizer, [twice])


@pytest.mark.parametrize("change, said", [
    ({"prompt": 3}, "sample 2, field prompt: found 3"), ({"answer": None}, "sample 2 has no answer"),
    ({"prompt": " "}, "sample b has an empty prompt"), ({"id": "a"}, "sample 2 has the same id 'a' as sample 1"),
    ({"id": True}, "sample 2, field id: found true"),
])  # fmt: skip
def test_training_pairs_are_checked(change, said):
    pairs = [{"id": "a", "prompt": "The city", "answer": "Oslo"}, {"id": "b", "prompt": "The city", "answer": "Oslo"}]
    assert len(encode_pairs(pairs, small_tokenizer(), None, 2)) == 2
    with pytest.raises(ValueError, match=said):
        encode_pairs([pairs[0], {**pairs[1], **change}], small_tokenizer(), None, 2)


@pytest.mark.parametrize("found, said", [([], "found"), ({"metadata": {}}, "has no results"),
                                         ({"metadata": {}, "results": {"512": []}}, r"field results.512: found \[\]"),
                                         ({"metadata": 3, "results": {}}, "field metadata: found 3")])  # fmt: skip
def test_a_sweep_is_not_resumed_from_what_is_none(tmp_path, found, said):
    (tmp_path / "l.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=f"cannot resume: .*l.json is no latency file.*{said}.*; delete it to"):
        benchmark._document(tmp_path / "l.json", {"config": "keep09"}, resume=True)


@pytest.mark.parametrize("state, said", [({}, "has no settings and history"), ([], "found"),
                                         ({"settings": [], "history": []}, "settings: found"),
                                         ({"settings": {}, "history": [3]}, "history.0.: found 3")])  # fmt: skip
def test_a_training_is_not_resumed_from_what_is_none(state, said):
    with pytest.raises(ValueError, match=f"c.safetensors.*{said}"):
        records.check(state, records.CHECKPOINT, "c.safetensors")


def test_every_schema_is_valid_and_says_what_it_wants():
    def walk(schema):
        for name, value in schema.items():
            if name in ("properties",):
                assert all("description" in each for each in value.values())
            if isinstance(value, dict):
                walk(value)

    schemas = [value for name, value in vars(records).items() if name.isupper() and isinstance(value, dict)]
    assert len(schemas) > 10
    for schema in schemas:
        records.Draft202012Validator.check_schema(schema)
        walk(schema)
