"""The notebooks' experiments on tiny models: the layout of their data, and what it must say."""

import math

import pandas as pd
import pytest
import torch
from helpers import tiny_model, tiny_pruner

from sdtp_lib import paper as paper_numbers
from sdtp_lib.data.corpora import longbench_records, read_jsonl
from sdtp_lib.data.samples import Sample
from sdtp_lib.evaluation.prompts import build_prompt
from sdtp_lib.experiments import fig1_saliency, inspect_prompt, table1_longbench, table5_losses
from sdtp_lib.models import load_model
from sdtp_lib.training.demo_model import build_tokenizer

SCORES = {name: {"score": 50.0} for name in paper_numbers.CATEGORIES}


@pytest.fixture(scope="module")
def demo():
    return load_model("demo", dtype="float32")


def sample(rows):
    saliency = torch.tensor(rows)
    return Sample("a", torch.arange(saliency.shape[1] + 1), saliency.shape[1], saliency)


def test_salient_share_is_the_mean_over_prompts():
    found = fig1_saliency.salient_shares([sample([[1.0, 0.05, 0.2, 0.0]]), sample([[1.0, 1.0, 1.0, 1.0]])])
    assert found == {"layers": [0], "share": [0.75]}


def test_curves_sum_stages_and_leave_gaps_open():
    history = [
        {"step": 0, "mse": [1.0, 2.0], "rank": [0.5, 0.5], "cls": 4.0},
        {"step": 1, "mse": [1.0, 1.0], "rank": [0.5, 0.0]},
    ]
    terms, stages = table5_losses.curves(history, [4, 7])
    assert terms["mse"].tolist() == [3.0, 2.0] and terms["cls"][0] == 4.0 and math.isnan(terms["cls"][1])
    assert stages[4].tolist() == [1.5, 1.5] and stages[7].tolist() == [2.5, 1.0]
    assert table5_losses.columns(terms)["cls"] == [4.0, None]
    frame = pd.DataFrame({4: [1.5]}, index=pd.Index([0], name="step"))
    assert table5_losses.columns(frame) == {"step": [0], "4": [1.5]}


def test_losses_against_the_paper_are_differences_to_full():
    found = {
        "full": {"average": 90.0, "categories": SCORES},
        "sdtp": {"average": 88.0, "categories": {**SCORES, "Code": {"score": 53.0}}},
    }
    table = str(table1_longbench.losses_against_paper(found))
    assert "sdtp, AVG" in table and "-2.52" in table and "-2.00" in table and "3.00" in table


def test_mark_prompts_gives_every_layer_of_the_prompt(demo):
    model, tokenizer = demo
    (marked,) = fig1_saliency.mark_prompts(model, tokenizer, 1, seed=5, max_tokens=400)
    assert marked.saliency.shape == (model.config.num_hidden_layers, marked.prompt_tokens)
    example = fig1_saliency.saliency_example(tokenizer, marked)
    assert len(example["tokens"]) == marked.prompt_tokens == len(example["saliency"][0])


def test_the_answer_is_not_read_below_the_full_attention_layers(demo):
    model, tokenizer = demo
    found = fig1_saliency.layer_of_reading(model, tokenizer, ["singledoc_qa"], 3)
    accuracy = dict(zip(found["layers"], found["accuracy"], strict=True))
    assert found["local_layers"] == 6 and found["baseline"] == accuracy[13]
    assert accuracy[6] < 50 < found["baseline"]


def test_inspection_follows_the_trace(tmp_path):
    tokenizer = build_tokenizer(200)
    model = tiny_model("llama", layers=6)
    model.resize_token_embeddings(len(tokenizer))
    prompt = build_prompt(longbench_records("singledoc_qa", limit=1)[0])
    log = tmp_path / "log.jsonl"
    log.write_text("old\n")
    pruner = tiny_pruner((4, 5))
    found = inspect_prompt.inspect_prompt(model, tokenizer, prompt, pruner, "keep07", log, new_tokens=2)
    assert found["kv_lengths"] == found["scheduled"]
    assert sum(last == 5 for last in found["last_layer"]) == found["kv_lengths"][-1]
    assert [row["layer"] for row in read_jsonl(log)] == [4, 5]
    assert "| 4" in inspect_prompt.log_table(read_jsonl(log)).replace("|  ", "| ")
