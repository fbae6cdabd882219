"""A conversation on one cache: chunks, later prompts, copies, and caches that the engine cannot know."""

from copy import deepcopy

import pytest
import torch
from helpers import Reference, close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from transformers import DynamicCache

from sdtp_lib import PruningSchedule, TokenPruning
from sdtp_lib.scorers.simple import RecencyScorer

SCHEDULE = schedule_of()
PRUNER = tiny_pruner(SCHEDULE.layers)
FAMILIES = ["llama", "mistral-window", "gemma3", "gpt_oss", "bloom", "qwen3"]


def pruned(model, **options):
    return TokenPruning(SCHEDULE, PRUNER, **options)(model)


def positions_for(family):
    return ["original"] if family == "bloom" else ["original", "compact"]


@pytest.mark.parametrize("prune", ["first", "every"])
@pytest.mark.parametrize(
    "family, positions", [(family, positions) for family in FAMILIES for positions in positions_for(family)]
)
def test_three_chat_turns_equal_the_masked_full_model(family, positions, prune):
    """Prompt, answer, prompt, answer, prompt, answer: the first two turns are compared token by token."""
    model = tiny_model(family, None)
    conversation, ends, logits = torch.zeros(1, 0, dtype=torch.long), [], []
    cache = DynamicCache(config=model.config)
    with pruned(model, positions=positions, prune=prune) as trace:
        for turn, words in enumerate((40, 30, 12)):
            prompt = torch.cat([conversation, random_prompts([words], seed=turn)[0]], dim=1)
            # The answer's last token has not been through the model yet; it goes in with the next prompt.
            ends.append((conversation.shape[1] - bool(turn), prompt.shape[1]))
            tokens, out = generate(model, prompt, torch.ones_like(prompt), past_key_values=cache)
            conversation = torch.cat([prompt, tokens], dim=1)
            logits.append(out[0])
    assert len(trace.prefills) == (3 if prune == "every" else 1)
    two = conversation[0, : ends[1][1] + 4]
    turn = ends[1] if prune == "every" else None
    expected, kept = Reference(model, SCHEDULE, PRUNER, positions).run(two, 40, turn)
    assert close(logits[0], expected[39:43])
    assert close(logits[1], expected[ends[1][1] - 1 : -1])
    if prune == "every":
        for layer in SCHEDULE.layers:
            ours = [trace.prefills[i].kept_positions[layer][0].tolist() for i in (0, 1)]
            assert sum(ours, []) == kept[layer]
    assert cache.get_seq_length() == conversation.shape[1] - 1


@pytest.mark.parametrize("prune", ["first", "every"])
@pytest.mark.parametrize("family", FAMILIES)
def test_turns_of_a_padded_batch_equal_each_row_alone(family, prune):
    model = tiny_model(family, None)
    ids, mask = random_prompts([40, 22])
    more = random_prompts([30, 30], seed=5)[0]

    def run(rows, pads):
        first, real = ids[rows, pads:], mask[rows, pads:]
        both = torch.cat([real, torch.ones_like(more[rows])], dim=1)
        position_ids = (both.cumsum(1) - 1).clamp(min=0)
        with pruned(model, prune=prune), torch.no_grad():
            width = first.shape[1]
            past = model(
                first, attention_mask=real, position_ids=position_ids[:, :width], use_cache=True
            ).past_key_values
            turn = dict(attention_mask=both, position_ids=position_ids[:, width:], past_key_values=past)
            return model(more[rows], **turn).logits

    both = run(slice(0, 2), 0)
    for row, pads in ((0, 0), (1, 18)):
        alone = run(slice(row, row + 1), pads)
        assert close(both[row, -alone.shape[1] :], alone[0])


def test_later_input_attends_the_pruned_past_and_is_not_cut():
    model, ids, more = tiny_model(), random_prompts([40])[0], random_prompts([7], seed=5)[0]
    with pruned(model) as trace, torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        logits = model(more, past_key_values=past, use_cache=True).logits[0]
    expected, _ = Reference(model, SCHEDULE, PRUNER).run(torch.cat([ids[0], more[0]]), 40)
    assert close(logits, expected[40:])
    assert len(trace.prefills) == 1
    assert past.layers[5].keys.shape[-2] == SCHEDULE.lengths(40, 6)[5] + 7


