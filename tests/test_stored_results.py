"""Every stored result can be made again: of a clean commit of this history, its folder's profile and its parameters."""

import ast
import subprocess
from fnmatch import fnmatch
from functools import cache

import papermill
import pytest

from sdtp_lib import paths
from sdtp_lib.ledger.page import expanded
from sdtp_lib.ledger.result_files import RESULT_FILES
from sdtp_lib.results import read_json
from sdtp_lib.runner.profiles import plan

HOME = paths.stored(paths.RESULTS)
NAMES = [str(file.relative_to(HOME)) for file in sorted(HOME.glob("**/*.json"))]
NOTEBOOKS = {stem: file.notebook for names, file in RESULT_FILES.items() if file.notebook for stem in expanded(names)}
# Results of commands, which know no profile; a sweep of another profile, kept for the defect it shows.
OTHER = {name: None for name in NAMES if "/tuned/latency_results_" in name}
OTHER |= {name: "latency_7b" for name in NAMES if name.startswith("h200_decode/")}
STALE = (  # made from a tree with changes, at a commit that is gone, or with other parameters
    "demo_full/pruner_ablation*", "demo_full/question_*", "demo_full/table[34]_*",
)  # fmt: skip
ASKED = ("limit", "num_samples", "repeats", "seeds", "tasks", "epochs", "fewshot", "tokens")


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def history():
    found = git("rev-list", "HEAD")
    if found.returncode or git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("there is no history here to look commits up in")
    return set(found.stdout.split())


def once_stale(name):
    """The name, marked as one that fails if it is of STALE: it must not stay there once it was made anew."""
    stale = any(fnmatch(name, pattern) for pattern in STALE)
    made = pytest.mark.xfail(strict=True, reason="made before this was asked; `make store` makes it anew")
    return pytest.param(name, marks=made if stale else ())


@pytest.mark.parametrize("name", map(once_stale, NAMES))
def test_a_stored_result_can_be_made_again(name, history):
    about, profile = read_json(HOME / name)["metadata"], name.split("/")[0]
    commits = about["commit"] if isinstance(about["commit"], list) else [about["commit"]]
    assert {*commits} <= history and about["modified"] is False
    assert about["profile"] == OTHER.get(name, profile)
    wanted = parameters(profile, NOTEBOOKS.get(name.removeprefix(f"{profile}/").removesuffix(".json")))
    both = [key for key in ASKED if key in wanted and key in about]
    assert {key: about[key] for key in both} == {key: wanted[key] for key in both}


@cache
def parameters(profile, notebook):
    """A profile's parameters of a notebook, its defaults included; empty if a command wrote the file."""
    if notebook is None or not (paths.PROFILES / profile / f"{notebook}.yaml").is_file():
        return {}
    job, *_ = plan(profile, notebook)
    defaults = papermill.inspect_notebook(str(job.notebook))
    return {key: ast.literal_eval(value["default"]) for key, value in defaults.items()} | job.parameters
