"""A pruned cache outside of its block: it goes on rightly, or says by name that it cannot; never other tokens."""

import pickle
import threading
from copy import deepcopy
from types import MethodType

import pytest
import torch
from helpers import FAMILIES, Reference, close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache
from transformers.generation.streamers import BaseStreamer

from sdtp_lib import PruningSchedule, TokenPruning
from sdtp_lib.pruning.block import Block

SCHEDULE = schedule_of()
PRUNER = tiny_pruner(SCHEDULE.layers)
OUTSIDE = "cannot be used outside of TokenPruning"


def pruned(model, **options):
    return TokenPruning(SCHEDULE, PRUNER, **options)(model)


def prefilled(model, ids, mask=None, **options):
    cache = DynamicCache(config=model.config)
    with pruned(model, **options), torch.no_grad():
        model(ids, attention_mask=mask, past_key_values=cache)
    return cache


KINDS = [
    (family, attention, positions)
    for family in FAMILIES
    for attention in (None, "eager")
    for positions in (["original"] if family == "bloom" else ["original", "compact"])
]


@pytest.mark.parametrize("family, attention, positions", KINDS)
def test_a_pruned_cache_is_refused_by_name_outside_of_every_block(family, attention, positions):
    """A habit of kvpress's users: the prefill inside the block, `generate` or the next call outside."""
    model, (ids, _) = tiny_model(family, attention), random_prompts([40])
    more = random_prompts([5], seed=5)[0]
    whole = torch.cat([ids, more], dim=1)
    uses = (
        lambda cache: model(more, past_key_values=cache),
        lambda cache: model(more[:, :1], past_key_values=cache),
        lambda cache: generate(model, whole, torch.ones_like(whole), past_key_values=cache),
    )
    original = prefilled(model, ids, positions=positions)
    lengths = [layer.keys.shape[-2] for layer in original.layers]
    for use in uses:
        for cache in (original, deepcopy(original), pickle.loads(pickle.dumps(original))):
            with torch.no_grad(), pytest.raises(ValueError, match=OUTSIDE):
                use(cache)
            assert [layer.keys.shape[-2] for layer in cache.layers] == lengths  # nothing was added to it


@pytest.mark.parametrize("wake", [deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))], ids=["copied", "pickled"])
def test_a_copy_goes_on_rightly_in_the_next_block(wake):
    model, ids, more = tiny_model("gemma3"), random_prompts([40])[0], random_prompts([7], seed=5)[0]
    expected = Reference(model, SCHEDULE, PRUNER).run(torch.cat([ids[0], more[0]]), 40)[0][40:]
    cache = wake(prefilled(model, ids))
    with pruned(model), torch.no_grad():
        assert close(model(more, past_key_values=cache).logits[0], expected)
    with torch.no_grad(), pytest.raises(ValueError, match=OUTSIDE):
        model(more, past_key_values=cache)


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
def test_a_cache_of_which_nothing_was_cut_is_anybodys(family):
    model, (ids, _) = tiny_model(family, None), random_prompts([40])
    more = random_prompts([5], seed=5)[0]
    with torch.no_grad():
        for options in (dict(min_prompt_tokens=100), dict()):
            schedule = SCHEDULE if options else PruningSchedule.preset("none", 6)
            with TokenPruning(schedule, PRUNER, **options)(model) as trace:
                cache = model(ids, use_cache=True).past_key_values
            assert not trace.pruned
            stock = model(ids, use_cache=True).past_key_values
            assert torch.equal(model(more, past_key_values=cache).logits, model(more, past_key_values=stock).logits)


class Waits(BaseStreamer):
    """Stops the generation after two tokens until it is told to go on."""

    def __init__(self):
        self.two, self.go, self.ended, self.tokens = threading.Event(), threading.Event(), threading.Event(), 0

    def put(self, value):
        self.tokens += 1
        if self.tokens == 3:  # the prompt comes first
            self.two.set()
            assert self.go.wait(60)

    def end(self):
        self.ended.set()


def in_thread(run):
    found = []

    def target():
        try:
            found.append(run())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    return thread, found


def test_a_thread_that_outlives_the_block_is_told_and_its_reader_does_not_wait_for_ever():
    model, (ids, mask), streamer = tiny_model("mistral-window"), random_prompts([40]), Waits()
    with pruned(model, positions="compact"):
        thread, found = in_thread(lambda: generate(model, ids, mask, 8, streamer=streamer))
        assert streamer.two.wait(60)
    streamer.go.set()
    thread.join(60)
    assert isinstance(found[0], ValueError) and OUTSIDE in str(found[0])
    assert streamer.ended.is_set()


