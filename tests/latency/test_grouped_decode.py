"""Decode attention over groups of query heads equals sdpa, in the full and in the pruned model."""

import pytest
import torch
from helpers import check_against_reference, close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner

from sdtp_lib import TokenPruning
from sdtp_lib.latency import grouped_decode as decode_attention
from sdtp_lib.latency.grouped_decode import grouped_decode

GROUPED_FAMILIES = ("llama", "mistral-window", "demo", "gemma3", "mixtral")  # two query heads share keys and values


@pytest.mark.parametrize("lengths", [(40,), (40, 23, 31)], ids=["one", "padded"])
@pytest.mark.parametrize("family", GROUPED_FAMILIES)
def test_the_full_model_says_the_same(family, lengths):
    model, (ids, mask) = tiny_model(family), random_prompts(lengths)
    wanted, expected = generate(model, ids, mask)
    with grouped_decode(model):
        new, logits = generate(model, ids, mask)
    assert torch.equal(new, wanted) and close(logits, expected)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("lengths", [(40,), (40, 23, 31)], ids=["one", "padded"])
@pytest.mark.parametrize("family", GROUPED_FAMILIES)
def test_the_pruned_model_equals_the_reference(family, lengths):
    model = tiny_model(family)
    with grouped_decode(model):
        check_against_reference(model, schedule_of(), lengths)


def test_either_order_of_the_blocks():
    model, schedule, (ids, mask) = tiny_model("llama"), schedule_of(), random_prompts((40,))
    pruning = TokenPruning(schedule, tiny_pruner(schedule.layers))
    with pruning(model), grouped_decode(model):
        inner = generate(model, ids, mask)
    with grouped_decode(model), pruning(model):
        outer = generate(model, ids, mask)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(inner, outer, strict=True))


def test_steps_really_take_it(monkeypatch):
    shapes, real = [], decode_attention.scaled_dot_product_attention

    def watched(query, *args, **kwargs):
        shapes.append(tuple(query.shape))
        return real(query, *args, **kwargs)

    monkeypatch.setattr(decode_attention, "scaled_dot_product_attention", watched)
    model, (ids, mask) = tiny_model("llama"), random_prompts((12,))
    with grouped_decode(model):
        generate(model, ids, mask, steps=3)
    assert shapes == [(1, 2, 2, 8)] * 2 * 6  # KV heads, heads of a group, head_dim; two steps of six layers


def test_it_leaves_the_model_as_it_was_also_through_an_exception():
    model = tiny_model("llama")
    with pytest.raises(KeyError), grouped_decode(model):
        raise KeyError
    assert model.config._attn_implementation == "sdpa"


def test_other_attention_is_refused():
    with pytest.raises(ValueError, match="grouped_decode works on sdpa attention, this model runs 'eager'"):
        grouped_decode(tiny_model("llama", "eager")).__enter__()
