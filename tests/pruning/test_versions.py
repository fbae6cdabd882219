"""Whatever transformers calls a cache, or wherever it hides it: a right answer, or an error that names its version."""

from contextlib import ExitStack, contextmanager
from functools import wraps

import pytest
import torch
import transformers
from helpers import Reference, close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from torch import nn
from transformers import Cache, DynamicCache

from sdtp_lib import TokenPruning
from sdtp_lib.pruning.versions import CACHE_NAMES, find_cache, output_cache, with_cache

SCHEDULE = schedule_of()
PRUNER = tiny_pruner(SCHEDULE.layers)
FAMILIES = ["llama", "gemma3", "bloom", "gpt_oss"]
UNSEEN = f"transformers {transformers.__version__} does this in a way that pruning does not know"


class Box:
    """A cache in a wrapping that is no `Cache`."""

    def __init__(self, cache):
        self.cache = cache


def renamed(kwargs):
    """A version that calls it `kv`."""
    return {("kv" if isinstance(value, Cache) else name): value for name, value in kwargs.items()}


def boxed(kwargs):
    return {name: Box(value) if isinstance(value, Cache) else value for name, value in kwargs.items()}


@contextmanager
def changed(module, change):
    """`module` as a version would have it whose callers say `change(kwargs)`."""
    told, forward = [], module.forward

    def outside(_, args, kwargs):
        told.append(kwargs)
        return args, change(kwargs)

    @wraps(forward)
    def inside(*args, **kwargs):
        back = {name: value for name, value in told.pop().items() if isinstance(value, Cache)}
        kept = {name: value for name, value in kwargs.items() if not isinstance(value, (Box, Cache))}
        return forward(*args, **{**kept, **back})

    handle = module.register_forward_pre_hook(outside, with_kwargs=True)
    module.forward = inside
    try:
        yield
    finally:
        handle.remove()
        del module.forward


@contextmanager
def version(model, decoder=None, layers=None, output=None):
    """A model whose decoder and layers are called, and whose decoder answers, as these functions say."""
    with ExitStack() as stack:
        (blocks,) = [part for part in model.base_model.children() if isinstance(part, nn.ModuleList)]
        for module, change in ((model.base_model, decoder), *((block, layers) for block in blocks)):
            if change is not None:
                stack.enter_context(changed(module, change))
        if output is not None:
            hook = model.base_model.register_forward_hook(lambda module, args, out: output(out))
            stack.callback(hook.remove)
        yield


def without_cache(output):
    """An output that shows its cache in a wrapping."""
    name = next(name for name, value in output.items() if isinstance(value, Cache))
    box = Box(output[name])
    dict.__setitem__(output, name, box)
    return output


def steps(model, ids, new):
    """Logits of a prefill and single steps, on a cache handed in by hand."""
    cache, logits = DynamicCache(config=model.config), []
    with torch.no_grad():
        for piece in (ids, *new.split(1, dim=1)):
            logits.append(model(piece, use_cache=True, **with_cache(model, cache)).logits[0, -1])
    return torch.stack(logits)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("where", [dict(decoder=renamed), dict(layers=renamed), dict(decoder=renamed, layers=renamed)])
def test_another_name_changes_nothing(family, where):
    model, (ids, mask), new = tiny_model(family, None), random_prompts([40]), random_prompts([3], seed=6)[0]
    expected = Reference(model, SCHEDULE, PRUNER).run(torch.cat([ids[0], new[0]]), 40)[0][39:]
    with TokenPruning(SCHEDULE, PRUNER)(model):
        wanted = generate(model, ids, mask)[1]
    with version(model, **where), TokenPruning(SCHEDULE, PRUNER)(model) as trace:
        assert close(steps(model, ids, new), expected)
        assert torch.equal(generate(model, ids, mask)[1], wanted)
    assert [prefill.tokens for prefill in trace.prefills] == [40, 40]


HIDDEN = {
    "from the engine at the decoder": dict(decoder=boxed),
    "from the engine at the layers": dict(layers=boxed),
    "everywhere but in the output": dict(decoder=boxed, layers=boxed),
    "in the output": dict(output=without_cache),
    "everywhere": dict(decoder=boxed, layers=boxed, output=without_cache),
}


@pytest.mark.parametrize("by_hand", [True, False], ids=["by-hand", "generate"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("where", HIDDEN)
def test_a_hidden_cache_is_an_error_that_names_the_version(family, where, by_hand):
    model, (ids, mask), new = tiny_model(family, None), random_prompts([40]), random_prompts([3], seed=6)[0]
    with version(model, **HIDDEN[where]):
        assert torch.isfinite(steps(model, ids, new)).all()  # this version works
        with TokenPruning(SCHEDULE, PRUNER)(model), pytest.raises(ValueError, match=UNSEEN):
            steps(model, ids, new) if by_hand else generate(model, ids, mask)


def test_a_step_whose_positions_go_on_is_no_prompt():
    """A version that counts on from a cache that nothing shows."""
    model, (ids, _) = tiny_model(), random_prompts([40])

    def layer(module, args, kwargs):
        return args, {**kwargs, "position_ids": kwargs["position_ids"] + 40}

    handle = model.model.layers[0].register_forward_pre_hook(layer, with_kwargs=True)
    with torch.no_grad(), TokenPruning(SCHEDULE, PRUNER)(model):
        with pytest.raises(ValueError, match="continues a cache came as a prompt.*" + UNSEEN):
            model(ids[:, :1], use_cache=False)
        model(ids, use_cache=False, position_ids=torch.arange(5, 45)[None])  # the caller's own count is no fault
    handle.remove()


def test_a_mask_of_more_tokens_than_came_names_the_version():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    longer = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    with TokenPruning(SCHEDULE, PRUNER)(model), pytest.raises(ValueError, match="attention mask of shape.*" + UNSEEN):
        model(ids[:, :1], attention_mask=longer)


def test_a_cache_is_handed_in_by_the_name_that_the_model_takes():
    model, cache = tiny_model(), DynamicCache()
    ((name, value),) = with_cache(model, cache).items()
    assert name in CACHE_NAMES and value is cache
    with torch.no_grad():
        out = model(random_prompts([5])[0], **with_cache(model, cache))
    assert output_cache(out) is cache is output_cache(out.to_tuple()) is find_cache([1, None, cache])
    with pytest.raises(ValueError, match="Linear takes no cache"):
        with_cache(nn.Linear(2, 2), cache)


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
def test_published_gemma_configurations_generate(family):
    """They name a cache that transformers 5 takes for no setting."""
    model, (ids, mask) = tiny_model(family, None), random_prompts([40])
    with TokenPruning(SCHEDULE, PRUNER)(model):
        wanted = generate(model, ids, mask)[1]
        model.generation_config.cache_implementation = "hybrid"
        assert torch.equal(generate(model, ids, mask)[1], wanted)
        model.generation_config.cache_implementation = "static"
        with pytest.raises(ValueError, match="'static' is not supported"):
            generate(model, ids, mask)
