"""Profiles: flat lists of parameters, and grids of them, each point of which is a job of its own."""

import pytest
from small_notebooks import outputs, small_repository, write_notebook

from sdtp_lib import paths, results
from sdtp_lib.runner import parallel_jobs as side_by_side
from sdtp_lib.runner import profiles, reproduce
from sdtp_lib.runner.execution import NotebookFailed
from sdtp_lib.runner.parallel_jobs import take_shard


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Notebook 01 with parameters factor, profile and name; a function that sets the demo profile's files of it."""
    ledger = small_repository(tmp_path, monkeypatch)
    notebook = tmp_path / "notebooks" / "01_trial.ipynb"
    write_notebook(notebook, "print(name * factor)", parameters="factor = 2\nprofile = 'demo'\nname = 'a'")
    (paths.PROFILES / "demo" / "02.yaml").unlink()

    def say(grid, flat=""):
        (paths.PROFILES / "demo" / "01.yaml").write_text(flat)
        (paths.PROFILES / "demo" / "01.grid.yaml").write_text(grid)
        return ledger

    return say


def test_every_combination_is_a_job_with_a_copy_of_its_own(repository):
    repository("name: [x/y z, b]\nfactor: [1, 2, 3]\n", "profile: demo\n")
    jobs = profiles.plan("demo")
    assert [job.executed.name for job in jobs] == [
        f"01_trial.{name}.{factor}.ipynb" for name in ("x-y-z", "b") for factor in (1, 2, 3)
    ]
    assert jobs[1].parameters == {"profile": "demo", "name": "x/y z", "factor": 2}
    assert len({job.entry for job in jobs}) == len({job.digest() for job in jobs}) == len({*jobs}) == 6
    assert {job.number for job in jobs} == {"01"} and len(profiles.plan("demo", "01")) == 6


def test_a_value_may_set_several_parameters(repository):
    repository("factor: [1, 2]\nwho: [{name: a}, {name: b, profile: demo}]\n")
    assert [(job.executed.name, job.parameters) for job in profiles.plan("demo")] == [
        ("01_trial.1.a.ipynb", {"factor": 1, "name": "a"}),
        ("01_trial.1.b.ipynb", {"factor": 1, "name": "b", "profile": "demo"}),
        ("01_trial.2.a.ipynb", {"factor": 2, "name": "a"}),
        ("01_trial.2.b.ipynb", {"factor": 2, "name": "b", "profile": "demo"}),
    ]


def test_without_a_grid_there_is_one_job(repository):
    repository("", "profile: demo\n")
    for _ in range(2):
        (job,) = profiles.plan("demo")
        assert job.executed.name == "01_trial.ipynb" and job.parameters == {"profile": "demo"}
        (paths.PROFILES / "demo" / "01.grid.yaml").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "flat, grid, words",
    [
        ("", "3", "demo/01.grid.yaml must be a flat list"),
        ("", "factor: 3", "demo/01.grid.yaml must have a list of values for each name"),
        ("", "factor: []", "must have a list of values for each name"),
        ("", "factor: [{}]", "must have a list of values for each name"),
        ("", "factor: [1", "demo/01.grid.yaml is no YAML: line 1: expected"),
        ("factor: 2\nname: 'x", "factor: [1]", "demo/01.yaml is no YAML: line 2: found unexpected end"),
        ("factor: 2\nname: x\nfactor: 3", "factor: [1]", "demo/01.yaml is no YAML: line 3: 'factor' is set twice"),
        ("factor: 2024-01-01", "", "demo/01.yaml has a value that is none of JSON's"),
        ("profil: demo", "factor: [1]", "01_trial.ipynb has no parameter 'profil', which demo/01.yaml"),
        ("profile: paper", "factor: [1]", "demo/01.yaml has profile: paper, .* write profile: demo"),
        ("", "who: [{name: a}, {name: b, profile: paper}]", "demo/01.yaml has profile: paper"),
        ("", "facto: [1]", "01_trial.ipynb has no parameter 'facto', which demo/01.yaml and its grid set"),
        ("", "any: [{facto: 1}]", "01_trial.ipynb has no parameter 'facto', which demo/01.yaml and its grid set"),
        ("factor: 2", "factor: [1]", "demo/01.yaml and its grid set 'factor' twice"),
        ("", "factor: [1]\nboth: [{factor: 2, name: x}]", "demo/01.yaml and its grid set 'factor' twice"),
        ("", "factor: [1, 1]", "demo/01.grid.yaml has two points of the same name"),
    ],
)
def test_bad_grids_are_refused(repository, flat, grid, words):
    repository(grid, flat)
    with pytest.raises(ValueError, match=words):
        profiles.plan("demo")


