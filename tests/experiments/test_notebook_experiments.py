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
    real = {"full": {"average": 90.0, "categories": {"Needle": {"score": 90.0}}}}
    real |= {"sdtp": {**real["full"], "average": 80.0}, "random": real["full"]}
    table = str(table1_longbench.losses_against_paper(real))
    assert "sdtp, AVG" in table and "-10.00" in table and "random" not in table and "Code" not in table


def test_lost_likelihood_stands_below_lost_points_where_answers_are_weighed():
    found = {name: {"average": 50.0, "nll": 1.0 + i} for i, name in enumerate(paper_numbers.ABLATIONS)}
    assert "nats per token more" in (text := table5_losses.ablation_against_paper(found)) and "2.00" in text
    assert "nats" not in table5_losses.ablation_against_paper({name: {"average": 1.0} for name in found})


def test_mark_prompts_gives_every_layer_of_the_prompt(demo):
    model, tokenizer = demo
    (marked,) = fig1_saliency.mark_prompts(model, tokenizer, 1, seed=5, max_tokens=400)
    assert marked.saliency.shape == (model.config.num_hidden_layers, marked.prompt_tokens)
    example = fig1_saliency.saliency_example(tokenizer, marked)
    assert len(example["tokens"]) == marked.prompt_tokens == len(example["saliency"][0])


def test_the_example_of_figure_1_may_be_a_tasks_record(demo):
    model, tokenizer = demo
    marked = fig1_saliency.mark_example(model, tokenizer, "needle", "squad", 0, 128)
    assert marked.id == "needle-128-2025-0" and 0.9 * 128 <= marked.prompt_tokens <= 128
    assert marked.saliency.shape == (model.config.num_hidden_layers, marked.prompt_tokens)
    assert fig1_saliency.mark_example(model, tokenizer, None, "demo", 5, 400).prompt_tokens <= 400


def test_the_sentence_on_figure_1_counts_the_tokens_that_hold_half():
    text = fig1_saliency.said_of_example({"saliency": [[1.0] * 8, [0, 0, 9, 1, 0, 0, 0, 0]], "layers": [0, 1]})
    assert "of 8 tokens" in text and "4 at layer 0" in text and "1 at layer 1" in text


def test_figure_2_stands_beside_the_paper_at_the_same_depths():
    share = [0.5 - 0.01 * layer for layer in range(30)]
    text = fig1_saliency.shares_against_paper(share)
    assert all(f"paper's layer {theirs}, our {ours} " in text for theirs, ours in ((1, 0), (19, 17), (32, 29)))
    (last,) = [row for row in text.splitlines() if "last over first" in row]
    assert "0.30" in last and "0.42" in last


def test_what_stands_behind_the_context_is_counted_and_nothing_of_the_context(demo):
    model, tokenizer = demo
    record = {"dataset": "needle", "_id": "a", "context": "The door is open .", "input": "The key is", "answers": ["x"]}
    behind = len(tokenizer("\n\nThe key is")["input_ids"])
    assert behind <= fig1_saliency.question_tokens(model, tokenizer, [record]) <= behind + 1  # both contexts end alike


@pytest.mark.parametrize("scores, words", [([0, 40, 95], "from layer 5 on"), ([0, 95, 40], "are not reached")])
def test_the_sentence_on_reading_names_the_layer_from_which_all_is_read(scores, words):
    reading = {"layers": [1, 3, 5], "accuracy": scores, "baseline": 100.0, "nll": [3, 2, 1], "baseline_nll": 1}
    text = fig1_saliency.said_of_reading(reading)
    assert words in text and "3.00, 1.00, 1.00" in text


def test_the_prompt_of_a_task_says_whether_it_goes_into_a_chat_template(demo):
    text, chat = inspect_prompt.task_prompt(*demo, "needle", 1, tokens=128)
    assert "The secret word of the" in text and text.count("\n\n") and chat is False


def test_the_sentence_on_one_prompt_says_what_is_left():
    found = {"tokens": ["a"] * 4, "last_layer": [1, 0, 1, 1], "kv_lengths": [4, 3], "scheduled": [4, 2],
             "answers": {"full": "x\n y", "pruned": "z"}}  # fmt: skip
    text = inspect_prompt.said(found)
    assert "3 of 4 tokens" in text and "1 of 2 layers" in text and "| x y" in text


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
