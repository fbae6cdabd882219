"""A repository of small notebooks in a temporary folder."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from sdtp_lib import paths
from sdtp_lib.ledger import ledger as ledger_writer

PARAMETERS = "profile = 'demo'  # which one\nfactor = 2  # a number"


def write_notebook(path, *sources, parameters=PARAMETERS):
    cells = [new_markdown_cell("# Trial", id="title"), new_code_cell(parameters, id="parameters")]
    cells[1].metadata.tags = ["parameters"]
    cells += [new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def outputs(path):
    """Every text a notebook's cells put out, joined."""
    cells = nbformat.read(path, as_version=4).cells
    found = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in found)


def small_repository(folder, monkeypatch):
    """Two notebooks and a demo profile; returns the list of the profiles that a run's ledger is written for."""
    profiles = folder / "notebooks" / "profiles"
    (profiles / "demo").mkdir(parents=True)
    (profiles / "paper").mkdir()
    for number in ("01", "02"):
        write_notebook(folder / "notebooks" / f"{number}_trial.ipynb", "factor * 21")
        (profiles / "demo" / f"{number}.yaml").write_text("profile: demo\n")
    monkeypatch.setattr(paths, "NOTEBOOKS", folder / "notebooks")
    monkeypatch.setattr(paths, "PROFILES", profiles)
    monkeypatch.setenv("SDTP_RESULTS", str(folder / "results"))
    monkeypatch.setenv("SDTP_FIGURES", str(folder / "figures"))
    ledger = []
    monkeypatch.setattr(ledger_writer, "write_ledger", ledger.append)
    return ledger
