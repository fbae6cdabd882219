"""The profile `smollm2`, quickly: notebook 06 on the real weights, needles in Python's documentation."""

import papermill
import pytest
import yaml
from real_model import fetched

from sdtp_lib import paths, results
from sdtp_lib.models.shipped_pruners import with_pruners
from sdtp_lib.runner.execution import KERNEL, OFFLINE


@pytest.mark.slow
def test_the_real_model_finds_needles_and_random_pruning_loses_them(tmp_path, monkeypatch):
    name = fetched()
    parameters = yaml.safe_load((paths.PROFILES / "smollm2" / "06.yaml").read_text())
    assert parameters["model_name"] == name
    trained = ["sdtp"] if name in with_pruners() else []
    quick = {"tasks": "needle", "source": None, "tokens": 512, "limit": 10, "methods": ["full", *trained, "random"]}
    quick |= {"speed_tokens": 2, "resume": False}
    folders = {"SDTP_RESULTS": str(tmp_path / "results"), "SDTP_FIGURES": str(tmp_path / "figures")}
    for variable, value in (KERNEL | OFFLINE | folders).items():
        monkeypatch.setenv(variable, value)
    (notebook,) = paths.NOTEBOOKS.glob("06_*.ipynb")
    papermill.execute_notebook(
        notebook, tmp_path / "out.ipynb", parameters | quick, kernel_name="python3", cwd=notebook.parent,
        progress_bar=False,
    )  # fmt: skip
    document = results.read_json(tmp_path / "results" / "smollm2" / "table1_longbench.json")
    found = {method: row["tasks"]["needle"] for method, row in document["data"].items()}
    assert document["metadata"]["fingerprint"] == "155da6ffc64ac5cb" and found["full"]["n"] == 10
    assert found["full"]["score"] >= 80 and found["full"]["scores"]["nll"]["mean"] < 2
    for method in trained or ["full"]:
        assert found[method]["scores"]["nll"]["mean"] < found["random"]["scores"]["nll"]["mean"]
    assert document["data"]["random"]["against_full"]["tasks"]["needle"]["nll"]["difference"] > 0
