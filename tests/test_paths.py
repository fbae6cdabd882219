"""Folders: inside the repository by default, elsewhere where the environment says so."""

import pytest

from sdtp_lib import paths

KINDS = [("SDTP_RESULTS", "results"), ("SDTP_FIGURES", "figures")]


@pytest.mark.parametrize("variable, name", KINDS)
def test_folders_are_in_the_repository(monkeypatch, variable, name):
    monkeypatch.delenv(variable)
    assert getattr(paths, name)("demo") == paths.ROOT / name / "demo"
    assert getattr(paths, name)() == paths.ROOT / name
    assert (paths.ROOT / "pyproject.toml").is_file()


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
    assert paths.DEMO_CHECKPOINT.parent == paths.DEMO_PRUNER.parent == paths.PACKAGE / "demo"