def test_a_pass_under_way_in_another_thread_keeps_its_hooks_to_the_end():
    model, (ids, _) = tiny_model(), random_prompts([40])
    inside, go = threading.Event(), threading.Event()

    def wait(*args):
        inside.set()
        assert go.wait(60)

    handle = model.model.layers[4].mlp.register_forward_hook(wait)  # between two cuts
    with torch.no_grad():
        with pruned(model) as trace:
            thread, found = in_thread(lambda: model(ids, use_cache=True).logits)
            assert inside.wait(60)
            threading.Timer(0.3, go.set).start()
        thread.join(60)
        handle.remove()
        with pruned(model):
            assert torch.equal(found[0], model(ids).logits)
    assert trace.pruned


def test_a_generate_kept_from_the_block_is_refused_after_it():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    with pruned(model):
        kept = model.generate
    streamer = Waits()
    with pytest.raises(ValueError, match="block was left"):
        kept(input_ids=ids, attention_mask=mask, streamer=streamer)
    assert streamer.ended.is_set()


def test_a_closed_block_waits_for_no_thread_that_died():
    block = Block()

    def fail():
        with block.a_pass():
            raise SystemExit

    thread, _ = in_thread(fail)
    thread.join(60)
    block.close()
    with pytest.raises(ValueError, match="block was left"), block.a_pass():
        pass


ROWS = {
    "reorder_cache": lambda cache, rows: cache.reorder_cache(torch.tensor(rows)),
    "batch_select_indices": lambda cache, rows: cache.batch_select_indices(torch.tensor(rows)),
    "layer by layer": lambda cache, rows: [layer.reorder_cache(torch.tensor(rows)) for layer in cache.layers],
}


@pytest.mark.parametrize("how", ROWS)
@pytest.mark.parametrize("lengths", [[40, 40], [40, 23]], ids=["equal", "padded"])
@pytest.mark.parametrize("family", ["llama", "mistral-window", "gemma3", "bloom"])
@pytest.mark.parametrize("rows", [[1, 0], [1, 1], [1], [0, 1, 1]], ids=str)
def test_moved_rows_are_followed_or_refused(family, lengths, rows, how):
    model, (ids, mask) = tiny_model(family, None), random_prompts(lengths)
    more = random_prompts([7, 7], seed=5)[0]
    longer = torch.cat([mask, torch.ones_like(more)], dim=1)
    cache, fresh = prefilled(model, ids, mask), prefilled(model, ids[rows], mask[rows])
    ROWS[how](cache, rows)
    with pruned(model), torch.no_grad():
        if how == "layer by layer":
            with pytest.raises(ValueError, match="keys of this cache were changed|cropped|batch of 2, this input has"):
                model(more[rows], attention_mask=longer[rows], past_key_values=cache)
            return
        moved = model(more[rows], attention_mask=longer[rows], past_key_values=cache).logits
        assert close(moved, model(more[rows], attention_mask=longer[rows], past_key_values=fresh).logits)


@settings(max_examples=30)
@given(steps=st.lists(st.sampled_from(["swap", "first", "twice", "more"]), min_size=1, max_size=4))
def test_rows_may_move_again_and_again(steps):
    model, (ids, mask) = tiny_model("gemma3"), random_prompts([30, 30])
    cache, said, found = prefilled(model, ids, mask), ids.tolist(), []
    with pruned(model), torch.no_grad():
        for step in steps:
            if step == "swap":
                cache.reorder_cache(torch.arange(len(said)).flip(0))
                said = said[::-1]
            elif step == "first":
                cache.batch_select_indices(torch.tensor([0]))
                said = said[:1]
            elif step == "twice":
                cache.batch_repeat_interleave(2)
                said = [row for row in said for _ in range(2)]
            else:
                new = torch.tensor([[2 + len(row) + place] for place, row in enumerate(said)])
                logits = model(new, past_key_values=cache).logits[:, -1]
                said = [row + token for row, token in zip(said, new.tolist(), strict=True)]
                found += zip(said, logits, strict=True)
    for row, ours in found:
        assert close(ours, Reference(model, SCHEDULE, PRUNER).run(torch.tensor(row), 30)[0][-1])