def test_every_prompt_is_cut_when_asked_without_new_sinks():
    model, ids, more = tiny_model(), random_prompts([40])[0], random_prompts([30], seed=5)[0]
    with pruned(model, prune="every") as trace, torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        model(more, past_key_values=past, use_cache=True)
    assert len(trace.prefills) == 2
    kept = trace.kept_positions[2][0]
    assert len(kept) == 21 and kept.min() >= 40 and kept[-1] == 69
    assert trace.kv_lengths[2] == SCHEDULE.keep(40) + 21


@pytest.mark.parametrize("context", ["same", "new"])
@pytest.mark.parametrize("copies", [False, True], ids=["itself", "copied"])
def test_a_pruned_cache_goes_on_in_any_context(copies, context):
    """Answering several questions on copies of one prefilled cache is how prefixes are shared."""
    model, ids, more = tiny_model("gemma3"), random_prompts([40])[0], random_prompts([7], seed=5)[0]
    expected = Reference(model, SCHEDULE, PRUNER).run(torch.cat([ids[0], more[0]]), 40)[0][40:]
    with pruned(model), torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        if context == "same":
            caches = [deepcopy(past), deepcopy(past)] if copies else [past]
            assert all(close(model(more, past_key_values=cache).logits[0], expected) for cache in caches)
    if context == "new":
        with pruned(model), torch.no_grad():
            assert close(model(more, past_key_values=deepcopy(past) if copies else past).logits[0], expected)


def test_a_reset_cache_starts_afresh():
    model, ids = tiny_model(), random_prompts([40])[0]
    with pruned(model) as trace, torch.no_grad():
        first = model(ids, use_cache=True)
        cache = first.past_key_values
        crop(cache, 40)
        again = model(ids, past_key_values=cache)
    assert torch.equal(first.logits, again.logits) and len(trace.prefills) == 2


def crop(cache, tokens=1):
    for part in cache.layers:
        part.keys, part.values = part.keys[:, :, :-tokens], part.values[:, :, :-tokens]


@pytest.mark.parametrize("family", ["llama", "bloom", "mixtral"])
def test_an_answer_taken_back_makes_room_for_another(family):
    """Several questions on one prefilled context, the cache cropped back to it after each."""
    model, ids = tiny_model(family, None), random_prompts([40])[0]
    questions = [random_prompts([n], seed=n)[0] for n in (7, 1, 12)]
    reference = Reference(model, SCHEDULE, PRUNER)
    expected = [reference.run(torch.cat([ids[0], question[0]]), 40)[0][40:] for question in questions]
    with pruned(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        for question, answer in zip(questions, expected, strict=True):
            assert close(model(question, past_key_values=cache).logits[0], answer)
            crop(cache, question.shape[1])
        crop(cache, 1)
        with pytest.raises(ValueError, match="cropped into the pruned prompt"):
            model(questions[0], past_key_values=cache)


def test_an_answer_beyond_a_window_cannot_be_taken_back():
    model, ids = tiny_model("mistral-window"), random_prompts([40])[0]
    with pruned(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        model(ids[:, :3], past_key_values=cache)
        crop(cache, 3)
        with pytest.raises(ValueError, match="cropped"):
            model(ids[:, :3], past_key_values=cache)


def add_to_one_layer(cache):
    with pytest.raises(ValueError, match="outside of TokenPruning"):
        cache.update(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8), 4)
    cache.layers[4].update(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8))


@pytest.mark.parametrize("change", [crop, add_to_one_layer])
def test_a_cache_that_changed_between_passes_is_refused(change):
    model, ids = tiny_model(), random_prompts([40])[0]
    with pruned(model), torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        change(past)
        with pytest.raises(ValueError, match="now holds .*cropped"):
            model(ids[:, :1], past_key_values=past)


@pytest.mark.parametrize("config", [True, False], ids=["windows", "plain"])
@pytest.mark.parametrize("family", ["llama", "demo", "mistral-window", "gemma3"])
def test_a_cache_whose_first_pass_failed_is_refused(family, config):
    """In the model of the demo all layers that ran slide: what the others hold is not told by theirs."""
    model, ids = tiny_model(family, None), random_prompts([30])[0]
    cache = DynamicCache(config=model.config) if config else DynamicCache()
    with TokenPruning(SCHEDULE, Failing())(model), pytest.raises(RuntimeError, match="as meant"):
        model(ids, past_key_values=cache)
    with pruned(model), pytest.raises(ValueError, match="failed.*prefill anew"):
        model(ids, past_key_values=cache)


