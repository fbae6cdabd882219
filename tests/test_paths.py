"""Folders: inside the repository by default, elsewhere where the environment says so."""

import pytest

from sdtp_lib import cli, paths

KINDS = [("SDTP_RESULTS", "results"), ("SDTP_FIGURES", "figures")]


@pytest.mark.parametrize("variable, name", KINDS)
def test_a_run_writes_beside_what_is_stored(monkeypatch, variable, name):
    monkeypatch.delenv(variable)
    assert getattr(paths, name)("demo") == paths.ROOT / "runs" / "demo" / name
    assert paths.stored(name, "demo") == paths.ROOT / name / "demo" and paths.stored(name) == paths.ROOT / name
    assert (paths.ROOT / "pyproject.toml").is_file()


@pytest.mark.parametrize("variable, name", KINDS)
def test_what_a_run_made_goes_before_what_is_stored(monkeypatch, tmp_path, variable, name):
    find = {"results": paths.find_results, "figures": paths.find_figure}[name]
    monkeypatch.delenv(variable)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert find("demo", "a/b") is None
    for folder in (tmp_path / name / "demo", tmp_path / "runs" / "demo" / name):
        (folder / "a").mkdir(parents=True)
        (folder / "a" / "b").touch()
        assert find("demo", "a/b") == folder / "a" / "b"
    monkeypatch.setenv(variable, str(tmp_path / "other"))
    assert find("demo", "a/b") is None  # who names a folder gets what is in there alone


@pytest.mark.parametrize("variable, name", KINDS)
def test_the_environment_is_read_at_each_call(monkeypatch, tmp_path, variable, name):
    for folder in (tmp_path / "one", tmp_path / "two"):
        monkeypatch.setenv(variable, str(folder))
        assert getattr(paths, name)("demo") == folder / "demo"


def test_a_relative_folder_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDTP_RESULTS", "here")
    assert paths.results("demo") == tmp_path / "here" / "demo"


def test_asking_makes_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path / "results"))
    paths.results("demo")
    assert not list(tmp_path.iterdir())


def test_the_demo_ships_inside_the_package():
    assert paths.DEMO_CHECKPOINT.parent == paths.DEMO_PRUNER.parent == paths.PACKAGE / "data" / "demo"


@pytest.mark.parametrize("variable, name", KINDS)
def test_an_installed_package_writes_below_the_current_folder(monkeypatch, tmp_path, variable, name):
    """Its own folder lies among those of all packages, where nothing of a user's is looked for."""
    (tmp_path / "site-packages" / "sdtp_lib").mkdir(parents=True)
    monkeypatch.setattr(paths, "ROOT", tmp_path / "site-packages")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv(variable)
    assert getattr(paths, name)("mine") == tmp_path / "work" / "runs" / "mine" / name
    monkeypatch.setenv(variable, str(tmp_path / "named"))
    assert getattr(paths, name)("mine") == tmp_path / "named" / "mine"


def test_an_installed_package_without_notebooks_says_so_in_one_line(monkeypatch, tmp_path, capsys):
    for name, folder in {"ROOT": "", "NOTEBOOKS": "notebooks", "PROFILES": "notebooks/profiles"}.items():
        monkeypatch.setattr(paths, name, tmp_path / "site-packages" / folder)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce"]) == 2
    said = capsys.readouterr().err
    assert "no notebooks in" in said and "run this from a checkout" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
