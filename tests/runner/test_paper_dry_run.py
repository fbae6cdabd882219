"""The paper profile's notebooks, dry: a tiny random model in Hugging Face format and local records, two of each set."""

import json

import nbformat
import papermill
import pytest
import torch
import yaml
from evaluation.test_llmlingua import save_classifier
from small_records import LAYERS, small_model, small_tokenizer

from sdtp_lib import TokenPruner, paths
from sdtp_lib.data.tasks import LONGBENCH
from sdtp_lib.paper import ABLATIONS
from sdtp_lib.runner.execution import KERNEL, OFFLINE

DRY = {  # what a dry run changes besides model, records and their number
    "06": {"methods": ["full", "sdtp", "sdtp-low", "h2o", "oracle", "random"]},
    "07": {"tasks": ["mini_choice"], "fewshot": 1, "methods": ["full", "sdtp"]},  # the paper's tasks come from the Hub
    "08": {"tasks": "qasper,trec", "presses": ["snapkv", "h2o", "local"]},
    "09": {"tasks": "singledoc_qa,few_shot", "source": None, "data": "demo", "num_samples": 12,
           "methods": ["sdtp", "norm"], "cut_layers": [1, 4], "cut_ratios": [0.9], "counts": [1, 2]},
}  # fmt: skip
WRITES = {"06": "table1_longbench", "07": "table3_downstream", "08": "table6_kv_compression", "09": "quality_flops"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model, pruner, and records in LongBench's official schema."""
    folder, model, tokenizer = tmp_path_factory.mktemp("paper"), small_model(), small_tokenizer()
    model.config.max_position_embeddings = 1024
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(0)
    TokenPruner(model.config.hidden_size, range(1, LAYERS)).save_pretrained(folder / "pruner")
    for name in ABLATIONS:
        TokenPruner(model.config.hidden_size, range(1, LAYERS)).save_pretrained(folder / name.replace(" ", "_"))
    save_classifier(folder / "llmlingua")
    (folder / "data").mkdir()
    for name in LONGBENCH:
        rows = [
            {
                "input": "where is Ada ?", "context": "the colour of Hugo is teal . " * (20 + 9 * index),
                "answers": ["teal"], "length": 140, "dataset": name, "language": "en",
                "all_classes": ["teal", "red"] if name == "trec" else None, "_id": f"{name}-{index}",
            }
            for index in range(3)
        ]  # fmt: skip
        (folder / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", DRY)
def test_the_notebook_runs_with_the_papers_parameters(number, folder, tmp_path, monkeypatch):
    (notebook,) = paths.NOTEBOOKS.glob(f"{number}_*.ipynb")
    known = papermill.inspect_notebook(str(notebook))
    parameters = yaml.safe_load((paths.PROFILES / "paper" / f"{number}.yaml").read_text())
    own = {"model_name": str(folder / "model"), "revision": None, "pruner_folder": str(folder / "pruner"), "limit": 2}
    own |= {"source": str(folder / "data")} if "source" in known else {}
    own |= {"llmlingua": str(folder / "llmlingua"), "speed_limit": 1, "speed_tokens": 4} if number == "06" else {}
    own |= {"ablation_folder": str(folder), "ablation_tasks": ["mini_choice_few_shot"]} if number == "07" else {}
    folders = {"SDTP_RESULTS": str(tmp_path / "results"), "SDTP_FIGURES": str(tmp_path / "figures")}
    for variable, value in (KERNEL | OFFLINE | folders | {"OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(variable, value)
    papermill.execute_notebook(
        notebook, tmp_path / "out.ipynb", parameters | own | DRY[number], kernel_name="python3",
        cwd=notebook.parent, progress_bar=False,
    )  # fmt: skip
    found = json.loads((tmp_path / "results" / "paper" / f"{WRITES[number]}.json").read_text())
    assert found["metadata"]["profile"] == "paper" and found["data"]
    if number == "06":
        assert "llmlingua2" in found["data"] and found["data"]["llmlingua2"]["compression"] > 1
        timed = json.loads((tmp_path / "results" / "paper" / "table1_speed.json").read_text())["data"]
        rows = set(DRY["06"]["methods"]) - {"oracle"} | {"llmlingua2"}
        assert set(timed["methods"]) == rows and len(timed["prompts"]) == len(LONGBENCH)
    if number == "07":
        losses = json.loads((tmp_path / "results" / "paper" / "table4_loss_ablation.json").read_text())["data"]
        assert tuple(losses) == ABLATIONS
    assert nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].cell_type == "markdown"
