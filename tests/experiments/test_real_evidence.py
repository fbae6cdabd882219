"""What one cut keeps of the evidence: full passes on disk, scores read from them, shares as the engine would cut."""

import pytest
import torch
from chat_tokenizers import chat_tokenizer
from helpers import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from real_text import passages

from sdtp_lib.data.real.build import real_records
from sdtp_lib.evaluation.answers import encode_record, in_chat
from sdtp_lib.experiments.real import full_passes
from sdtp_lib.experiments.real.evidence import POOLS, SHOWN, STRONGEST, best, evidence_table, kept_evidence, pooled
from sdtp_lib.experiments.real.evidence_study import ASKED, later_layers, study, study_page
from sdtp_lib.experiments.real.full_passes import FullPass, full_pass, places
from sdtp_lib.experiments.real.readings import QUESTION, READINGS, Reading, attention_of
from sdtp_lib.plots.evidence import evidence_curves
from sdtp_lib.pruning.context import TokenPruning
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.scorers.attention import LastWindowAttentionScorer
from sdtp_lib.scorers.simple import RandomScorer
from sdtp_lib.scorers.strongest_head import StrongestHeadScorer
from sdtp_lib.training.batch_forward import layer_inputs

LAYERS = (1, 3, 4)


@pytest.fixture(scope="module")
def asked():
    """(model, tokenizer, {task: record}): the questions go into a chat template, the needles do not."""
    tokenizer = chat_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer))

    def length_of(record):
        return len(encode_record(model, tokenizer, record)[1])

    records = {task: real_records(task, passages(), 400, length_of, 1)[0] for task in ("needle", "documents_qa")}
    return model, tokenizer, records


@pytest.fixture(scope="module")
def passed(asked, tmp_path_factory):
    model, tokenizer, records = asked
    folder = tmp_path_factory.mktemp("passes")
    return [(task, full_pass(model, tokenizer, record, LAYERS, folder)) for task, record in records.items()]


@pytest.mark.parametrize("task", ["needle", "documents_qa"])
def test_the_evidence_and_the_question_are_found_among_the_tokens(asked, task):
    model, tokenizer, records = asked
    record = records[task]
    text, ids, _ = encode_record(model, tokenizer, record)
    found = places(tokenizer, record, text, in_chat(tokenizer, record))
    assert {len(part) for part in found.values()} == {len(ids)}

    def said(mask):
        return tokenizer.decode(torch.tensor(ids)[mask]).strip()

    start, end = record["evidence"]
    assert said(found["evidence"]) == record["context"][start:end]
    assert said(found["question"]).startswith(record["input"].rstrip("?"))
    sentence = found["sentence"][found["evidence"]].unique()
    assert len(sentence) == 1 and said(found["sentence"] == sentence).endswith(record["context"][start:end][-20:])


def test_a_pass_is_what_the_model_has_at_the_layers_and_is_read_again_from_its_file(asked, tmp_path, monkeypatch):
    model, tokenizer, records = asked
    record = records["needle"]
    first = full_pass(model, tokenizer, record, LAYERS, tmp_path)
    ids = torch.tensor([encode_record(model, tokenizer, record)[1]])
    there = layer_inputs(model, ids, torch.ones_like(ids, dtype=torch.bool), LAYERS)
    for layer, hidden in zip(LAYERS, first.hidden, strict=True):
        torch.testing.assert_close(hidden[None], there[layer], rtol=1e-4, atol=1e-4)
    assert first.saliency.shape == first.hidden.shape[:2] and first.saliency.any()
    monkeypatch.setattr(full_passes, "token_saliency", None)  # no second pass
    again = full_pass(model, tokenizer, record, LAYERS, tmp_path)
    assert torch.equal(again.hidden, first.hidden) and torch.equal(again.evidence, first.evidence)
    for other, layers in ((record, (1, 2)), (records["documents_qa"] | {"_id": record["_id"]}, LAYERS)):
        with pytest.raises(TypeError):  # other layers, and another prompt under the same name, are
            full_pass(model, tokenizer, other, layers, tmp_path)


def test_shares_are_those_of_the_engine(asked, passed):
    model, tokenizer, records = asked
    rows = kept_evidence(model, passed, LAYERS, {"random": RandomScorer()}, (0.3,))
    for task, each in passed:
        ids = torch.tensor([encode_record(model, tokenizer, records[task])[1]])
        row = next(row for row in rows if (row["task"], row["score"], row["pool"]) == (task, "random", "1"))
        assert row["layers"] == [*LAYERS] and row["n"] == 1
        for layer, share in zip(LAYERS, row["share"], strict=True):
            with TokenPruning(PruningSchedule((layer,), 0.3), RandomScorer())(model) as trace, torch.no_grad():
                model(input_ids=ids)
            kept = each.evidence[trace.kept_positions[layer][0]].sum() / each.evidence.sum()
            assert share == pytest.approx(float(kept), abs=1e-4)