class Failing:
    def score(self, layer, hidden_states, context):
        raise RuntimeError("as meant")


@pytest.mark.parametrize(
    "family, positions", [("llama", "compact"), ("mistral-window", "original"), ("gemma3", "original")]
)
def test_a_later_block_may_have_another_schedule(family, positions):
    """Cuts of two blocks, each at a layer of its own, and the same cuts said as one schedule."""
    model, ids = tiny_model(family, None), random_prompts([71])[0]
    options = {"sink_tokens": 2, "local_ratio": 0.0, "min_local_tokens": 3}
    first, higher, both = (
        PruningSchedule(layers, ratios, **options)
        for layers, ratios in (((2,), 0.5), ((4,), 0.5), ((2, 4), (1.0, 0.5)))
    )

    def last_logits(second):
        cache = DynamicCache(config=model.config)
        for schedule, part in ((first, ids[:, :40]), (second, ids[:, 40:70]), (second, ids[:, 70:])):
            with TokenPruning(schedule, RecencyScorer(), positions, prune="every")(model), torch.no_grad():
                logits = model(part, past_key_values=cache).logits
        return logits[:, -1]

    assert close(last_logits(higher), last_logits(both))


def test_a_cache_of_other_rows_or_positions_is_refused():
    model, ids = tiny_model(), random_prompts([40])[0]
    with pruned(model), torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        with pytest.raises(ValueError, match="batch of 1, this input has 2 rows"):
            model(ids[:, :1].expand(2, -1), past_key_values=past)
    with pruned(model, positions="compact"), pytest.raises(ValueError, match="filled with positions='original'"):
        model(ids[:, :1], past_key_values=past)


def test_a_cache_pruned_by_something_else_is_refused():
    model, ids = tiny_model(), random_prompts([40])[0]
    with torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
    past.layers[3].keys, past.layers[3].values = past.layers[3].keys[:, :, ::2], past.layers[3].values[:, :, ::2]
    with pruned(model), pytest.raises(ValueError, match="pruned outside"):
        model(ids[:, :1], past_key_values=past)


@pytest.mark.parametrize("prune", ["first", "every"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "bloom"])  # a window counts filler as places, in stock too
def test_filler_that_a_later_mask_hides_is_gone(family, prune):
    """In a batched chat a row whose answer ended early is filled up; the next turn's mask hides the filler."""
    model = tiny_model(family, None)
    ids, mask = random_prompts([40, 22])
    answer, more = random_prompts([5, 5], seed=4)[0], random_prompts([30, 30], seed=5)[0]
    ones, hidden = torch.ones_like(answer), torch.tensor([[1], [0]]).expand(2, 5)  # the second row had said all

    def run(*passes):
        """Logits of the last pass; each is (tokens, the mask's part for them while they are new, and afterwards)."""
        cache, past = DynamicCache(config=model.config), torch.zeros(len(passes[0][0]), 0, dtype=torch.long)
        with pruned(model, prune=prune), torch.no_grad():
            for tokens, now, later in passes:
                whole = torch.cat([past, now], dim=1)
                position_ids = (whole.cumsum(1) - 1).clamp(min=0)[:, past.shape[1] :]
                logits = model(tokens, attention_mask=whole, position_ids=position_ids, past_key_values=cache).logits
                past = torch.cat([past, later], dim=1)
        return logits

    new = torch.ones_like(more)
    # One token at a time, as generation does, so that no prompt of it is cut.
    steps = [(answer[:, i : i + 1], ones[:, i : i + 1], hidden[:, i : i + 1]) for i in range(5)]
    both = run((ids, mask, mask), *steps, (more, new, new))
    for row, pads in ((0, 0), (1, 18)):
        at = slice(row, row + 1)
        said = [tuple(part[at] for part in step) for step in steps] if row == 0 else []
        alone = run((ids[at, pads:], mask[at, pads:], mask[at, pads:]), *said, (more[at], new[at], new[at]))
        assert close(both[row, -alone.shape[1] :], alone[0])


