"""Whole sentences kept or dropped together."""

import pytest
import torch
from helpers import (
    assert_rows_keep_what_they_keep_alone,
    generate,
    random_prompts,
    schedule_of,
    tiny_model,
    tiny_pruner,
)
from hypothesis import given
from hypothesis import strategies as st
from small_records import small_tokenizer

from sdtp_lib.evaluation.oracle import OracleScorer
from sdtp_lib.pruning.context import TokenPruning
from sdtp_lib.pruning.scoring import ScoringContext
from sdtp_lib.scorers.blend import BlendScorer
from sdtp_lib.scorers.pooled import PooledScorer
from sdtp_lib.scorers.sentences import SentenceScorer, sentence_ends
from sdtp_lib.scorers.simple import RandomScorer

END = 7


class Given:
    def __init__(self, scores):
        self.scores = scores

    def score(self, layer, hidden_states, context):
        return self.scores


def scored(scores, ids, mask=None):
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    context = ScoringContext(torch.nn.Identity(), mask, None, None, 0, ids=ids)
    return SentenceScorer(Given(scores), (END,)).score(1, scores[..., None], context)


@given(st.lists(st.tuples(st.integers(-9, 9), st.booleans()), min_size=1, max_size=30), st.integers(0, 3))
def test_each_token_gets_the_highest_score_of_its_sentence(tokens, pads):
    values, ends = zip(*tokens, strict=True)
    sentences, wanted = [[]], []
    for value, end in tokens:
        sentences[-1].append(value)
        if end:
            sentences.append([])
    for some in sentences:
        wanted += [max(some)] * len(some) if some else []
    scores = torch.tensor([[99.0] * pads + [float(value) for value in values]])
    ids = torch.tensor([[0] * pads + [END if end else 1 for end in ends]])
    mask = torch.tensor([[False] * pads + [True] * len(values)])
    assert scored(scores, ids, mask)[0, pads:].tolist() == wanted


def test_a_score_that_is_not_finite_is_still_told():
    found = scored(torch.tensor([[1.0, float("nan"), 2.0, 3.0]]), torch.tensor([[1, 1, END, 1]]))
    assert not found[0, 1].isfinite()


def test_the_engine_keeps_whole_sentences_of_what_is_present_in_every_row():
    model, schedule = tiny_model(), schedule_of(0.5)
    pruning = TokenPruning(schedule, SentenceScorer(RandomScorer(), (5, 6, 7, 8, 9, 10, 11)))
    ids, mask = random_prompts((40, 23, 31))
    assert_rows_keep_what_they_keep_alone(model, pruning, ids, mask)


@pytest.mark.parametrize("around", [lambda each: PooledScorer(each, 3), lambda each: BlendScorer(RandomScorer(), each)])
def test_sentences_may_be_pooled_and_blended(around):
    model, (ids, _) = tiny_model(), random_prompts((40,))
    with TokenPruning(schedule_of(0.5), around(SentenceScorer(RandomScorer(), (5, 6, 7))))(model) as trace:
        generate(model, ids, torch.ones_like(ids), 2)
    assert trace.pruned


def test_a_scorer_is_handed_the_ids_of_the_tokens_that_are_left():
    seen = {}

    class Looks:
        reads_ids = True

        def score(self, layer, hidden_states, context):
            seen[layer] = context.ids, context.columns
            return RandomScorer().score(layer, hidden_states, context)

    model = tiny_model()
    ids, mask = random_prompts((30,))
    with TokenPruning(schedule_of(0.6), Looks())(model):
        generate(model, ids, mask, 2)
    assert len(seen) == 3
    for found, columns in seen.values():
        assert torch.equal(found, ids.gather(1, columns))


def test_bad_input_is_named():
    model = tiny_model()
    ids, _ = random_prompts((30,))
    embeds = model.get_input_embeddings()(ids)
    with pytest.raises(ValueError, match="whole sentences need input_ids"):
        with TokenPruning(schedule_of(0.6), SentenceScorer(RandomScorer(), (END,)))(model), torch.no_grad():
            model(inputs_embeds=embeds)
    with pytest.raises(ValueError, match="no token ends a sentence"):
        SentenceScorer(RandomScorer(), ())
    with pytest.raises(ValueError, match="cannot be taken sentence by sentence"):
        SentenceScorer(OracleScorer(), (END,))
    with pytest.raises(ValueError, match="hidden size"):
        SentenceScorer(tiny_pruner((2,)), (END,)).check(3, (2,))


def test_ends_are_those_of_sentences_and_lines():
    tokenizer = small_tokenizer()
    texts = {tokenizer.decode([token]) for token in sentence_ends(tokenizer)}
    assert "." in texts and any("\n" in text for text in texts)
    assert not any(text.strip(" ").isalnum() for text in texts)
