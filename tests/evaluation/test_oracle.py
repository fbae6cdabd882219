"""The oracle: the saliency of the right answer, row by row, looked up by column after every cut."""

import pytest
import torch
from helpers import VOCABULARY, generate, random_prompts, schedule_of, tiny_model
from small_records import small_model, small_records, small_tokenizer

from sdtp_lib import PruningSchedule, TokenPruning
from sdtp_lib.data.corpora import longbench_records
from sdtp_lib.data.demo.corpus import TASKS
from sdtp_lib.evaluation.answers import score_records
from sdtp_lib.evaluation.longbench import measure
from sdtp_lib.evaluation.methods import METHODS
from sdtp_lib.evaluation.oracle import OracleScorer
from sdtp_lib.evaluation.prompts import build_prompt, encode_answer
from sdtp_lib.models import load_model
from sdtp_lib.training.saliency import token_saliency

LENGTHS, LAYERS = [40, 23, 31], (2, 3, 5)


class Recording(OracleScorer):
    """Remembers what it was asked for, and what it answered."""

    def score(self, layer, hidden_states, context):
        scores = super().score(layer, hidden_states, context)
        self.__dict__.setdefault("seen", []).append((layer, context.columns, scores))
        return scores


def batch(lengths=LENGTHS, seed=4):
    """(input_ids, attention_mask, prompts, answers)"""
    ids, mask = random_prompts(lengths)
    prompts = [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    answers = [torch.randint(2, VOCABULARY, (3 + row,), generator=generator).tolist() for row in range(len(lengths))]
    return ids, mask, prompts, answers


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma2"])
@pytest.mark.parametrize("positions", ["original", "compact"])
def test_every_stage_gets_the_saliency_of_the_columns_left(family, positions):
    if (family, positions) == ("bloom", "compact"):
        pytest.skip("refused by name: ALiBi keeps its original positions")
    model, scorer = tiny_model(family, None), Recording()
    ids, mask, prompts, answers = batch()
    with torch.inference_mode():  # as `score_records` runs
        scorer.show(model, LAYERS, prompts, answers)
        with TokenPruning(schedule_of(layers=LAYERS), scorer, positions)(model) as trace:
            generate(model, ids, mask)
    assert [layer for layer, *_ in scorer.seen] == list(LAYERS)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        whole = torch.tensor([prompt + answer])
        asked = torch.arange(whole.shape[1])[None] >= len(prompt)
        saliency = token_saliency(model, whole, torch.ones_like(whole), asked, LAYERS)[0]
        for stage, (_, columns, scores) in enumerate(scorer.seen):
            here = columns[row] >= 0
            wanted = saliency[stage][columns[row][here] - (max(LENGTHS) - len(prompt))]
            torch.testing.assert_close(scores[row][here], wanted)
    assert (trace.kept_positions[5] >= 0).sum(1).tolist() == [schedule_of().lengths(n, 6)[-1] for n in LENGTHS]


def test_a_padded_row_keeps_what_it_keeps_alone():
    model, scorer = tiny_model(), OracleScorer()
    ids, mask, prompts, answers = batch()
    pruning = TokenPruning(schedule_of(), scorer)
    scorer.show(model, LAYERS, prompts, answers)
    with pruning(model) as together:
        generate(model, ids, mask)
    for row, length in enumerate(LENGTHS):
        scorer.show(model, LAYERS, prompts[row : row + 1], answers[row : row + 1])
        with pruning(model) as alone:
            generate(model, ids[row : row + 1, -length:], mask[row : row + 1, -length:])
        for layer in LAYERS:
            kept = together.kept_positions[layer][row]
            pads = max(LENGTHS) - length
            assert (kept[kept >= 0] - pads).tolist() == alone.kept_positions[layer][0].tolist()


def test_the_oracle_must_be_shown_the_batch():
    model, scorer = tiny_model(), OracleScorer()
    ids, mask, prompts, answers = batch()
    pruning = TokenPruning(schedule_of(), scorer)
    with pytest.raises(ValueError, match="must be shown this batch"), pruning(model):
        generate(model, ids, mask)
    scorer.show(model, LAYERS, prompts[:2], answers[:2])
    with pytest.raises(ValueError, match="must be shown this batch"), pruning(model):
        generate(model, ids, mask)
    with pytest.raises(ValueError, match="row 1 has an empty answer"):
        scorer.show(model, LAYERS, prompts[:2], [[5], []])
    scorer.show(model, (), prompts, answers)  # nothing is going to be cut
    assert scorer.saliency is None and not any(p.requires_grad for p in model.parameters())


def test_records_show_their_first_answer():
    tokenizer, record = small_tokenizer(), small_records()[0]
    answer = encode_answer(tokenizer, record, build_prompt(record))
    assert tokenizer.decode(answer) == TASKS[record["dataset"]].before + record["answers"][0]
    hub = {"dataset": "qasper", "answers": ["Oslo"]}
    for prompt, wanted in (("Answer:", " Oslo"), ("Answer: ", "Oslo"), ("A\n", "Oslo")):
        assert tokenizer.decode(encode_answer(tokenizer, hub, prompt)) == wanted
    assert tokenizer.decode(encode_answer(tokenizer, {**hub, "dataset": "lcc"}, "x = (")) == "Oslo"
    assert len(encode_answer(tokenizer, {**hub, "answers": ["Oslo " * 200]}, "A:")) == 128


def test_records_do_not_depend_on_the_batch():
    schedule = PruningSchedule(layers=(2, 4), keep_ratio=0.7, min_local_tokens=8)
    model, tokenizer, records = small_model(), small_tokenizer(), small_records()
    pruning = TokenPruning(schedule, OracleScorer())
    together, alone = (score_records(model, tokenizer, records, pruning, batch_size=size) for size in (4, 1))
    assert together == alone


def test_on_the_demo_the_oracle_beats_chance_and_the_new_methods_keep_the_budget():
    model, tokenizer = load_model("demo", dtype="float32", device="cpu")
    records = longbench_records("singledoc_qa", "mini", 5)
    oracle, heavy, random = (measure(model, tokenizer, records, name)[0] for name in ("oracle", "h2o", "random"))
    assert oracle["average"] >= random["average"] and oracle["average"] >= 75
    assert oracle["compression"] == heavy["compression"] == random["compression"] > 1.3
    assert {"oracle", "h2o"} < set(METHODS)


def test_another_batch_than_the_one_shown_is_refused():
    model, scorer = tiny_model(), OracleScorer()
    ids, mask, prompts, answers = batch()
    scorer.show(model, LAYERS, prompts, answers)
    for other in (ids[:, :30], ids.flip(0), torch.cat([ids, ids], dim=1), ids[:2]):
        with TokenPruning(schedule_of(layers=LAYERS), scorer)(model), torch.no_grad():
            with pytest.raises(ValueError, match="must be shown this batch"):
                model(other)
