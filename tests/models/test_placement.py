"""A model spread over several devices: what was kept travels with the hidden states."""

import copy
import json

import pytest
import torch
from accelerate import dispatch_model
from helpers import close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner

from sdtp_lib import PruningSchedule, TokenPruning
from sdtp_lib.evaluation.methods import BASELINES
from sdtp_lib.latency.files import check_alike
from sdtp_lib.models.loading import SHAPES, load_model, load_pruner
from sdtp_lib.models.placement import pick_device
from sdtp_lib.models.provenance import environment_record
from sdtp_lib.options import DEVICE_MAPS

LAYERS = 6
SMALL = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=97,
)  # fmt: skip
PLACES = {
    "disk": ["cpu", "cpu", "disk", "disk", "cpu", "disk"],
    "all-on-disk": ["disk"] * LAYERS,
}


def test_pick_device():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_device_that_is_not_there_is_refused_by_name(device):
    with pytest.raises(ValueError, match=device):
        pick_device(device)


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


@pytest.mark.parametrize("method", [name for name in BASELINES if name != "bm25"])  # which reads no layer
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


def test_a_model_loaded_over_cpu_and_disk_decodes_the_same(tmp_path):
    """By the library's own loader; the prefill and 8 decode steps."""
    tiny_model("qwen2").save_pretrained(tmp_path / "model")
    device_map = {f"model.layers.{layer}": "disk" if layer in (1, 3, 5) else "cpu" for layer in range(LAYERS)}
    device_map |= {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    schedule, (ids, mask) = schedule_of(), random_prompts([40, 23])
    pruning, found = TokenPruning(schedule, tiny_pruner(schedule.layers)), []
    for options in ({"device": "cpu"}, {"device_map": device_map}):
        model, _ = load_model(tmp_path / "model", "float32", **options)
        with pruning(model) as trace:
            found.append((*generate(model, ids, mask, steps=9), trace.kept_positions))
    assert sum(weight.is_meta for weight in model.model.layers[3].parameters()) > 0 and not model.training
    assert environment_record(model)["devices"] == ["cpu", "disk"]
    (tokens, logits, kept), (new, ours, spread) = found
    assert logits.shape[1] == 9 and torch.equal(new, tokens) and close(ours, logits)
    assert all(torch.equal(spread[layer], kept[layer]) for layer in schedule.layers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_split_between_gpu_and_cpu_gives_the_tokens_of_the_gpu_alone(tmp_path):
    tiny_model("qwen2").save_pretrained(tmp_path / "model")
    device_map = {f"model.layers.{layer}": 0 if layer < 4 else "cpu" for layer in range(LAYERS)}
    device_map |= {"model.embed_tokens": 0, "model.norm": 0, "model.rotary_emb": 0, "lm_head": 0}
    schedule, (ids, mask), found = schedule_of(), random_prompts([40, 23]), []
    for options in ({"device": "cuda"}, {"device_map": device_map}):
        model, _ = load_model(tmp_path / "model", "float32", **options)
        with TokenPruning(schedule, tiny_pruner(schedule.layers))(model) as trace:
            new, logits = generate(model, ids.cuda(), mask.cuda(), steps=9)
        found.append((new, logits, [trace.kept_positions[layer].cpu() for layer in schedule.layers]))
    assert environment_record(model)["devices"] == ["0", "cpu"]
    (tokens, expected, kept), (new, ours, spread) = found
    assert torch.equal(new, tokens) and close(ours, expected) and all(map(torch.equal, spread, kept))


def test_other_device_maps_are_refused():
    with pytest.raises(ValueError, match="unknown device map 'everywhere'; known: auto, balanced"):
        load_model("scaled-mistral", device_map="everywhere")


@pytest.mark.parametrize("device_map", DEVICE_MAPS)
def test_a_shape_is_laid_over_the_devices_there_are(monkeypatch, device_map):
    monkeypatch.setitem(SHAPES, "small", SMALL)
    alone, _ = load_model("small", "float32", "cpu")
    spread, _ = load_model("small", "float32", device_map=device_map)
    ids = random_prompts([20])[0] % SMALL["vocab_size"]
    if not torch.cuda.is_available():
        assert torch.equal(spread(ids).logits, alone(ids).logits)
    pruner = load_pruner(None, spread, PruningSchedule((1,)))
    with TokenPruning(PruningSchedule((1,), keep_ratio=0.5, min_local_tokens=2), pruner)(spread) as trace:
        spread.generate(ids.to(spread.device), max_new_tokens=2)
    assert trace.kv_lengths[0] == 20 > trace.kv_lengths[1]


def test_speedups_of_other_devices_are_not_put_side_by_side():
    one, two = ({"metadata": {"device": "GPU", "devices": devices}} for devices in (None, ["0", "1"]))
    with pytest.raises(ValueError, match=r"b.json has devices \['0', '1'\], but a.json has None"):
        check_alike({"a.json": one, "b.json": two}, "prefill")


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
