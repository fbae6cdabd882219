"""A model spread over several devices: what was kept travels with the hidden states."""

import copy
import json

import pytest
import torch
from accelerate import dispatch_model
from helpers import close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner

from sdtp_lib import TokenPruning
from sdtp_lib.baselines import BASELINES

LAYERS = 6
PLACES = {
    "disk": ["cpu", "cpu", "disk", "disk", "cpu", "disk"],
    "all-on-disk": ["disk"] * LAYERS,
}


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("lengths", [[40], [40, 23]], ids=["one", "padded"])
@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral"])
@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_offloaded_layers_give_the_same(tmp_path, places, family, lengths, positions):
    schedule, (ids, mask) = schedule_of(), random_prompts(lengths)
    pruning = TokenPruning(schedule, tiny_pruner(schedule.layers), positions=positions)
    whole = tiny_model(family)
    with pruning(whole) as trace:
        expected = generate(whole, ids, mask)[1]
    device_map = {f"model.layers.{layer}": place for layer, place in enumerate(places)}
    device_map |= {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    model = dispatch_model(tiny_model(family), device_map, main_device="cpu", offload_dir=tmp_path)
    assert any(weight.is_meta for weight in model.parameters())
    with pruning(model) as spread:
        assert close(generate(model, ids, mask)[1], expected)
    assert spread.kv_lengths == trace.kv_lengths
    assert all(torch.equal(spread.kept_positions[x], trace.kept_positions[x]) for x in schedule.layers)


@pytest.mark.parametrize("method", BASELINES)
def test_every_baseline_scores_offloaded_layers(tmp_path, method):
    schedule, (ids, mask) = schedule_of(), random_prompts([40])
    pruning, kept = TokenPruning(schedule, BASELINES[method]()), []
    device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    device_map |= {f"model.layers.{layer}": "disk" for layer in range(LAYERS)}
    spread = dispatch_model(tiny_model(), device_map, main_device="cpu", offload_dir=tmp_path)
    for model in (tiny_model(), spread):
        with pruning(model) as trace:
            generate(model, ids, mask)
        kept.append(trace.kept_positions[5])
    assert torch.equal(*kept)


def to_meta(value):
    """The same nested arguments, tensors on the meta device."""
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    return type(value)(map(to_meta, value)) if isinstance(value, (tuple, list)) else value


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
@pytest.mark.parametrize("lengths", [[40], [40, 23]], ids=["one", "padded"])
def test_layers_on_two_devices(lengths, family):
    """Layers from 4 on lie on a second device. It holds shapes without values, so that no tensor can stay behind on
    the first one unnoticed: an operation over both devices fails."""
    model, schedule = tiny_model(family, None), schedule_of(layers=(2, 3, 4, 5))
    layers = model.transformer.h if family == "bloom" else model.model.layers
    for layer in list(layers)[4:]:
        layer.to("meta")

        # As accelerate does: a layer's arguments are moved when it is called, after all hooks have run.
        def moved(*args, forward=layer.forward, **kwargs):
            return forward(*map(to_meta, args), **{name: to_meta(value) for name, value in kwargs.items()})

        layer.forward = moved
    tail = model.transformer.ln_f if family == "bloom" else model.model.norm
    tail.to("meta")
    model.lm_head = copy.deepcopy(model.lm_head).to("meta")  # where it is tied, the embeddings stay
    ids, mask = random_prompts(lengths)
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model) as trace, torch.no_grad():
        output = model(ids, attention_mask=mask, use_cache=True)
    expected = schedule.lengths(40, LAYERS)
    assert output.logits.device.type == "meta" and output.logits.shape[1] == expected[-1]
    assert [trace.kept_positions[layer].device.type for layer in schedule.layers] == ["cpu", "cpu", "cpu", "meta"]
    assert trace.kv_lengths == [min(n, 7) if family == "gemma3" and i != 3 else n for i, n in enumerate(expected)]
    assert str(expected[5]) in repr(trace)
    assert json.loads(trace.to_json())["prefills"][0]["kept_positions"]["5"] is None
