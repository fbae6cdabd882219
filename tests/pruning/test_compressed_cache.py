"""A cache compressed on top of pruning, by ten lines of a press that need neither kvpress nor its transformers."""

from contextlib import ExitStack, contextmanager
from functools import lru_cache

import pytest
import torch
from compression import CompressedReference, check_generation, check_later_input, held
from helpers import LOCAL_WINDOW, generate, random_prompts, schedule_of, tiny_model, tiny_pruner

from sdtp_lib import TokenPruning
from sdtp_lib.pruning.versions import find_cache

LAYERS, PROMPT = 6, 40
ATTENTIONS = ["sdpa", "eager"]
FAMILIES = ["llama", "demo", "gemma3"]  # Demo slides over a window in its first two layers, Gemma 3 in three of four
cached_model = lru_cache(maxsize=None)(tiny_model)


def staying(heads, tokens):
    """Places that each head keeps, in no particular order: it drops every third, each head another one of three."""
    gone = 3 * torch.arange(tokens // 3) + torch.arange(heads)[:, None] % 3
    stays = torch.ones(heads, tokens, dtype=torch.bool).scatter(1, gone, False)
    return stays.nonzero()[:, 1].view(heads, -1).flip(1)


@contextmanager
def dropping(model, layers):
    """In `layers`, drop every third key after the first pass through each."""
    fresh = set(layers)

    def drop(module, args, kwargs, output):
        cache = find_cache(kwargs.values()).layers[module.layer_idx]
        if module.layer_idx in fresh:
            index = staying(*cache.keys.shape[1:3])[None, :, :, None].expand(*cache.keys.shape[:2], -1, 1)
            cache.keys, cache.values = (part.take_along_dim(index, 2) for part in (cache.keys, cache.values))
            fresh.remove(module.layer_idx)

    with ExitStack() as stack:
        for layer in model.model.layers:
            stack.callback(layer.self_attn.register_forward_hook(drop, with_kwargs=True).remove)
        yield


def full_layers(model):
    """Those without a window."""
    types = getattr(model.config, "layer_types", None) or ["full_attention"] * LAYERS
    return [layer for layer, kind in enumerate(types) if kind == "full_attention"]


def pruning_of(schedule=None, **options):
    schedule = schedule or schedule_of()
    return TokenPruning(schedule, tiny_pruner(schedule.layers), **options)


def reference_of(family, positions="original"):
    model, schedule = cached_model(family, "eager"), schedule_of()

    def choose(layer, keys, attention):
        return staying(keys.shape[1], keys.shape[2]) if layer in full_layers(model) else None

    return CompressedReference(model, schedule, tiny_pruner(schedule.layers), choose, positions)


def left(model):
    """Keys of each layer after pruning and dropping; a window keeps what it can see."""
    lengths = schedule_of().lengths(PROMPT, LAYERS)
    return [n - n // 3 if layer in full_layers(model) else LOCAL_WINDOW - 1 for layer, n in enumerate(lengths)]


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_decodes_as_the_full_model_that_hides_what_was_cut_and_dropped(family, attention, positions):
    model = cached_model(family, attention)
    press, reference = dropping(model, full_layers(model)), reference_of(family, positions)
    trace = check_generation(model, pruning_of(positions=positions), press, reference)
    assert trace.pruned and trace.kv_lengths == left(model)


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("pieces", [(7, 1, 1), (1, 1, 7), (20, 1)], ids=str)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_later_input_continues_behind_the_whole_prompt(family, attention, pieces, positions):
    model = cached_model(family, attention)
    press, reference = dropping(model, full_layers(model)), reference_of(family, positions)
    trace, before, after = check_later_input(model, pruning_of(positions=positions), press, reference, pieces)
    assert held(before) == trace.kv_lengths == left(model)
    full = full_layers(model)
    assert held(after) == [n + sum(pieces) if layer in full else n for layer, n in enumerate(left(model))]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_keeping_everything_is_bit_equal_to_the_press_alone(attention):
    model, prompt = cached_model("llama", attention), random_prompts([PROMPT])
    with dropping(model, range(LAYERS)):
        alone = generate(model, *prompt)
    with pruning_of(schedule_of(keep=1.0))(model) as trace, dropping(model, range(LAYERS)):
        both = generate(model, *prompt)
    assert trace.kv_lengths == [PROMPT - PROMPT // 3] * LAYERS
    assert torch.equal(alone[0], both[0]) and torch.equal(alone[1], both[1])


@pytest.mark.parametrize("only", [0, 1, 2, 5])
def test_a_single_compressed_layer_leaves_the_others_as_they_were(only):
    """Layer 0 counts the positions, 1 comes before the first cut, 2 is the first cut, 5 the last."""
    model, schedule = cached_model("llama", "sdpa"), schedule_of()

    def choose(layer, keys, attention):
        return staying(keys.shape[1], keys.shape[2]) if layer == only else None

    stock = cached_model("llama", "eager")
    reference = CompressedReference(stock, schedule, tiny_pruner(schedule.layers), choose)
    trace, *_ = check_later_input(model, pruning_of(), dropping(model, [only]), reference, (3, 1))
    wanted = schedule.lengths(PROMPT, LAYERS)
    wanted[only] -= wanted[only] // 3
    assert trace.kv_lengths == wanted


@pytest.mark.parametrize(
    ("family", "lengths", "message"),
    [
        ("llama", [PROMPT, 31], "layer 0 was compressed, .* padded batches"),
        ("mistral-window", [PROMPT], "layer 0 was compressed, .* sliding-window layers"),
        ("demo", [PROMPT], "layer 0 was compressed, .* sliding-window layers"),
    ],
)
def test_compression_that_cannot_be_right_is_refused(family, lengths, message):
    model = cached_model(family, "sdpa")
    with pytest.raises(ValueError, match=message), pruning_of()(model), dropping(model, range(LAYERS)):
        generate(model, *random_prompts(lengths))
