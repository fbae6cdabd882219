"""Text that comes in: encodings, line ends and pipes for every reader, and outputs that are inputs."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
from data.test_records import DOLLY, HEADER, MANIFEST, QASPER, SAMPLE
from result_files import latency_document

from sdtp_lib import cli, paths, results
from sdtp_lib.data.corpora import longbench_records, read_jsonl
from sdtp_lib.data.pairs import read_pairs
from sdtp_lib.evaluation.prompts import load_templates
from sdtp_lib.evaluation.sample_files import SampleFile
from sdtp_lib.explorer import command as explore
from sdtp_lib.latency.files import read_latency
from sdtp_lib.scorers.files import CONFIG_FILE
from sdtp_lib.scorers.files import _read_config as read_pruner_config
from sdtp_lib.text_files import check_apart, read_json, read_text
from sdtp_lib.training import marks, saliency

TWO = {**QASPER, "_id": "b2", "input": "Wo, Z\u00fcrich?\u2028\u0085"}  # no line ends in JSON Lines


def text_of(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def document(value):
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


READERS = {  # reader -> (file's name, its text, what reads the folder)
    "prompt": ("p.txt", "The city,\nZ\u00fcrich\n", lambda folder: explore.read_prompt(folder / "p.txt")),
    "longbench": ("qasper.jsonl", text_of(QASPER, TWO), lambda folder: longbench_records("qasper", folder)),
    "dolly": ("d.jsonl", text_of(DOLLY, {**DOLLY, "response": "Z\u00fcrich"}), read_pairs),
    "lines": ("l.jsonl", text_of({"a": "\u00fc"}, {"a": 2}), lambda folder: list(read_jsonl(folder / "l.jsonl"))),
    "samples": ("s.jsonl", text_of(HEADER, SAMPLE), lambda folder: SampleFile(folder / "s.jsonl", {"seed": 0}).samples),
    "templates": ("dataset2prompt.json", document({"qasper": "{context} \u00fc", "trec": "{context}"}), load_templates),
    "marks": (marks.MANIFEST_FILE, document(MANIFEST), marks._read_manifest),
    "latency": ("l.json", document(latency_document("keep09")),
                lambda folder: read_latency(folder / "l.json", ["keep09"], "prefill")),
    "results": ("r.json", document({"data": ["\u00fc"]}), lambda folder: results.read_json(folder / "r.json")),
    "pruner": (CONFIG_FILE, (paths.DEMO_PRUNER / CONFIG_FILE).read_text(),
               lambda folder: read_pruner_config(folder / CONFIG_FILE)),
}  # fmt: skip


ENDS = {"unix": "\n", "windows": "\r\n", "mac": "\r"}
# A sample file's last whole line ends with a line feed: what follows was torn by a kill.
READ = [(reader, ends) for reader in READERS for ends in ENDS if (reader, ends) != ("samples", "mac")]


@pytest.mark.parametrize("reader, ends", READ)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "mark"])
def test_marks_and_line_ends_are_no_part_of_what_is_read(tmp_path, reader, ends, mark):
    name, text, read = READERS[reader]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / name).write_bytes(text.encode())
    (tmp_path / name).write_bytes(mark + text.replace("\n", ENDS[ends]).encode())
    expected = read(tmp_path / "plain")
    assert read(tmp_path) == expected
    assert "\r" not in str(expected) and "\ufeff" not in str(expected)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("encoding, said", [
    ("utf-16", "UTF-16"), ("utf-16-le", "null byte"), ("utf-16-be", "null byte"), ("latin-1", "no UTF-8 text"),
    ("utf-32", "UTF-16|null byte"),
])  # fmt: skip
def test_other_encodings_are_refused_by_file_and_remedy(tmp_path, reader, encoding, said):
    name, text, read = READERS[reader]
    text = text.replace("a", "\u00fc", 1)  # not all texts have a letter beyond ASCII
    (tmp_path / name).write_bytes(text.encode(encoding, errors="ignore"))
    with pytest.raises(ValueError, match=said) as caught:
        read(tmp_path)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert "UTF-8" in str(caught.value) or "delete" in str(caught.value)


TORN = [reader for reader in READERS if reader not in ("prompt", "samples")]


@pytest.mark.parametrize("reader", TORN)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.97])
def test_a_file_that_was_cut_names_itself_and_the_remedy(tmp_path, reader, part):
    name, text, read = READERS[reader]
    content = text.rstrip("\n").encode()
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    if reader == "lines" and not part:
        assert read(tmp_path) == []
        return
    with pytest.raises(ValueError) as caught:
        read(tmp_path)
    said = str(caught.value)
    assert (name in said or str(tmp_path) in said) and "\n" not in said
    assert any(word in said for word in ("again", "holds no", "save it as UTF-8"))


@pytest.mark.parametrize("reader", READERS)
def test_bytes_that_are_no_text_are_refused_by_name(tmp_path, reader):
    name, _, read = READERS[reader]
    (tmp_path / name).write_bytes(bytes(range(256)) + b"\n")
    with pytest.raises(ValueError, match=name):
        read(tmp_path)


def test_a_torn_line_is_named_with_its_place(tmp_path):
    (tmp_path / "qasper.jsonl").write_text(text_of(QASPER) + text_of(QASPER)[:40])
    with pytest.raises(ValueError, match=r"qasper.jsonl line 2 is not a JSON object: no JSON at column \d+"):
        longbench_records("qasper", tmp_path)
    (tmp_path / "a.json").write_text('{\n "a": 1,\n "b": \n')
    with pytest.raises(ValueError, match="a.json is damaged: no JSON at line 4 column 1"):
        read_json(tmp_path / "a.json")
    for text, said in (('[{"_id": 1}]', r'but \[\{"_id": 1\}\]'), ("{" * 10**5, "no JSON"), ("[" * 10**5, "too deep"),
                       ('{"a": "\\ud800"}', "half a character"), ('{"a": 1, "a": 2}', "'a' comes twice")):  # fmt: skip
        (tmp_path / "qasper.jsonl").write_text(text)
        with pytest.raises(ValueError, match=f"qasper.jsonl line 1 .*{said}"):
            longbench_records("qasper", tmp_path)


def test_files_put_together_keep_no_marks(tmp_path):
    one = b"\xef\xbb\xbf" + text_of(QASPER).encode()
    (tmp_path / "qasper.jsonl").write_bytes(one + b"\xef\xbb\xbf" + text_of(TWO).encode())
    assert [row["_id"] for row in longbench_records("qasper", tmp_path)] == ["a1", "b2"]


def test_samples_saved_by_an_editor_of_windows_are_added_to(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + text_of(HEADER, SAMPLE).replace("\n", "\r\n").encode())
    file = SampleFile(path, {"seed": 0})
    file.write([{**SAMPLE, "_id": "b2"}], [[1, 2]])
    assert {key for key in SampleFile(path, {"seed": 0}).samples} == {("qasper", "a1"), ("qasper", "b2")}


def test_a_prompt_may_be_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfThe city\r\nof Anna\r\n")))
    assert explore.read_prompt("-") == "The city\nof Anna"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfeT\0")))
    with pytest.raises(ValueError, match="prompt file from standard input is no UTF-8 text but UTF-16"):
        explore.read_prompt("-")


def test_a_prompt_or_data_may_be_a_named_pipe(tmp_path):
    for text, read in (("The city\n", explore.read_prompt), (text_of(DOLLY), read_pairs),
                       (text_of(QASPER, TWO), lambda pipe: longbench_records("qasper", pipe))):  # fmt: skip
        pipe, plain = tmp_path / "pipe", tmp_path / "plain"
        os.mkfifo(pipe)
        plain.write_text(text)
        writer = threading.Thread(target=pipe.write_text, args=(text,), daemon=True)
        writer.start()
        assert read(pipe) == read(plain)
        writer.join(timeout=10)
        pipe.unlink()


@pytest.mark.parametrize("prompt", ["-", "/dev/stdin", "<(printf 'The city\\r\\n')"])
def test_a_shell_hands_over_prompts_in_its_own_ways(prompt):
    code = "import sys; from sdtp_lib.text_files import read_text; print(repr(read_text(sys.argv[1])))"
    command = f"printf 'The city\\r\\n' | {sys.executable} -c '{code}' {prompt}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout == "'The city\\n'\n", done.stderr


def test_a_folder_is_no_prompt_and_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"prompt file {tmp_path} is a folder"):
        explore.read_prompt(tmp_path)
    with pytest.raises(FileNotFoundError, match="file .*gone.txt does not exist"):
        read_text(tmp_path / "gone.txt")


@pytest.fixture(params=["itself", "symlink", "hard link", "another way"])
def alias(request, tmp_path):
    """Gives a file or folder another name of the kind."""

    def make(path):
        other = tmp_path / "alias"
        if request.param == "hard link" and path.is_file():
            other.hardlink_to(path)
        elif request.param in ("symlink", "hard link"):
            other.symlink_to(path)
        else:
            return path if request.param == "itself" else path.parent / ".." / path.parent.name / path.name
        return other

    return make


@pytest.fixture
def no_work(monkeypatch):
    def work(*arguments, **options):
        raise AssertionError("work began before the refusal")

    monkeypatch.setattr(explore, "load_with_tokenizer", work)
    monkeypatch.setattr("sdtp_lib.explorer.demo.load_with_tokenizer", work)
    monkeypatch.setattr(saliency, "load_model", work)
    monkeypatch.setattr("sdtp_lib.training.trainer.load_marks", work)
    monkeypatch.setattr("sdtp_lib.evaluation.longbench.load_with_tokenizer", work)


def refused(capsys, arguments, output, given):
    """Whether a command refuses its output by one line."""
    assert cli.main([str(part) for part in arguments]) == 2
    said = capsys.readouterr().err
    return said == f"sdtp: error: output {output} is the input {given} as well; name another output\n"


def test_an_output_that_is_an_input_is_refused_by_every_command(tmp_path, alias, no_work, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    files = {"p.txt": "The city\n", "qasper.jsonl": text_of(QASPER), "dataset2prompt.json": '{"qasper": "{context}"}',
             "d.jsonl": text_of(DOLLY), "l.json": document(latency_document("keep09"))}  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
    model, held = tmp_path / "model", {name: (folder / name).read_bytes() for name in files}
    shutil.copytree(paths.DEMO_CHECKPOINT, model)
    prompt, data, template, pairs, times = (folder / name for name in files)

    def check(given, arguments, output=None):
        output = output or alias(given)
        assert refused(capsys, [*arguments, "--output", output], output, given), arguments
        (tmp_path / "alias").unlink(missing_ok=True)

    check(prompt, ["explore", "--prompt-file", prompt])
    check(prompt, ["demo", "--prompt-file", prompt])
    evaluate = ["evaluate", "--tasks", "qasper", "--method", "full", "--data"]
    check(data, [*evaluate, data])
    check(data, [*evaluate, folder])
    check(template, [*evaluate, folder])
    check(pairs, ["mark", "--data", pairs])
    check(folder, ["mark", "--data", folder])
    check(model, ["mark", "--model", model])
    check(folder, ["train", "--marks", folder])
    check(model, ["train", "--marks", folder, "--model", model])
    report = ["report", "--mode", "prefill", "--baseline", "a", "--sdtp09", times, "--sdtp08", "b", "--sdtp07", "c"]
    check(times, report)
    (tmp_path / "points").mkdir()
    point = shutil.copy(times, tmp_path / "points")
    check(tmp_path / "points" / "l.json", ["report", "--points", tmp_path / "points"])
    assert held == {name: (folder / name).read_bytes() for name in files} and os.path.getsize(point)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "model", "points"}


def test_samples_that_are_the_data_are_not_written_over(tmp_path, no_work, capsys):
    """`<stem>.samples.jsonl` is written beside the output, and deleted before that."""
    data = tmp_path / "x.samples.jsonl"
    data.write_text(text_of(QASPER))
    arguments = ["evaluate", "--tasks", "qasper", "--method", "full", "--data", data, "--output", tmp_path / "x.json"]
    assert refused(capsys, arguments, data, data) and data.read_text() == text_of(QASPER)


def test_a_page_does_not_take_the_place_of_what_it_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    results.write_json(tmp_path / "demo" / "table1_longbench.json", {"metadata": {}, "data": {}})
    file = tmp_path / "demo" / "table1_longbench.json"
    before = file.read_bytes()
    assert refused(capsys, ["report", "--html", file], file, file) and file.read_bytes() == before


def test_standard_input_is_an_input_too(tmp_path):
    code = "from sdtp_lib.text_files import check_apart; check_apart('p.txt', '-')"
    (tmp_path / "p.txt").write_text("The city")
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT)}
    with open(tmp_path / "p.txt") as prompt:
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdin=prompt, capture_output=True, text=True,
                              env=environment)  # fmt: skip
    assert "output p.txt is the input /dev/stdin as well" in done.stderr


def test_another_output_is_no_input(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("a")
    check_apart(tmp_path / "b", tmp_path / "a", None, tmp_path / "gone", "demo", "-")
    check_apart(tmp_path / "new", tmp_path / "a")
    check_apart(None, tmp_path / "a")