def test_a_cache_is_cropped_by_what_is_taken_back_and_not_to_a_length():
    model, (ids, _), more = tiny_model(), random_prompts([40]), random_prompts([7], seed=5)[0]
    expected = Reference(model, SCHEDULE, PRUNER).run(torch.cat([ids[0], more[0]]), 40)[0][40:]
    with pruned(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        model(more, past_key_values=cache)
        with pytest.raises(ValueError, match=r"crop\(40\).*take back: crop\(-n\), n at most 7"):
            cache.crop(40)  # the habit of those who keep a prefix
        with pytest.raises(ValueError, match=r"crop\(-8\).*into the pruned prompt; 7 tokens came after"):
            cache.crop(-8)
        cache.crop(-7)
        assert close(model(more, past_key_values=cache).logits[0], expected)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_reset_cache_is_a_new_one(family):
    model, (ids, _), other = tiny_model(family), random_prompts([40]), random_prompts([30, 30], seed=3)[0]
    cache = prefilled(model, ids)
    cache.reset()
    with torch.no_grad():
        stock = model(other, use_cache=True)
        assert torch.equal(model(other, past_key_values=cache).logits, stock.logits)
        cache.reset()
        with pruned(model) as trace:
            again = model(ids, past_key_values=cache).logits
            assert trace.pruned and torch.equal(again, model(ids).logits)


def test_a_copy_of_the_model_made_inside_is_a_model_of_its_own():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    stock = generate(model, ids, mask)[1]
    with pruned(model) as trace:
        pruned_logits = generate(model, ids, mask)[1]
        copies = [deepcopy(model), pickle.loads(pickle.dumps(model))]
        for copy in copies:
            assert isinstance(copy.generate, MethodType) and copy.generate.__self__ is copy
            assert torch.equal(generate(copy, ids, mask)[1], stock)
        assert len(trace.prefills) == 1
        assert torch.equal(generate(model, ids, mask)[1], pruned_logits)
    for copy in copies:
        with pruned(copy):
            assert torch.equal(generate(copy, ids, mask)[1], pruned_logits)
        copy.lm_head.weight.zero_()
        assert not generate(copy, ids, mask)[1].any()


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("copied", ["before", "inside"])
@pytest.mark.parametrize("family", ["llama", "mistral-window", "gemma3", "bloom"])
def test_another_model_is_outside_even_while_the_block_is_open(family, copied, tokens):
    model, (ids, _) = tiny_model(family, None), random_prompts([40])
    more, twin = random_prompts([tokens], seed=5)[0], deepcopy(model)
    with pruned(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        twin = deepcopy(model) if copied == "inside" else twin
        with pytest.raises(ValueError, match=OUTSIDE):
            twin(more, past_key_values=cache)
        assert torch.isfinite(model(more, past_key_values=cache).logits).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("layer", [0, 4])
def test_a_pass_that_breaks_off_leaves_the_guard_on(error, layer):
    model, (ids, _), more = tiny_model(), random_prompts([40]), random_prompts([1], seed=5)[0]

    def fail(*args):
        raise error

    with torch.no_grad():
        with pruned(model, positions="compact"):
            cache = model(ids, use_cache=True).past_key_values
            handle = model.model.layers[layer].register_forward_pre_hook(fail)
            with pytest.raises(error):
                model(ids)  # quite another prompt
            handle.remove()
            with pytest.raises(ValueError, match=OUTSIDE):
                cache.update(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8), 4)
        with pytest.raises(ValueError, match=OUTSIDE):
            model(more, past_key_values=cache)


def test_leaving_does_not_wait_for_a_worker_whose_pass_broke_off():
    model, (ids, _) = tiny_model(), random_prompts([40])
    broke, end = threading.Event(), threading.Event()

    def fail(*args):
        raise SystemExit

    def run():
        try:
            model(ids)
        except SystemExit:
            broke.set()
        assert end.wait(60)  # as the workers of a pool live on

    handle = model.model.layers[4].register_forward_pre_hook(fail)
    with pruned(model):
        thread, _ = in_thread(run)
        assert broke.wait(60)
    handle.remove()
    end.set()
    thread.join(60)


class NotANumber:
    def score(self, layer, hidden_states, context):
        return torch.full(hidden_states.shape[:2], torch.nan)


@pytest.mark.parametrize("family", ["llama", "mistral-window", "gemma3"])
def test_a_cache_whose_pruned_pass_failed_is_refused(family):
    model, (ids, _), more = tiny_model(family), random_prompts([40]), random_prompts([5], seed=5)[0]
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        with TokenPruning(SCHEDULE, NotANumber())(model), pytest.raises(ValueError, match="NaN"):
            model(ids, past_key_values=cache)
        with pruned(model), pytest.raises(ValueError, match="a pass on this cache failed"):
            model(more, past_key_values=cache)
        with pytest.raises(ValueError, match=OUTSIDE):
            model(more, past_key_values=cache)


def test_a_call_that_came_before_the_end_finds_out_at_its_first_pass():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    checked, go = threading.Event(), threading.Event()

    class Holds(BaseStreamer):  # it is given the prompt before the first pass
        def put(self, value):
            checked.set()
            assert go.wait(60)

        def end(self):
            pass

    with pruned(model) as trace:
        thread, found = in_thread(lambda: generate(model, ids, mask, streamer=Holds()))
        assert checked.wait(60)
        threading.Timer(0.3, go.set).start()
    thread.join(60)
    assert isinstance(found[0], ValueError) and "block was left" in str(found[0]) and not trace.prefills


def test_rows_of_one_ending_that_moved_layer_by_layer_are_seen():
    """The first layer's window holds the same keys in both rows; the last layer's depend on all of a row."""
    model, (ids, _) = tiny_model("mistral-window"), random_prompts([40, 40])
    ids[:, -8:] = ids[:1, -8:]
    cache = prefilled(model, ids)
    ROWS["layer by layer"](cache, [1, 0])
    with pruned(model), torch.no_grad(), pytest.raises(ValueError, match="keys of this cache were changed"):
        model(ids[:, :5], past_key_values=cache)


def test_parts_of_a_cut_cache_make_no_new_one():
    cache = prefilled(tiny_model("mistral-window"), random_prompts([40])[0])
    with pytest.raises(ValueError, match=OUTSIDE):
        DynamicCache(cache)


def test_crops_add_up_and_rows_may_move_after_them():
    model, (ids, _), more = tiny_model(), random_prompts([40]), random_prompts([7], seed=5)[0]
    expected = Reference(model, SCHEDULE, PRUNER).run(torch.cat([ids[0], more[0]]), 40)[0][40:]
    with pruned(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        model(more, past_key_values=cache)
        cache.crop(0)
        cache.crop(-3)
        with pytest.raises(ValueError, match=r"crop\(-5\).*4 tokens came after"):
            cache.crop(-5)
        cache.crop(-4)
        cache.batch_repeat_interleave(2)
        for ours in model(more.expand(2, -1), past_key_values=cache).logits:
            assert close(ours, expected)


def test_a_crop_that_one_layer_cannot_follow_changes_none():
    model, (ids, _), more = tiny_model("gemma3"), random_prompts([40]), random_prompts([5], seed=5)[0]
    expected = Reference(model, SCHEDULE, PRUNER).run(torch.cat([ids[0], more[0], more[0]]), 40)[0][45:]
    with pruned(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        model(more, past_key_values=cache)
        with pytest.raises(ValueError, match="slid over its window"):
            cache.crop(-5)
        assert close(model(more, past_key_values=cache).logits[0], expected)


def test_uncut_tokens_are_counted_with_the_prompt_that_they_continue():
    model, (ids, _), more = tiny_model(), random_prompts([40]), random_prompts([5], seed=5)[0]
    with pruned(model) as trace, torch.no_grad():
        first = model(ids, use_cache=True).past_key_values
        model(ids[:, :30], use_cache=True)
        model(more, past_key_values=first)
    assert [(prefill.tokens, prefill.uncut) for prefill in trace.prefills] == [(40, 5), (30, 0)]


@pytest.mark.parametrize("cached", [True, False])
def test_layers_that_run_unseen_are_an_error(cached):
    """Of a version that calls a layer's forward method, no hook of the layer runs."""
    model, (ids, _) = tiny_model(), random_prompts([40])
    with pruned(model), torch.no_grad():
        for layer in model.model.layers:
            layer._forward_pre_hooks.clear()
        with pytest.raises(ValueError, match="0 of 6 layers ran where pruning saw them"):
            model(ids, use_cache=cached)
        with pytest.raises(ValueError, match="call the model, not its forward"):
            model.model.forward(ids)
