"""What a profile needs besides the repository is asked for before anything runs; another model can be named for all."""

import papermill
import pytest
from small_notebooks import small_repository, write_notebook

from sdtp_lib import cli, paths
from sdtp_lib.models.packages import PACKAGES
from sdtp_lib.runner import reproduce
from sdtp_lib.runner.profiles import plan

(NAME,) = PACKAGES
REAL = ["02", "09"]


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A profile of two notebooks on a model of a package and SQuAD; returns the parameters of those that ran."""
    small_repository(tmp_path, monkeypatch)
    parameters = "\n".join(f"{name} = 'demo'  # which" for name in ("profile", "model_name", "revision", "data"))
    for number in REAL:
        write_notebook(paths.NOTEBOOKS / f"{number}_real.ipynb", "data", parameters=parameters)
        (paths.PROFILES / "real").mkdir(exist_ok=True)
        values = f"profile: real\nmodel_name: {NAME}\nrevision: abc\ndata: squad\n"
        (paths.PROFILES / "real" / f"{number}.yaml").write_text(values)
    (paths.NOTEBOOKS / "02_trial.ipynb").unlink()
    (paths.PROFILES / "demo" / "02.yaml").unlink()
    monkeypatch.setenv("SDTP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SDTP_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    for name in ("squad_test", "squad_train"):
        (tmp_path / "data" / f"{name}.jsonl").touch()
    given = []
    monkeypatch.setattr(reproduce, "execute", lambda notebook, executed, parameters: given.append(parameters))
    return given


def test_a_model_that_was_not_fetched_is_named_with_the_command(ran, capsys):
    assert cli.main(["reproduce", "--profile", "real"]) == 2
    said = capsys.readouterr().err
    assert f"`sdtp fetch {NAME}`" in said and said.count("\n") == 1 and not ran


@pytest.mark.parametrize("data", [None, "", "elsewhere"])
def test_paragraphs_that_are_not_there_are_named_with_the_command(ran, capsys, monkeypatch, data, tmp_path):
    monkeypatch.setattr("sdtp_lib.runner.needs.local_path", lambda name: None)
    monkeypatch.delenv("SDTP_DATA")
    if data is not None:
        monkeypatch.setenv("SDTP_DATA", data)
    assert cli.main(["reproduce", "--profile", "real"]) == 2
    said = capsys.readouterr().err
    assert "squad_test.jsonl and squad_train.jsonl" in said and "SDTP_DATA=FOLDER sdtp reproduce --profile real" in said
    assert said.count("\n") == 1 and not ran


def test_another_model_takes_the_place_of_the_profiles_in_every_notebook(ran, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "--profile", "real", "--model", "model"]) == 0
    assert [(each["model_name"], each["revision"]) for each in ran] == [(str(tmp_path / "model"), None)] * 2
    assert plan("real", model="owner/model")[0].parameters["model_name"] == "owner/model"


def test_several_models_of_one_notebook_are_all_replaced(ran):
    parameters = "profile = 'demo'  # which\nmodels = ['a', 'b']  # which"
    write_notebook(paths.NOTEBOOKS / "09_real.ipynb", "models", parameters=parameters)
    (paths.PROFILES / "real" / "09.yaml").write_text("profile: real\n")
    assert plan("real", "09", "demo")[0].parameters == {"profile": "real", "models": ["demo", "demo"]}


@pytest.mark.parametrize("folder", ["/no/such/model", "./nowhere", "no/such/model"])
def test_a_model_folder_that_is_not_there_is_refused(ran, capsys, folder):
    assert cli.main(["reproduce", "--profile", "real", "--model", folder]) == 2
    assert capsys.readouterr().err == f"sdtp: error: model folder {folder} does not exist\n" and not ran


def test_what_a_real_models_profile_calls_sdtp_is_the_papers_module():
    """Without a name it would be the question-aware pruner, which the paper does not have."""
    for job in plan("smollm2"):
        known = papermill.inspect_notebook(str(job.notebook))
        assert "pruner_folder" not in known or job.parameters["pruner_folder"] == "paper", job.notebook
