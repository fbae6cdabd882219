"""What a stored notebook must look like: names, parameters, short cells, tags, and a complete execution."""

import ast
import json
import re
from itertools import pairwise, takewhile
from pathlib import Path

import nbformat
import pytest
import yaml

from sdtp_lib import paths
from sdtp_lib.runner.profiles import runs

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
PROFILES = sorted(folder.name for folder in paths.PROFILES.iterdir())
COMPLETE = ("demo", "paper")  # profiles of every notebook; the others time alone
TAGS = {"parameters", "nbval-ignore-output", "nbval-skip", "skip-execution"}
LONGEST_CELL, LONGEST_DEF, MOST_PARAMETERS = 15, 3, 22
HEADER = {
    "a title": r"^# \S",
    "the figure or table": r"Fig\.|Figure|Table",
    "the section of the paper": r"[Ss]ection",
    "what it writes": r"[Ww]rites",
    "how long it takes": r"\d+ ?(s|seconds?|minutes?)\b",
    "on which machine": r"CPU|GPU|cores",
}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def parameters_cell(path):
    (found,) = [cell for cell in code_cells(path) if "parameters" in tags(cell)]
    return found


def tags(cell):
    return set(cell.metadata.get("tags", []))


def tree(cell):
    """The cell's syntax; magics are IPython's own."""
    return ast.parse(re.sub(r"(?m)^\s*[%!].*$", "pass", cell.source))


def parameters(path):
    """name -> default, of the parameters cell; every line of it is a plain `name = literal  # comment`."""
    found = {}
    lines = parameters_cell(path).source.splitlines()
    for line in filter(None, lines):
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name), line
        found[statement.targets[0].id] = ast.literal_eval(statement.value)
        assert line[statement.end_col_offset :].strip().startswith("# "), f"no comment: {line}"
    return found


def test_all_notebooks_are_there_once_one_is():
    assert {path.name[:2] for path in NOTEBOOKS} in (set(), {f"{n:02}" for n in range(1, 13)})


@every_notebook
def test_name_and_header(path):
    assert re.fullmatch(r"\d\d_[a-z0-9]+(_[a-z0-9]+)*\.ipynb", path.name)
    header = read(path).cells[0]
    assert header.cell_type == "markdown"
    assert [what for what, pattern in HEADER.items() if not re.search(pattern, header.source)] == []


@every_notebook
def test_parameters_are_plain_literals(path):
    found = parameters(path)
    assert found and json.loads(json.dumps(found)) == found, "only JSON types survive papermill"


@every_notebook
def test_what_came_out_stands_before_how(path):
    """From stored files alone: no model is loaded and nothing is measured above the parameters."""
    before = list(takewhile(lambda cell: "parameters" not in tags(cell), code_cells(path)))
    assert before and all(cell.outputs for cell in before), "what was found here, as the repository stores it"
    assert any("stored" in cell.source or "came_out(" in cell.source for cell in before)
    assert not [cell.source for cell in before if "nbval-ignore-output" in tags(cell) or "load_model" in cell.source]


@every_notebook
def test_prose_is_not_about_the_tests(path):
    told = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    assert not [text for text in told if re.search(r"\btests?\b|compared by|leave[s]? alone", text)]


@every_notebook
def test_cells_are_short_and_hold_no_logic(path):
    for cell in code_cells(path):
        most = MOST_PARAMETERS if "parameters" in tags(cell) else LONGEST_CELL
        assert len(cell.source.splitlines()) <= most, cell.source
        for node in ast.walk(tree(cell)):
            assert not isinstance(node, ast.ClassDef), cell.source
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < LONGEST_DEF, cell.source


@every_notebook
def test_no_semicolon_hides_an_output(path):
    """nbval runs cells outside the history, where IPython does not see the semicolon, and finds one output too many."""
    assert not [cell.source for cell in code_cells(path) if cell.source.rstrip().endswith(";")]


@every_notebook
def test_prose_stands_around_the_code(path):
    kinds = [(cell.cell_type, tags(cell)) for cell in read(path).cells]
    for (kind, _), (following, its_tags) in pairwise(kinds):
        if "nbval-ignore-output" in its_tags:
            assert kind == "markdown" and following == "code", "say in prose what is asked of what every run finds anew"
    assert kinds[-1][0] == "markdown", "say at the end what was seen"


@every_notebook
def test_tags_are_known_and_skips_go_together(path):
    for cell in read(path).cells:
        assert tags(cell) <= TAGS, tags(cell) - TAGS
        assert ("nbval-skip" in tags(cell)) == ("skip-execution" in tags(cell)), cell.source


@every_notebook
def test_stored_executed_in_order(path):
    ran = [cell for cell in code_cells(path) if "skip-execution" not in tags(cell)]
    assert [cell.execution_count for cell in ran] == list(range(1, len(ran) + 1))
    results = [output for cell in ran for output in cell.outputs]
    assert not [output for output in results if output.output_type == "error" or output.get("name") == "stderr"]
    shown = {kind for output in results for kind in output.get("data", {})}
    assert not [kind for kind in shown if "widget" in kind]
    assert "image/png" in shown, "every notebook shows a picture"


@every_notebook
def test_no_table_is_stored_empty(path):
    shown = [(cell.id, out.data["text/markdown"]) for cell in code_cells(path) for out in cell.outputs
             if "text/markdown" in out.get("data", {})]  # fmt: skip
    assert [id for id, text in shown if not "".join(text).strip()] == []


@every_notebook
def test_stored_the_same_on_every_machine(path):
    notebook = read(path)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.get("language_info", {})
    assert not {"papermill", "widgets"} & notebook.metadata.keys()
    assert not [cell for cell in notebook.cells if {"papermill", "execution"} & cell.metadata.keys()]
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert not [id for id in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", id)], "give cells readable ids"
    texts = json.dumps([{**cell, "outputs": [without_pictures(output) for output in cell.get("outputs", [])]}
                        for cell in notebook.cells])  # fmt: skip
    assert not [folder for folder in (str(paths.ROOT), str(Path.home()), "/tmp/") if folder in texts]


def without_pictures(output):
    """Base64 may look like any path."""
    return {**output, "data": {kind: data for kind, data in output.get("data", {}).items() if "image" not in kind}}


@every_notebook
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_sets_parameters_that_exist(path, profile):
    file = paths.PROFILES / profile / f"{path.name[:2]}.yaml"
    if profile not in COMPLETE and not file.is_file():
        pytest.skip(f"profile {profile} is about other notebooks")
    values = yaml.safe_load(file.read_text()) or {}
    assert values.keys() <= parameters(path).keys()
    assert all(run.keys() <= parameters(path).keys() for run in runs(path, profile).values())
    assert values["profile"] == profile


@every_notebook
def test_the_readme_names_it(path):
    assert path.name in (paths.ROOT / "README.md").read_text()


def test_no_sanitize_rule_is_dropped():
    """nbval skips, without a word, a rule with no replacement or one not on the line below."""
    text = (paths.ROOT / "tests" / "nbval_sanitize.cfg").read_text()
    read_by_nbval = re.findall(r"^regex: (.*)$\n^replace: (.*)$", text, flags=re.MULTILINE)
    assert len(read_by_nbval) == len(re.findall(r"(?m)^regex", text)) == len(re.findall(r"(?m)^replace", text)) > 0
    assert all(re.compile(regex) and replace.strip() for regex, replace in read_by_nbval)
