"""Every supported family against the full model under explicit masks: both attentions, padding, presets, positions."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from helpers import (
    FAMILIES,
    LOCAL_WINDOW,
    VOCABULARY,
    Reference,
    check_against_reference,
    close,
    generate,
    random_prompts,
    schedule_of,
    tiny_model,
    tiny_pruner,
)

from sdtp_lib import PruningSchedule, TokenPruning

LAYERS = 6
STEPS = 9  # the prefill and eight decode steps
PROMPTS = {"one": [40], "padded": [40, 23, 31, 9]}
ATTENTIONS = ["sdpa", "eager"]
cached_model = lru_cache(maxsize=None)(tiny_model)


def model_of(family, attention=None, dtype=torch.float32):
    """The shared tiny model; skips the test where the architecture refuses this attention."""
    try:
        return cached_model(family, attention, LAYERS, dtype=dtype)
    except ValueError as refusal:
        pytest.skip(f"{family} with {attention}: {refusal}")


def has_rotary(model):
    return hasattr(model.base_model, "rotary_emb")


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("preset", ["paper", "keep07"])
@pytest.mark.parametrize("lengths", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_masked_full_model(family, attention, lengths, preset, positions):
    model = model_of(family, attention)
    if positions == "compact" and not has_rotary(model):
        pytest.skip(f"{family} has no rotary positions to renumber")
    schedule = replace(PruningSchedule.preset(preset, LAYERS, first=2), min_local_tokens=3, sink_tokens=2)
    check_against_reference(model, schedule, lengths, positions, steps=STEPS)


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_of_both_types_between_two_cuts(family, attention, positions):
    """The presets cut such a shallow model at every layer; here layers with and without a window share one stage."""
    model = model_of(family, attention)
    if positions == "compact" and not has_rotary(model):
        pytest.skip(f"{family} has no rotary positions to renumber")
    check_against_reference(model, schedule_of(layers=(1, 4)), PROMPTS["padded"], positions, steps=STEPS)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_later_chunk_attends_the_pruned_past(family, attention):
    model, schedule, lengths = model_of(family, attention), schedule_of(), [40, 23]
    pruner, (ids, mask) = tiny_pruner(schedule.layers), random_prompts(lengths)
    chunk = random_prompts([LOCAL_WINDOW + 3] * 2, seed=5)[0]
    longer = torch.cat([mask, torch.ones_like(chunk)], dim=1)
    with TokenPruning(schedule, pruner)(model), torch.no_grad():
        past = model(ids, attention_mask=mask, use_cache=True).past_key_values
        logits = model(chunk, attention_mask=longer, past_key_values=past).logits
    for row, length in enumerate(lengths):
        sequence = torch.cat([ids[row, 40 - length :], chunk[row]])
        expected, _ = Reference(model, schedule, pruner).run(sequence, length)
        assert close(logits[row], expected[length:])


def test_compact_positions_are_refused_where_there_are_none():
    without = [family for family in FAMILIES if not has_rotary(model_of(family))]
    assert without == ["bloom"]
    schedule = schedule_of()
    pruning = TokenPruning(schedule, tiny_pruner(schedule.layers), positions="compact")
    for family in without:
        with pytest.raises(ValueError, match="ALiBi"), pruning(model_of(family)):
            pass


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["float32", "bfloat16", "float16"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_everything_is_bit_equal_to_the_stock_model(family, dtype):
    model, schedule = model_of(family, dtype=dtype), schedule_of(keep=1.0)
    ids, mask = random_prompts([30, 17])
    stock = generate(model, ids, mask)
    with TokenPruning(schedule, tiny_pruner(schedule.layers).to(dtype))(model) as trace:
        ours = generate(model, ids, mask)
    assert stock[1].isfinite().all()
    assert torch.equal(stock[0], ours[0]) and torch.equal(stock[1], ours[1])
    assert not trace.pruned and "keep_ratio" in trace.reason


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_reference_that_cuts_nothing_is_the_stock_model(family, attention):
    model, ids = model_of(family, attention), random_prompts([45])[0]
    with torch.no_grad():
        stock = model(ids).logits[0]
    pruner = tiny_pruner((2, 3, 5))
    for positions in ("original", "compact") if has_rotary(model) else ("original",):
        uncut, kept = Reference(model, schedule_of(keep=1.0), pruner, positions).run(ids[0], 40)
        assert kept == dict.fromkeys((2, 3, 5), list(range(40))) and close(uncut, stock)
        cut, kept = Reference(model, schedule_of(), pruner, positions).run(ids[0], 40)
        assert len(kept[5]) == 13 and not torch.allclose(cut[39:], stock[39:], rtol=0, atol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_models_look_back(family):
    """A comparison of masks is empty on a model whose attention hardly matters."""
    model, ids = model_of(family), random_prompts([45])[0]
    changed = ids.clone()
    changed[0, 20] = (ids[0, 20] + 1) % VOCABULARY
    with torch.no_grad():
        before, after = model(ids).logits[0], model(changed).logits[0]
    assert before.isfinite().all() and torch.equal(before[:20], after[:20])
    assert ((before - after).abs().amax(-1) / before.abs().max())[20:].amin() > 1e-2
    if getattr(model.config, "sliding_window", None) is not None:
        assert model.config.sliding_window == LOCAL_WINDOW
