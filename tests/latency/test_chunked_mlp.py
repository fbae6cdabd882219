"""MLPs over slices: the same results, small intermediate tensors, and nothing left on the model."""

from contextlib import ExitStack, contextmanager

import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from helpers import FAMILIES, HIDDEN, close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner

from sdtp_lib import TokenPruning
from sdtp_lib.latency.chunked_mlp import chunked_mlp
from sdtp_lib.pruning.families import ModelAdapter

TOKENS, LAYERS, STEPS = 16, 4, 2
PROMPTS = pytest.mark.parametrize("lengths", [[50], [50, 23]], ids=["one", "padded"])


def mlps(model):
    return [layer.mlp for layer in ModelAdapter.of(model).layers]


@contextmanager
def rows_seen(mlp):
    """Rows of each call on the first part of an MLP."""
    seen = []
    part = next(mlp.children())
    hook = part.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[:-1].numel()))
    yield seen
    hook.remove()


@PROMPTS
@pytest.mark.parametrize("family", FAMILIES)
def test_slices_give_the_same(family, lengths):
    model, (ids, mask) = tiny_model(family, None, LAYERS), random_prompts(lengths)
    new, logits = generate(model, ids, mask, STEPS)
    with chunked_mlp(model, TOKENS), rows_seen(mlps(model)[2]) as rows:
        ours, our_logits = generate(model, ids, mask, STEPS)
    assert close(our_logits, logits) and torch.equal(ours, new)
    *prefill, decode = rows
    assert decode == len(lengths) and sum(prefill) == ids.numel()
    assert len(prefill) > 1 and max(prefill) <= TOKENS
    assert max(prefill) - min(prefill) < len(prefill)  # no small slice at the end, which would be slow


@PROMPTS
@pytest.mark.parametrize("pruned_first", [True, False])
@pytest.mark.parametrize("family", ["mistral", "bloom", "gpt_oss"])
def test_together_with_pruning(family, pruned_first, lengths):
    model, (ids, mask), schedule = tiny_model(family, None, LAYERS), random_prompts(lengths), schedule_of(layers=(1, 3))
    pruning = TokenPruning(schedule, tiny_pruner(schedule.layers))
    with pruning(model) as trace:
        new, logits = generate(model, ids, mask, STEPS)
    expected, kept = trace.kv_lengths, trace.kept_positions
    with ExitStack() as stack:
        if pruned_first:
            trace = stack.enter_context(pruning(model))
        stack.enter_context(chunked_mlp(model, TOKENS))
        if not pruned_first:
            trace = stack.enter_context(pruning(model))
        rows = stack.enter_context(rows_seen(mlps(model)[3]))
        ours, our_logits = generate(model, ids, mask, STEPS)
    assert close(our_logits, logits) and torch.equal(ours, new)
    assert trace.kv_lengths == expected
    assert all(torch.equal(trace.kept_positions[layer], kept[layer]) for layer in schedule.layers)
    assert max(rows) <= TOKENS and sum(rows[:-1]) == len(lengths) * schedule.lengths(50, LAYERS)[3]


def test_short_inputs_go_through_whole():
    model, (ids, mask) = tiny_model(layers=2), random_prompts([40])
    for tokens in (40, 2048):
        with chunked_mlp(model, tokens), rows_seen(mlps(model)[0]) as rows:
            model(ids, attention_mask=mask)
        assert rows == [40]


def test_every_output_of_a_layer_that_returns_several():
    model = tiny_model("gpt_oss", None, 1)
    hidden = torch.randn(3, 10, HIDDEN)
    mlp = mlps(model)[0]
    whole = mlp(hidden)
    with chunked_mlp(model, 7):
        parts = mlp(hidden)
    assert type(parts) is type(whole) is tuple and [x.shape for x in parts] == [x.shape for x in whole]
    assert all(close(ours, theirs) for ours, theirs in zip(parts, whole, strict=True))


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_inputs_that_are_not_contiguous_and_keywords(family):
    model = tiny_model(family, None, 1)
    mlp, inputs = (
        mlps(model)[0],
        [torch.randn(20, 2, HIDDEN).transpose(0, 1) for _ in range(2 if family == "bloom" else 1)],
    )
    names = ("hidden_states", "residual") if family == "bloom" else ("x",)
    whole = mlp(*inputs)
    with chunked_mlp(model, 7):
        assert close(mlp(*inputs), whole) and close(mlp(**dict(zip(names, inputs, strict=True))), whole)


def test_hooks_of_the_mlp_see_the_whole():
    model, seen = tiny_model(layers=2), []
    ids, mask = random_prompts([40])
    with chunked_mlp(model, TOKENS):
        mlps(model)[1].register_forward_hook(lambda module, args, output: seen.append((args[0].shape, output.shape)))
        model(ids, attention_mask=mask)
    assert seen == [2 * (torch.Size([1, 40, HIDDEN]),)]


def test_gradients_are_the_same():
    model = tiny_model(layers=2).requires_grad_(True)
    ids, mask = random_prompts([40, 23])
    found = []
    for tokens in (2048, TOKENS):
        model.zero_grad()
        with chunked_mlp(model, tokens):
            model(ids, attention_mask=mask).logits.square().mean().backward()
        found.append([weights.grad.clone() for weights in model.parameters()])
    assert all(close(ours, whole) for whole, ours in zip(*found, strict=True))


def test_nothing_is_left_on_the_model():
    model = tiny_model(layers=2)
    before = [dict(vars(module)) for module in model.modules()]
    with pytest.raises(KeyError), chunked_mlp(model, TOKENS), chunked_mlp(model, 8):
        assert "forward" in vars(mlps(model)[0])
        raise KeyError
    assert [dict(vars(module)) for module in model.modules()] == before


def test_a_forward_that_was_wrapped_before_is_put_back():
    model, (ids, mask) = tiny_model(layers=2), random_prompts([40])
    mlp = mlps(model)[0]
    add_hook_to_module(mlp, ModelHook())
    wrapped = mlp.forward
    with chunked_mlp(model, TOKENS), rows_seen(mlp) as rows:
        model(ids, attention_mask=mask)
    assert len(rows) == 3 and mlp.forward is wrapped
    remove_hook_from_module(mlp)
    assert mlp.forward.__func__ is type(mlp).forward
    assert "forward" not in vars(mlps(model)[1])


def test_offloaded_layers(tmp_path):
    (ids, mask), places = random_prompts([40, 23]), {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    places |= {"model.rotary_emb": "cpu"} | {f"model.layers.{layer}": "disk" for layer in range(2)}
    expected = tiny_model(layers=2)(ids, attention_mask=mask).logits
    model = dispatch_model(tiny_model(layers=2), places, main_device="cpu", offload_dir=tmp_path)
    with chunked_mlp(model, TOKENS):
        assert close(model(ids, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("tokens", [0, -1, 1.5, 2.0, True, None, "8"])
def test_bad_tokens_are_refused(tokens):
    model = tiny_model(layers=1)
    with pytest.raises(ValueError, match="tokens must be a whole number of 1 or more"), chunked_mlp(model, tokens):
        raise AssertionError("entered")
    assert "forward" not in vars(mlps(model)[0])


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="'Linear' is not supported"), chunked_mlp(torch.nn.Linear(2, 2)):
        raise AssertionError("entered")
