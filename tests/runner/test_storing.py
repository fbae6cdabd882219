"""Running leaves the tree as it was; storing renews it, from a clean tree alone, and says what made each file."""

import os
import shutil
import subprocess
import sys

import pytest
from small_notebooks import small_repository, write_notebook

from sdtp_lib import cli, paths, results
from sdtp_lib.latency import sweep_points
from sdtp_lib.models import code_version
from sdtp_lib.runner import reproduce, storing
from sdtp_lib.runner.profiles import plan
from sdtp_lib.runner.storing import MARKER

TABLE = """
from sdtp_lib import paths, results
from sdtp_lib.models import provenance
document = {"metadata": provenance.metadata(profile=profile, model="none"), "data": factor}
results.write_json(paths.results(profile) / "NAME.json", document)
results.write_text(paths.results(profile) / "training" / "weights", "large")
results.write_bytes(paths.figures(profile) / "NAME.png", bytes(factor))
"""


def git(*arguments):
    return code_version.git("-c", "user.name=a", "-c", "user.email=a@b", *arguments)


STORED = ("results/demo/table01.json", "results/demo/older.json", "figures/demo/older.png", "results/paper/a.md")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git checkout with two notebooks, each of which makes a table and a picture, and some that are stored."""
    small_repository(tmp_path, monkeypatch)
    for variable in paths.MOVED.values():
        monkeypatch.delenv(variable)
    for name in ("pyproject.toml", ".gitignore"):
        shutil.copy(paths.ROOT / name, tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for number in ("01", "02"):
        write_notebook(tmp_path / "notebooks" / f"{number}_trial.ipynb", TABLE.replace("NAME", f"table{number}"))
    for name in STORED:
        results.write_text(tmp_path / name, "{}")

    def write_ledger(profile, stored=False):
        results.write_text(paths.stored(paths.RESULTS) / paths.LEDGER if stored else paths.ledger(profile), "ledger")

    monkeypatch.setattr("sdtp_lib.ledger.ledger.write_ledger", write_ledger)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit("all")
    return tmp_path


def commit(message):
    git("add", ".")
    git("commit", "-q", "-m", message)


@pytest.fixture
def quick(monkeypatch):
    """Notebooks run in this process; returns the numbers of those that ran, and of those that are to fail."""
    ran, failing = [], set()

    def run(notebook, copy, parameters):
        ran.append(notebook.name[:2])
        if notebook.name[:2] in failing:
            raise reproduce.NotebookFailed(f"notebook {notebook.name} failed: no luck")
        exec(TABLE.replace("NAME", f"table{notebook.name[:2]}"), {"profile": "demo", "factor": 2})
        results.write_text(copy, "{}")

    monkeypatch.setattr(reproduce, "execute", run)
    return ran, failing


def stored_files(root):
    return {name: (root / name).read_bytes() for name in git("ls-files").splitlines() if (root / name).exists()}


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--jobs", "2"]])
def test_a_run_in_a_fresh_clone_changes_nothing_and_records_the_code(repository, options):
    shutil.copytree(paths.PACKAGE, repository / "sdtp_lib")
    commit("the library")
    before = stored_files(repository)
    command = [sys.executable, "-m", "sdtp_lib.cli", "reproduce", *options]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert git("status", "--porcelain") == "" and stored_files(repository) == before
    (said,) = done.stdout.splitlines()
    assert said.startswith("runs/demo/REPRODUCTION.md says") and "runs/demo/results" in said
    assert "not run" in paths.ledger("demo").read_text()
    found = [results.read_json(paths.results("demo") / f"table{number}.json")["metadata"] for number in ("01", "02")]
    for made, job in zip(found, plan("demo"), strict=True):
        assert made["commit"] == git("rev-parse", "HEAD") and made["modified"] is False
        assert made["code_digest"] == code_version.code_digest() and made["notebook_digest"] == job.notebook_digest()


def test_storing_copies_what_was_made_and_removes_what_is_made_no_more(repository, quick):
    results.write_text(paths.results("demo") / "stale.json", "{}")  # of an earlier run, of whichever code
    reproduce.reproduce("demo", store=True)
    now = set(git("ls-files", "--others", "--cached", "--exclude-standard").splitlines()) & {*_files(repository)}
    assert {name for name in now if name.startswith(("results", "figures"))} == {
        "results/demo/table01.json", "results/demo/table02.json", "results/paper/a.md", "results/REPRODUCTION.md",
        "figures/demo/table01.png", "figures/demo/table02.png",
    }  # fmt: skip
    assert not (repository / "results/demo/training").exists() and not (repository / "runs/demo" / MARKER).exists()
    made = results.read_json(repository / "results/demo/table02.json")["metadata"]
    assert made["commit"] == git("rev-parse", "HEAD") and made["modified"] is False
    assert len(made["code_digest"]) == len(made["notebook_digest"]) == 64


def _files(root):
    return [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]


def test_storing_all_leaves_alone_what_no_notebook_made(repository, quick):
    about = {"metadata": {"code_digest": "a", "commit": "b"}, "data": 1}  # as a command records it
    results.write_json(repository / "results/demo/methods.json", about)
    kept = ["results/demo/methods.md", "results/demo/methods_samples.jsonl.gz", "figures/demo/methods.png"]
    gone = ["results/demo/methodical.md", "results/demo/old.json"]
    for name in (*kept, *gone):
        results.write_text(repository / name, "{}")
    about["metadata"]["notebook_digest"] = "c"
    results.write_json(repository / "results/demo/old.json", about)
    commit("made by hand")
    reproduce.reproduce("demo", store=True)
    assert all((repository / name).exists() for name in (*kept, "results/demo/methods.json"))
    assert not any((repository / name).exists() for name in (*gone, "results/demo/older.json"))


def test_what_was_stored_by_hand_would_stay():
    """A whole store of the profile would remove files that do not say that no notebook made them."""
    for stem in ("evidence", "methods"):
        assert storing._is_made_otherwise(paths.stored(paths.RESULTS, "smollm2") / f"{stem}.json"), stem


def test_storing_one_notebook_leaves_the_others_alone(repository, quick):
    reproduce.reproduce("demo")
    before = stored_files(repository)
    reproduce.reproduce("demo", only="02", store=True)
    changed = {line[3:] for line in git("status", "--porcelain", "-uall").splitlines()}
    assert changed == {"results/demo/table02.json", "figures/demo/table02.png", "results/REPRODUCTION.md"}
    assert before.items() <= stored_files(repository).items()


@pytest.mark.parametrize("name", ["notebooks/01_trial.ipynb", "new file"])
def test_a_modified_tree_is_refused(repository, quick, capsys, name):
    (repository / name).write_text("changed")
    if name.endswith("ipynb"):
        write_notebook(repository / name, "changed")
    assert cli.main(["reproduce", "--store"]) == 2
    said = capsys.readouterr().err
    assert "without changes" in said and name in said and said.count("\n") == 1
    assert not quick[0] and not (repository / "runs").exists()


@pytest.mark.parametrize("case, words", [("no checkout", "is no git checkout"), ("moved", "unset SDTP_RESULTS"),
                                         ("shard", "takes no --shard"), ("resume", "no unfinished store")])  # fmt: skip
def test_other_bad_stores_are_refused(repository, quick, capsys, monkeypatch, case, words):
    if case == "no checkout":
        (repository / ".git").rename(repository / "git")
    if case == "moved":
        monkeypatch.setenv("SDTP_RESULTS", str(repository / "runs"))
    options = {"shard": ["--shard", "1/2"], "resume": ["--resume"]}.get(case, [])
    assert cli.main(["reproduce", "--store", *options]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not quick[0] and not (repository / "runs").exists()


def test_a_failed_store_stores_nothing_and_goes_on_as_the_message_says(repository, quick, capsys):
    ran, failing = quick
    failing.add("02")
    before = stored_files(repository)
    assert cli.main(["reproduce", "--profile", "demo", "--store"]) == 1
    said, _, again = capsys.readouterr().err.strip().splitlines()[-1].partition("; to go on: ")
    assert "02_trial.ipynb failed" in said and again == "sdtp reproduce --profile demo --store --resume"
    assert git("status", "--porcelain") == "" and stored_files(repository) == before
    failing.clear()
    assert cli.main(again.split()[1:]) == 0 and ran == ["01", "02", "02"]
    assert (repository / "results/demo/table01.json").read_bytes() != before["results/demo/table01.json"]
    assert (repository / "figures/demo/table02.png").is_file()


@pytest.mark.parametrize("how", ["left", "undone", "committed"])
def test_code_that_changed_while_it_ran_is_not_stored(repository, quick, monkeypatch, capsys, how):
    """Its results would carry the commit of the start."""
    ran, _ = quick
    other, real = repository / "notebooks" / "02_trial.ipynb", reproduce.execute
    before = other.read_bytes()

    def edited(notebook, copy, parameters):
        if notebook.name == "01_trial.ipynb":
            write_notebook(other, "another")
        real(notebook, copy, parameters)
        if notebook == other and how == "undone":
            other.write_bytes(before)
        if notebook == other and how == "committed":
            commit("another")

    monkeypatch.setattr(reproduce, "execute", edited)
    assert cli.main(["reproduce", "--store"]) == 1
    words = {"left": "undo (not commit)", "undone": "code changed while 02_trial", "committed": "to another commit"}
    assert words[how] in capsys.readouterr().err and not (repository / "figures/demo/table02.png").exists()
    if how == "undone":
        monkeypatch.setattr(reproduce, "execute", real)
        assert cli.main(["reproduce", "--store", "--resume"]) == 0 and ran == ["01", "02", "02"]


def test_a_store_goes_on_with_its_own_model_alone(repository, quick):
    quick[1].add("02")
    with pytest.raises(reproduce.NotebookFailed):
        reproduce.reproduce("demo", store=True, model="owner/one")
    with pytest.raises(ValueError, match="cannot resume: model was 'owner/one' and is now None"):
        reproduce.reproduce("demo", store=True, resume=True)


@pytest.mark.parametrize("between", ["a commit", "a run"])
def test_a_store_goes_on_at_its_own_commit_and_with_its_own_files_alone(repository, quick, between):
    ran, failing = quick
    failing.add("02")
    with pytest.raises(reproduce.NotebookFailed):
        reproduce.reproduce("demo", store=True)
    if between == "a run":
        reproduce.reproduce("demo", only="01")
    else:
        (repository / "more").touch()
        commit("more")
    with pytest.raises(ValueError, match="no unfinished store|cannot resume: commit was"):
        reproduce.reproduce("demo", store=True, resume=True)


@pytest.mark.parametrize("error, word, status", [(KeyboardInterrupt, "interrupted", 130), (None, "terminated", 143)])
def test_a_stopped_run_names_the_command_that_goes_on(repository, monkeypatch, capsys, error, word, status):
    def stop(*_):
        from sdtp_lib.errors import Terminated

        raise error or Terminated

    monkeypatch.setattr(reproduce, "execute", stop)
    assert cli.main(["reproduce", "--profile", "demo"]) == status
    line = f"sdtp: {word}; to go on: sdtp reproduce --profile demo --resume"
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith(line)


def test_the_table_of_points_is_made_of_all_that_are_stored(repository, quick, monkeypatch):
    def write_points(folder, table):
        results.write_text(table, " ".join(sorted(file.name for file in folder.glob("*.json"))))

    monkeypatch.setattr(sweep_points, "write_points", write_points)
    results.write_text(repository / "results/demo/points/a.json", "{}")
    commit("points")
    results.write_text(paths.results("demo") / "points/b.json", "{}")
    reproduce.reproduce("demo", only="01", store=True)
    assert (repository / "results/demo/sweep.md").read_text() == "a.json"


def test_digests_do_not_change_with_the_folder(repository, monkeypatch, tmp_path_factory):
    digest, before = code_version.code_digest(), plan("demo")[0].notebook_digest()
    elsewhere = tmp_path_factory.mktemp("installed")
    shutil.copytree(paths.PACKAGE, elsewhere / "sdtp_lib", ignore=lambda *_: ["__pycache__"])
    shutil.copytree(paths.NOTEBOOKS, elsewhere / "notebooks")
    for name, folder in {"PACKAGE": "sdtp_lib", "NOTEBOOKS": "notebooks", "PROFILES": "notebooks/profiles"}.items():
        monkeypatch.setattr(paths, name, elsewhere / folder)
    assert (code_version.code_digest(), plan("demo")[0].notebook_digest()) == (digest, before)
    write_notebook(elsewhere / "notebooks" / "01_trial.ipynb", "another")
    (elsewhere / "sdtp_lib" / "paths.py").rename(elsewhere / "sdtp_lib" / "path.py")
    assert code_version.code_digest() != digest and plan("demo")[0].notebook_digest() != before
