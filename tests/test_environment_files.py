"""pyproject.toml, environment.yml and requirements.lock tell one story."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import sdtp_lib
from sdtp_lib import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
LOCK_LINES = [
    line for line in (paths.ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")
]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["gguf"]]]


def pins(lines):
    """name, without its extras -> exact version."""
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name.partition("[")[0]): version for name, version in pairs}


LOCK = pins(LOCK_LINES)
CONDA_PIP = pins(next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)))


def test_the_lock_has_plain_exact_versions():
    """No hosts, paths, markers or local versions, and nothing twice."""
    plain = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*")
    assert [line for line in LOCK_LINES if not plain.fullmatch(line)] == []
    assert len(LOCK) == len(LOCK_LINES)


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_direct_dependencies_are_in_both_files(requirement):
    name = canonicalize_name(requirement.name)
    assert LOCK[name] in requirement.specifier
    assert CONDA_PIP[name] == LOCK[name]


def test_environment_has_nothing_else():
    assert CONDA_PIP.keys() == {canonicalize_name(requirement.name) for requirement in DIRECT}
    assert CONDA["channels"] == ["conda-forge"]
    assert [entry for entry in CONDA["dependencies"] if isinstance(entry, str)] == ["python=3.11", "pip"]


def test_pins_that_results_depend_on():
    assert (LOCK["torch"], LOCK["transformers"]) == ("2.13.0", "5.2.0")
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_tested_environment_has_the_optional_packages():
    """Without them their tests would be skipped unnoticed."""
    for requirement in map(Requirement, EXTRAS["kv"]):
        assert LOCK[canonicalize_name(requirement.name)] in requirement.specifier


def test_transformers_is_capped_at_the_newest_that_the_docs_call_tested():
    (allowed,) = [each.specifier for each in DIRECT if each.name == "transformers"]
    tested = re.search(r"tested on transformers ([\d., and]+)", (paths.ROOT / "docs" / "families.md").read_text())[1]
    versions = sorted(map(Version, re.findall(r"\d+\.\d+\.\d+", tested)))
    assert len(versions) >= 3 and versions[0] == Version(LOCK["transformers"])
    major, minor, _ = versions[-1].release
    assert all(version in allowed for version in versions) and Version(f"{major}.{minor + 1}.0") not in allowed


def test_everything_imported_is_declared():
    optional = map(Requirement, EXTRAS["kv"])
    declared = {canonicalize_name(requirement.name) for requirement in [*DIRECT, *optional]}
    homes = packages_distributions()
    for file in paths.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"sdtp_lib"}:
                found = {canonicalize_name(home) for home in homes.get(top, [top])}
                assert found & declared, f"{file.relative_to(paths.ROOT)} imports {top}"


def test_the_command_is_installed_under_its_name():
    assert PROJECT["scripts"] == {"sdtp": "sdtp_lib.cli:main"}


def test_the_version_heads_the_changelog_and_lives_in_one_place():
    newest = re.search(r"^## \[(.+?)\] - \d{4}-\d\d-\d\d$", (paths.ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == sdtp_lib.__version__
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    assert not re.search(r"^version:", (paths.ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_the_notice_names_what_is_shipped_beside_the_code():
    """Folders of weights and data: each has its licence in NOTICE, which goes with the package."""
    notice = (paths.ROOT / "NOTICE").read_text()
    holders = {file.relative_to(paths.PACKAGE).parts[:2] for file in paths.PACKAGE.rglob("*.safetensors")}
    named = {"data": "sdtp_lib/data/demo", "pruners": "sdtp_lib/pruners"}
    assert all(named[room] in notice for room, _ in holders)
    assert all(f"\n    {name}\n" in notice for room, name in holders if room == "pruners")
    assert "NOTICE" in PROJECT["license-files"]


def test_pythons_that_are_named_are_those_tested():
    tested = [line.rpartition(" ")[2] for line in PROJECT["classifiers"]]
    assert tested == ["3.11", "3.12"]
    assert CONDA["dependencies"][0] == f"python={tested[0]}" and PROJECT["requires-python"] == f">={tested[0]}"
    assert "PY312 ?= python3.12" in (paths.ROOT / "Makefile").read_text()
