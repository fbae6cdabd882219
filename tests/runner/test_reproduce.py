"""The notebook runner, on small notebooks in a temporary folder."""

import os
import platform
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from small_notebooks import outputs, small_repository, write_notebook

from sdtp_lib import paths, results
from sdtp_lib.runner import execution, reproduce
from sdtp_lib.runner.execution import NotebookFailed
from sdtp_lib.runner.job import Job


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with two notebooks and a demo profile; the ledger is a list of the profiles it was written for."""
    return tmp_path, small_repository(tmp_path, monkeypatch)


@pytest.fixture
def executed(monkeypatch):
    """Stands in for the kernel: the names of the notebooks that would have run."""
    names = []

    def run(notebook, copy, parameters):
        names.append(notebook.name)
        results.write_text(copy, "{}")

    monkeypatch.setattr(reproduce, "execute", run)
    return names


def test_a_notebook_runs_with_its_parameters_in_its_own_folder(repository):
    root, ledger = repository
    source = root / "notebooks" / "01_trial.ipynb"
    show = "import os\nprint(os.environ['SDTP_RESULTS'], os.environ['HF_HUB_OFFLINE'], os.path.basename(os.getcwd()))"
    write_notebook(source, "factor * 21", show, "import warnings; warnings.warn('careful'); warnings.__file__")
    (root / "notebooks" / "profiles" / "demo" / "01.yaml").write_text("factor: 3\n")
    before, environment = source.read_bytes(), dict(os.environ)
    (copy,) = reproduce.reproduce("demo", only="01")
    text, notebook = outputs(copy), nbformat.read(copy, as_version=4)
    assert copy == root / "results" / "demo" / "notebooks" / "01_trial.ipynb"
    assert "63" in text and "results 1 notebooks" in text and "<cell>:1: UserWarning" in text
    assert ledger == ["demo"]
    assert source.read_bytes() == before and dict(os.environ) == environment
    assert [cell.id for cell in notebook.cells][:3] == ["title", "parameters", "injected-parameters"]
    raw = copy.read_text()
    assert not [
        word for word in ("papermill", str(root), str(Path.home()), "iopub", platform.python_version()) if word in raw
    ]


def test_a_failing_cell_names_the_notebook_and_its_copy(repository):
    root, ledger = repository
    write_notebook(root / "notebooks" / "01_trial.ipynb", "'as far as here'", "1 / 0", "'never'")
    copy = root / "results" / "demo" / "notebooks" / "01_trial.ipynb"
    with pytest.raises(NotebookFailed, match=f"01_trial.ipynb failed: ZeroDivisionError.*{copy}"):
        reproduce.reproduce("demo")
    assert "as far as here" in outputs(copy) and "never" not in outputs(copy)
    assert not copy.with_name("02_trial.ipynb").exists() and not ledger
    assert not list((copy.parent / "manifest").glob("*"))


def test_storing_is_repeatable_and_keeps_pictures_and_counts(repository):
    notebook = repository[0] / "notebooks" / "01_trial.ipynb"
    picture = "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots(figsize=(2, 1))\naxes.plot([1, 2]);"
    write_notebook(notebook, "factor * 21", picture)
    execution.store(notebook)
    stored = notebook.read_bytes()
    cells = nbformat.read(notebook, as_version=4).cells
    assert [cell.execution_count for cell in cells[1:]] == [1, 2, 3]
    assert "image/png" in cells[3].outputs[0].data
    assert [dict(cell.metadata) for cell in cells] == [{}, {"tags": ["parameters"]}, {}, {}]
    execution.store(notebook)
    assert notebook.read_bytes() == stored
    assert sorted(file.name for file in notebook.parent.rglob("*.ipynb")) == ["01_trial.ipynb", "02_trial.ipynb"]


def test_what_stands_above_the_parameters_is_refreshed_alone(repository):
    root = repository[0]
    notebook, held = root / "notebooks" / "01_trial.ipynb", root / "held.txt"
    write_notebook(notebook, f"open({str(held)!r}).read() + ' below'")
    whole = nbformat.read(notebook, as_version=4)
    whole.cells.insert(1, nbformat.v4.new_code_cell(f"open({str(held)!r}).read()", id="above"))
    nbformat.write(whole, notebook)
    held.write_text("old")
    execution.store(notebook)
    held.write_text("new")
    execution.refresh(notebook)
    assert "'new'" in outputs(notebook) and "'old below'" in outputs(notebook)
    cells = nbformat.read(notebook, as_version=4).cells
    assert [cell.execution_count for cell in cells[1:]] == [1, 2, 3]
    assert not list((notebook.parent / ".partial").glob("*"))


def test_storing_a_failing_notebook_leaves_it_alone(repository):
    notebook = repository[0] / "notebooks" / "01_trial.ipynb"
    write_notebook(notebook, "1 / 0")
    before = notebook.read_bytes()
    with pytest.raises(NotebookFailed, match="ZeroDivisionError"):
        execution.store(notebook)
    assert notebook.read_bytes() == before
    assert "ZeroDivisionError" in (notebook.parent / ".partial" / notebook.name).read_text()
    with pytest.raises(FileNotFoundError, match="03_gone"):
        execution.store(notebook.with_name("03_gone.ipynb"))


def test_only_resume_skips_and_only_what_is_unchanged(repository, executed):
    root, ledger = repository
    both = ["01_trial.ipynb", "02_trial.ipynb"]

    def run(**options):
        executed.clear()
        reproduce.reproduce("demo", **options)
        return list(executed)

    assert run() == both
    assert run() == both
    assert run(resume=True) == []
    assert run(only="02") == both[1:]
    assert run(resume=True) == []
    (root / "notebooks" / "profiles" / "demo" / "01.yaml").write_text("factor: 4\n")
    assert run(resume=True) == both[:1]
    write_notebook(root / "notebooks" / "02_trial.ipynb", "factor * 22")
    assert run(resume=True) == both[1:]
    (root / "results" / "demo" / "notebooks" / "01_trial.ipynb").unlink()
    assert run(resume=True) == both[:1]
    assert len(ledger) == 8


def test_another_library_runs_a_notebook_again(repository, monkeypatch, tmp_path):
    notebook = repository[0] / "notebooks" / "01_trial.ipynb"
    job = Job(notebook, {"factor": 2}, tmp_path / "copy.ipynb", "demo")
    before = job.digest()
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "module.py").write_text("changed = True\n")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "library")
    assert job.digest() != before


@pytest.mark.parametrize(
    "profile, only, yaml, error, words",
    [
        ("large", None, "", ValueError, "unknown profile 'large'; known: demo, paper"),
        ("demo", "09", "", ValueError, "unknown notebook '09'; known: 01, 02"),
        ("paper", "01", "", FileNotFoundError, "profile 'paper' has no 01.yaml for 01_trial.ipynb"),
        ("paper", None, "", FileNotFoundError, "profile 'paper' has no file for any notebook, such as 01.yaml"),
        ("demo", None, "facto: 3", ValueError, "01_trial.ipynb has no parameter 'facto', which demo/01.yaml sets"),
        ("demo", None, "factor: {a: 1}", ValueError, "demo/01.yaml must be a flat list"),
        ("demo", None, "- factor", ValueError, "demo/01.yaml must be a flat list"),
        ("demo", None, "factor: [1", ValueError, "demo/01.yaml is no YAML"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(repository, executed, profile, only, yaml, error, words):
    root, ledger = repository
    (root / "notebooks" / "profiles" / "demo" / "01.yaml").write_text(yaml)
    with pytest.raises(error, match=words):
        reproduce.reproduce(profile, only)
    assert not executed and not ledger and not (root / "results").exists()


def test_a_profile_may_be_about_some_notebooks_alone(repository, executed):
    root, _ = repository
    (root / "notebooks" / "profiles" / "demo" / "02.yaml").unlink()
    assert [path.name[:2] for path in reproduce.reproduce("demo")] == ["01"]


def test_a_copy_of_the_package_without_notebooks_says_so(repository):
    for notebook in paths.NOTEBOOKS.glob("*.ipynb"):
        notebook.unlink()
    with pytest.raises(FileNotFoundError, match="no notebooks in"):
        reproduce.reproduce("demo")


def test_pictures_are_not_searched_for_folders():
    data = {"image/png": str(paths.ROOT), "text/plain": f"{paths.ROOT}/sdtp_lib and {paths.ROOT}-else"}
    output = nbformat.v4.new_output("display_data", data=data)
    notebook = new_notebook(cells=[new_code_cell("", outputs=[output])])
    data = execution.clean(notebook).cells[0].outputs[0].data
    assert data == {"image/png": str(paths.ROOT), "text/plain": f"./sdtp_lib and {paths.ROOT}-else"}