def test_a_score_that_knows_the_evidence_keeps_all_of_it(asked, passed):
    known = [(task, FullPass(**{**vars(each), "saliency": each.evidence.float().expand(len(LAYERS), -1)}))
             for task, each in passed]  # fmt: skip
    rows = kept_evidence(asked[0], known, LAYERS, {}, (0.5,))
    alone = [row for row in rows if (row["score"], row["pool"]) == ("oracle", "1")]
    assert len(alone) == 2 and all(row["whole"] == [1.0] * 3 and row["ci95"] == [[1.0, 1.0]] * 3 for row in alone)


def test_the_reading_of_last_tokens_is_the_scorer_of_that_window(asked, passed):
    for _, each in passed:
        hidden, context = each.at(asked[0], 3)
        found = Reading(16).scores(*attention_of(hidden, context, each.question))
        torch.testing.assert_close(found, LastWindowAttentionScorer(16).score(3, hidden, context)[0])
        found = STRONGEST.scores(*attention_of(hidden, context, each.question))
        torch.testing.assert_close(found, StrongestHeadScorer().score(3, hidden, context)[0])


def test_the_question_alone_is_read():
    paid, question = torch.rand(2, 5, 9), torch.tensor([False, True, True, False, False])
    values = torch.rand(2, 9)
    assert torch.equal(Reading(QUESTION, "max", "max").scores(paid, values, question), paid[:, 1:3].amax((0, 1)))
    weighed = Reading(2, "max", "mean", True).scores(paid, values, question)
    torch.testing.assert_close(weighed, (paid[:, 3:].mean(1) * values).amax(0))
    assert len({str(reading) for reading in READINGS}) == len(READINGS)


@given(st.lists(st.integers(-9, 9), min_size=14, max_size=40), st.data())
def test_pooled_scores_are_those_of_neighbours_or_of_the_sentence(values, data):
    scores = torch.tensor([values, values[::-1]], dtype=torch.float)
    ends = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    sentence = torch.tensor([0, *ends[1:]]).cumsum(0)
    for how in POOLS[1:]:
        kind, width = how.split()
        for i in range(len(values)):
            if width == "sentence":
                around = scores[:, sentence == sentence[i]]
            else:
                around = scores[:, max(0, i - int(width) // 2) : i + int(width) // 2 + 1]
            wanted = around.mean(1) if kind == "mean" else around.amax(1)
            torch.testing.assert_close(pooled(scores, how, sentence)[:, i], wanted)


def test_the_best_are_named_and_shown(asked, passed):
    rows = kept_evidence(asked[0], passed, LAYERS)
    names = best(rows, 0.3, (1, 3), 4)
    assert len(names) == 4 and "oracle" not in {score for score, _ in names}
    text = evidence_table(rows, "needle", 0.3, [("oracle", "1"), *names])
    assert text.count("\n") == 6 and "layer 4" in text and "| oracle" in text
    curves = {"oracle": ("oracle", "1"), "best": names[0]}
    figure = evidence_curves(rows, ("needle", "documents_qa"), (0.5, 0.3), curves)
    assert len(figure.axes) == 4 and figure.axes[0].lines[0].get_xdata().tolist() == [*LAYERS]


def test_the_study_ranks_scores_and_follows_some_over_the_layers(asked, passed):
    found = study(asked[0], passed, at=(1, 4))
    assert {tuple(row["layers"]) for row in found["ranking"]} == {(1, 4)}
    assert {tuple(row["layers"]) for row in found["curves"]} == {LAYERS}
    assert {row["task"] for row in found["curves"]} == {"needle", "documents_qa"}
    page = study_page(found, model="tiny", tokens=400, limit=1)
    assert {*SHOWN.values()} <= {(row["score"], row["pool"]) for row in found["curves"]}
    assert page.count("\n## ") == 10 and "later layers, question" in page and "| random" in page


def test_what_later_layers_look_at_is_the_last_layer_s_attention_there(asked, passed):
    rows = later_layers(asked[0], passed, (0.5,))
    own = kept_evidence(asked[0], passed, LAYERS, {}, (0.5,), (ASKED,), ("mean 7",))
    last = {row["task"]: row["share"][-1] for row in own if row["score"] == str(ASKED)}
    assert {row["task"]: row["share"][-1] for row in rows} == last
