"""The house of CONTRIBUTING.md: rooms that say what they are for, imports that run downward, files one can read."""

import ast
from importlib import import_module

import pytest
from importlinter.cli import lint_imports

from sdtp_lib import paths

ROOMS = sorted(file.parent for file in paths.PACKAGE.rglob("__init__.py") if file.parent != paths.PACKAGE)
FILES_OF_A_ROOM, LINES_OF_A_FILE = 20, 250


def test_imports_run_downward():
    config = paths.ROOT / "pyproject.toml"
    assert lint_imports(config_filename=str(config), no_cache=True) == 0


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_says_in_one_sentence_what_it_is_for(room):
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert text.endswith(".") and "\n" not in text and ". " not in text


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_is_small_enough_to_be_seen(room):
    files = [file for file in room.glob("*.py") if not file.name.startswith("__")]
    assert len(files) <= FILES_OF_A_ROOM
    assert [file.name for file in files if len(file.read_text().splitlines()) > LINES_OF_A_FILE] == []


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_hands_on_no_name_of_its_own_files(room):
    """`from sdtp_lib.room import name` would be the one or the other, by what was imported before."""
    package = import_module(".".join(room.relative_to(paths.ROOT).parts))
    handed = vars(package).get("__all__", [])
    assert all(hasattr(package, name) for name in handed)
    inside = {file.stem for file in room.glob("*.py")} | {file.name for file in room.iterdir() if file.is_dir()}
    assert not inside & {*handed}
