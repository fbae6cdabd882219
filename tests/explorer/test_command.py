"""`sdtp explore`: one prompt in, one page out, and a refusal before anything is run."""

import pytest

from sdtp_lib import cli, paths
from sdtp_lib.explorer import command as explore
from sdtp_lib.models import load_model
from sdtp_lib.models.dtypes import resolve_dtype


@pytest.fixture
def prompt(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("The old <b>coat</b> of Paul. " * 9 + "The neighbour of Paul is Clara.\nAnswer: it is\n")
    return file


@pytest.fixture
def no_model(monkeypatch):
    def load(*arguments):
        raise AssertionError("a model was loaded before the refusal")

    monkeypatch.setattr(explore, "load_with_tokenizer", load)


def test_a_page_is_written_for_the_demo(prompt, tmp_path, capsys):
    output = tmp_path / "new" / "page.html"
    arguments = f"explore --prompt-file {prompt} --compare attention --new-tokens 3 --output {output}".split()
    assert cli.main(arguments) == 0
    html = output.read_text()
    assert "&lt;</span>" in html and "<b>" not in html and "schedule keep07" in html and "Pruned by attention" in html
    assert str(tmp_path) not in html
    what, found = capsys.readouterr().out.splitlines()
    assert what.startswith(f"demo in {resolve_dtype('auto')} on ")
    assert found == f"{output}: 14 layers, 148 tokens, 20 of them at the last layer"


@pytest.mark.parametrize(
    "change, word",
    [
        ({"prompt_file": "missing.txt"}, "missing.txt does not exist"),
        ({"schedule": "keep06"}, "keep06"),
        ({"compare": "nothing"}, "nothing"),
        ({"compare": "full"}, "full"),
        ({"pruner": "missing"}, "missing does not exist"),
        ({"answer": " "}, "answer is empty"),
        ({"new_tokens": 0}, "new_tokens"),
        ({"output": "."}, "is a folder"),
    ],
)
def test_bad_input_is_refused_before_a_model_is_loaded(prompt, tmp_path, monkeypatch, no_model, change, word):
    monkeypatch.chdir(tmp_path)
    options = {"prompt_file": prompt, "output": "page.html"} | change
    with pytest.raises((ValueError, OSError), match=word):
        explore.explore(**options)
    assert [file.name for file in tmp_path.iterdir()] == ["prompt.txt"]


@pytest.mark.parametrize("content, word", [(b" \n", "is empty"), (b"\xff\xfe", "no UTF-8")])
def test_a_file_that_is_no_prompt_is_refused(tmp_path, no_model, content, word):
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(ValueError, match=word):
        explore.explore(tmp_path / "p.txt", tmp_path / "page.html")


def test_one_line_end_at_the_end_is_the_editors(tmp_path):
    (tmp_path / "p.txt").write_text("a\n\n")
    assert explore.read_prompt(tmp_path / "p.txt") == "a\n"


def test_the_demo_has_a_question_aware_pruner_another_model_says_it_has_none_and_a_folder_names_one():
    model, _ = load_model("demo", dtype="float32")
    schedule = explore.resolve_schedule("keep07", model)
    assert explore.second_scorer("question_aware", model, schedule)[1].kind == "question_aware"
    model.name_or_path = "another"
    with pytest.raises(ValueError, match="'another' comes with no question-aware pruner"):
        explore.second_scorer("question_aware", model, schedule)
    name, pruner = explore.second_scorer(paths.DEMO_PRUNER, model, schedule)
    assert name == "pruner" and set(schedule.layers) <= set(pruner.layers)