@pytest.mark.parametrize("parameters", ["factor: 2\n", "profile: demo\n"])
def test_a_copied_profile_is_refused_until_it_has_its_own_name(repository, parameters):
    """Without the name the notebook's default would be taken, which is another profile's as well."""
    repository("factor: [1]" if "profile" in parameters else "name: [a]", parameters)
    (paths.PROFILES / "demo").rename(paths.PROFILES / "mine")
    with pytest.raises(ValueError, match="mine/01.yaml has profile: demo, .* write profile: mine"):
        profiles.plan("mine")
    (paths.PROFILES / "mine" / "01.yaml").write_text("profile: mine\n")
    assert {job.parameters["profile"] for job in profiles.plan("mine")} == {"mine"}


@pytest.mark.parametrize("name", ["1.yaml", "01.yml", "07.yaml", "01.grids.yaml"])
def test_a_file_that_no_notebook_reads_is_refused(repository, name):
    repository("factor: [1]")
    (paths.PROFILES / "demo" / name).write_text("factor: 3\n")
    with pytest.raises(ValueError, match=f"demo/{name} belongs to no notebook; known names: 01.grid.yaml, 01.yaml"):
        profiles.plan("demo")


def test_the_project_s_own_profiles_have_their_own_names(monkeypatch, tmp_path):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    for folder in paths.PROFILES.iterdir():
        assert {job.parameters["profile"] for job in profiles.plan(folder.name)} == {folder.name}


def test_points_are_done_one_by_one_and_sliced(repository, monkeypatch):
    ledger, ran = repository("factor: [1, 2, 3]\n"), []

    def run(job, *rest):
        ran.append(job.parameters["factor"])
        results.write_text(job.executed, "{}")
        return job.digest(), None

    monkeypatch.setattr(side_by_side, "_run", run)
    reproduce.reproduce("demo")
    assert ran == [1, 2, 3] and ledger == ["demo"]
    repository("factor: [3, 4]\n")
    reproduce.reproduce("demo", resume=True)
    assert ran == [1, 2, 3, 4]
    slices = [
        [job.parameters["factor"] for job in take_shard(profiles.plan("demo"), shard)] for shard in ("1/2", "2/2")
    ]
    assert slices == [[3], [4]]


def test_one_notebook_s_points_can_be_sliced(repository, monkeypatch):
    repository("factor: [1, 2, 3]\n")
    monkeypatch.setattr(side_by_side, "_run", lambda job, *rest: (job.digest(), None))
    assert [path.name for path in reproduce.reproduce("demo", only="01", shard="2/2")] == ["01_trial.2.ipynb"]


@pytest.mark.slow
def test_a_failed_point_costs_no_other(repository):
    repository("name: [x, null]\nfactor: [1, 2]\n")
    with pytest.raises(NotebookFailed, match="2 of 4 notebooks failed: .*01_trial.None.1.ipynb"):
        reproduce.reproduce("demo")
    folder = paths.results("demo") / "notebooks"
    assert [outputs(folder / f"01_trial.x.{factor}.ipynb") for factor in (1, 2)] == ["x\n", "xx\n"]
    assert sorted(file.name for file in (folder / "manifest").iterdir()) == [
        f"01_trial.x.{factor}.json" for factor in (1, 2)
    ]