def test_a_mask_that_shows_pads_again_is_refused():
    model, (ids, mask) = tiny_model(), random_prompts([40, 22])
    with pruned(model), torch.no_grad():
        past = model(ids, attention_mask=mask, use_cache=True).past_key_values
        with pytest.raises(ValueError, match="hid before"):
            model(ids[:, :1], attention_mask=torch.ones(2, 41), past_key_values=past)
        with pytest.raises(ValueError, match="holds pads: pass the attention mask"):
            model(ids[:, :1], past_key_values=past)


def test_a_pass_that_fails_leaves_the_cache_as_it_was():
    model, (ids, mask) = tiny_model(), random_prompts([40, 22])
    more, longer = random_prompts([5, 5], seed=5)[0], torch.cat([mask, torch.ones(2, 5, dtype=torch.long)], dim=1)
    cache = DynamicCache()
    with pruned(model) as trace, torch.no_grad():
        for wrong in (mask.flip(1), mask * torch.tensor([[1], [0]]), mask[:, 1:]):
            with pytest.raises(ValueError):
                model(ids, attention_mask=wrong, past_key_values=cache)
        model(ids, attention_mask=mask, past_key_values=cache)
        with pytest.raises(IndexError):
            model(more + 1000, attention_mask=longer, past_key_values=cache)
        again = model(more, attention_mask=longer, past_key_values=cache).logits
        fresh = model(ids, attention_mask=mask, use_cache=True).past_key_values
        assert torch.equal(again, model(more, attention_mask=longer, past_key_values=fresh).logits)
    assert len(trace.prefills) == 2


def test_keys_thrown_out_at_the_front_are_not_taken_for_an_answer_taken_back():
    model, ids = tiny_model(), random_prompts([40])[0]
    with pruned(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        model(random_prompts([6], seed=5)[0], past_key_values=cache)
        for part in cache.layers:
            part.keys, part.values = part.keys[:, :, 2:], part.values[:, :, 2:]
        with pytest.raises(ValueError, match="cropped into the pruned prompt, or used outside"):
            model(ids[:, :1], past_key_values=cache)


def test_layers_between_two_cuts_share_what_is_remembered_of_them():
    model, ids, more = tiny_model(layers=8), random_prompts([40])[0], random_prompts([30], seed=5)[0]
    with pruned(model, prune="every"), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        model(more, past_key_values=cache)
    kept = cache.sdtp_conversation.kept
    assert sorted(kept) == list(range(2, 8)) and len({id(columns) for columns in kept.values()}) == 3


def test_a_filled_cache_is_not_cut_and_the_trace_says_why():
    model, ids, more = tiny_model(), random_prompts([40])[0], random_prompts([30], seed=5)[0]
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        with pruned(model) as trace:
            model(more, past_key_values=cache)
    assert not trace.pruned and trace.reason == "the cache was not empty, and prune='first'"
    assert trace.kv_lengths == [70] * 6


def test_outputs_as_tuples_carry_the_cache_too():
    model, ids, more = tiny_model("gemma3"), random_prompts([40])[0], random_prompts([7], seed=5)[0]
    with pruned(model.model), torch.no_grad():
        cache = model.model(ids, use_cache=True, return_dict=False)[1]
        hidden = model.model(more, past_key_values=cache, return_dict=False)[0]
    with pruned(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        assert close(model.lm_head(hidden), model(more, past_key_values=cache).logits)


def test_padded_cache_filled_outside_keeps_its_pads_hidden():
    model = tiny_model()
    ids, mask = random_prompts([40, 22])
    more = random_prompts([30, 30], seed=5)[0]
    logits = []
    for rows, start in ((slice(0, 2), 0), (slice(1, 2), 18)):
        with torch.no_grad():
            past = model(ids[rows, start:], attention_mask=mask[rows, start:], use_cache=True).past_key_values
            longer = torch.cat([mask[rows, start:], torch.ones_like(more[rows])], dim=1)
            with pruned(model, prune="every"):
                logits.append(model(more[rows], attention_mask=longer, past_key_values=past).logits[-1, -1])
    assert close(logits[0], logits[1])
