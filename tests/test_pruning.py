"""The engine against the full model under explicit masks, and what must never happen."""

import json
from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from helpers import HIDDEN, Reference, random_prompts, tiny_model, tiny_pruner
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule, TokenPruner, TokenPruning

FAMILIES = ["llama", "mistral", "mistral-window", "qwen2", "demo"]
STEPS = 4
TOLERANCE = 2e-4  # relative, float32


def schedule_of(keep=0.7, layers=(2, 3, 5), **options):
    return PruningSchedule(layers=layers, keep_ratio=keep, **{"min_local_tokens": 3, "sink_tokens": 2, **options})


def close(ours, reference):
    return (ours - reference).abs().max() / reference.abs().max() < TOLERANCE


def generate(model, ids, mask, **options):
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False,
        return_dict_in_generate=True, output_logits=True, **options,
    )  # fmt: skip
    return out.sequences[:, ids.shape[1] :], torch.stack(out.logits, dim=1)


def check_against_reference(model, schedule, lengths, positions="original", seed=2):
    """Prefill and every decode step of each row of a left-padded batch equal the reference of that row alone."""
    pruner = tiny_pruner(schedule.layers)
    ids, mask = random_prompts(lengths, seed)
    with TokenPruning(schedule, pruner, positions=positions)(model) as trace:
        new, logits = generate(model, ids, mask)
    for row, length in enumerate(lengths):
        pads = max(lengths) - length
        sequence = torch.cat([ids[row, pads:], new[row]])
        expected, kept = Reference(model, schedule, pruner, positions).run(sequence, length)
        for layer in schedule.layers:
            ours = [c - pads for c in trace.kept_positions[layer][row].tolist() if c >= 0]
            assert ours == kept[layer]
        assert close(logits[row], expected[length - 1 : -1])
        assert torch.equal(expected[length - 1 : -1].argmax(-1), new[row])


@pytest.mark.parametrize("lengths", [[40], [40, 23, 31, 9]], ids=["one", "padded"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_masked_full_model(family, attention, lengths):
    check_against_reference(tiny_model(family, attention), schedule_of(), lengths)


@pytest.mark.parametrize("lengths", [[40], [40, 23, 31, 9]], ids=["one", "padded"])
@pytest.mark.parametrize("family", FAMILIES)
def test_compact_positions_equal_masked_full_model(family, lengths):
    check_against_reference(tiny_model(family), schedule_of(), lengths, positions="compact")


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    layers=st.sets(st.integers(1, 5), min_size=1, max_size=5).map(lambda s: tuple(sorted(s))),
    keep=st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]),
    sinks=st.integers(0, 5),
    local=st.integers(0, 20),
    ratio=st.sampled_from([0.0, 0.1, 0.5]),
    attention=st.sampled_from(["sdpa", "eager"]),
)
def test_any_schedule_equals_masked_full_model(lengths, layers, keep, sinks, local, ratio, attention):
    schedule = PruningSchedule(layers, keep, sink_tokens=sinks, min_local_tokens=local, local_ratio=ratio)
    check_against_reference(tiny_model("demo", attention), schedule, lengths)


@pytest.mark.parametrize("preset", ["paper", "keep07", "low"])
def test_presets_equal_masked_full_model(preset):
    check_against_reference(tiny_model("demo", layers=8), PruningSchedule.preset(preset, 8, first=2), [90, 50])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_everything_is_bit_equal_to_the_stock_model(family, dtype):
    model, schedule = tiny_model(family, dtype=dtype), schedule_of(keep=1.0)
    ids, mask = random_prompts([30, 17])
    stock = generate(model, ids, mask)
    with TokenPruning(schedule, tiny_pruner(schedule.layers).to(dtype))(model) as trace:
        ours = generate(model, ids, mask)
    assert torch.equal(stock[0], ours[0]) and torch.equal(stock[1], ours[1])
    assert not trace.pruned and "keep_ratio" in trace.reason


def count_keys(model):
    """Handles and {layer: [keys seen in each forward]}, read at the attention function's own cache update."""
    seen = {}

    def hook_of(layer):
        def hook(module, args, kwargs, output):
            seen.setdefault(layer, []).append(kwargs["past_key_values"].layers[layer].keys.shape[-2])

        return hook

    layers = model.model.layers
    return [m.self_attn.register_forward_hook(hook_of(i), with_kwargs=True) for i, m in enumerate(layers)], seen


def test_decode_runs_on_the_pruned_cache():
    model, schedule = tiny_model(), schedule_of()
    ids, mask = random_prompts([50])
    handles, seen = count_keys(model)
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model) as trace:
        generate(model, ids, mask)
    for handle in handles:
        handle.remove()
    lengths = schedule.lengths(50, 6)
    assert trace.kv_lengths == lengths
    assert lengths[-1] < 0.5 * 50
    assert seen == {layer: [n + step for step in range(STEPS)] for layer, n in enumerate(lengths)}


def test_later_input_attends_the_pruned_past_and_is_not_cut():
    model, schedule = tiny_model(), schedule_of()
    pruner = tiny_pruner(schedule.layers)
    ids, _ = random_prompts([40])
    more = random_prompts([7], seed=5)[0]
    with TokenPruning(schedule, pruner)(model) as trace, torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        logits = model(more, past_key_values=past, use_cache=True).logits[0]
    expected, _ = Reference(model, schedule, pruner).run(torch.cat([ids[0], more[0]]), 40)
    assert close(logits, expected[40:])
    assert len(trace.prefills) == 1
    assert past.layers[5].keys.shape[-2] == schedule.lengths(40, 6)[5] + 7


def test_a_second_turn_that_hides_cached_tokens_is_refused():
    model, schedule = tiny_model(), schedule_of()
    ids, more = random_prompts([40])[0], random_prompts([7], seed=5)[0]
    mask = torch.ones(1, 47, dtype=torch.long)
    mask[0, 39] = 0
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model), torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        with pytest.raises(ValueError, match="hides other cached tokens"):
            model(more, attention_mask=mask, past_key_values=past, use_cache=True)


@pytest.mark.parametrize("copies", [False, True])
def test_a_cache_pruned_elsewhere_is_refused(copies):
    model, schedule = tiny_model(), schedule_of()
    pruning, ids = TokenPruning(schedule, tiny_pruner(schedule.layers)), random_prompts([40])[0]
    with pruning(model), torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        with pytest.raises(ValueError, match="pruned elsewhere") if copies else nullcontext():
            model(ids[:, :1], past_key_values=deepcopy(past) if copies else past)
    with pruning(model), pytest.raises(ValueError, match="pruned elsewhere"):
        model(ids[:, :1], past_key_values=past)


def test_padded_cache_filled_outside_keeps_its_pads_hidden():
    model, schedule = tiny_model(), schedule_of()
    pruner = tiny_pruner(schedule.layers)
    ids, mask = random_prompts([40, 22])
    more = random_prompts([30, 30], seed=5)[0]
    logits = []
    for rows, start in ((slice(0, 2), 0), (slice(1, 2), 18)):
        with torch.no_grad():
            past = model(ids[rows, start:], attention_mask=mask[rows, start:], use_cache=True).past_key_values
            longer = torch.cat([mask[rows, start:], torch.ones_like(more[rows])], dim=1)
            with TokenPruning(schedule, pruner, prune="every")(model):
                logits.append(model(more[rows], attention_mask=longer, past_key_values=past).logits[-1, -1])
    assert close(logits[0], logits[1])


def test_every_prompt_is_cut_when_asked_without_new_sinks():
    model, schedule = tiny_model(), schedule_of()
    ids, more = random_prompts([40])[0], random_prompts([30], seed=5)[0]
    with TokenPruning(schedule, tiny_pruner(schedule.layers), prune="every")(model) as trace, torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        model(more, past_key_values=past, use_cache=True)
    assert len(trace.prefills) == 2
    kept = trace.kept_positions[2][0]
    assert len(kept) == 21 and kept.min() >= 40 and kept[-1] == 69
    assert trace.kv_lengths[2] == schedule.keep(40) + 21


def test_rows_below_the_threshold_pass_untouched_beside_longer_ones():
    model, schedule = tiny_model(), schedule_of()
    pruner = tiny_pruner(schedule.layers)
    ids, mask = random_prompts([38, 40])
    with TokenPruning(schedule, pruner, min_prompt_tokens=39)(model) as trace:
        _, logits = generate(model, ids, mask)
    short, _ = random_prompts([38, 40])
    _, alone = generate(model, short[:1, 2:], mask[:1, 2:])
    assert close(logits[0, 0], alone[0, 0])
    assert (trace.kept_positions[2][0] >= 0).sum() == 38
    assert (trace.kept_positions[2][1] >= 0).sum() == schedule.keep(40)


def test_prompt_below_the_threshold_is_reported():
    model, schedule = tiny_model(), schedule_of()
    with TokenPruning(schedule, tiny_pruner(schedule.layers), min_prompt_tokens=64)(model) as trace:
        generate(model, *random_prompts([40]))
    assert not trace.pruned and "min_prompt_tokens=64" in trace.reason and "min_prompt_tokens=64" in repr(trace)
    assert set(trace.kept_positions) == set(schedule.layers)


def hooks_of(model):
    return [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_leaving_by_an_exception_leaves_nothing_behind(error):
    model, schedule = tiny_model(), schedule_of()
    attributes = [set(vars(m)) for m in model.modules()]
    with pytest.raises(error), TokenPruning(schedule, tiny_pruner(schedule.layers))(model):
        assert sum(hooks_of(model)) > 0
        raise error
    assert sum(hooks_of(model)) == 0
    assert [set(vars(m)) for m in model.modules()] == attributes


def test_contexts_do_not_nest_but_can_be_used_again():
    model, schedule = tiny_model(), schedule_of()
    pruning = TokenPruning(schedule, tiny_pruner(schedule.layers))
    with pruning(model) as first:
        generate(model, *random_prompts([40]))
        with pytest.raises(ValueError, match="nest"), pruning(model):
            pass
    with pruning(model) as second:
        assert second.prefills == []
    assert len(first.prefills) == 1 and sum(hooks_of(model)) == 0


class Fixed:
    """A scorer with one value for all tokens."""

    def __init__(self, value):
        self.value = value

    def score(self, layer, hidden_states, context):
        scores = torch.zeros(hidden_states.shape[:2])
        scores[:, 7] = self.value
        return scores


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_refused_with_the_layer(value):
    model = tiny_model()
    with pytest.raises(ValueError, match="layer 2 .*NaN or infinite"), TokenPruning(schedule_of(), Fixed(value))(model):
        generate(model, *random_prompts([40]))
    assert sum(hooks_of(model)) == 0


def test_equal_scores_keep_the_later_tokens_without_noise():
    model, schedule = tiny_model(), schedule_of(layers=(2,))
    with TokenPruning(schedule, Fixed(0.0))(model) as trace:
        generate(model, *random_prompts([40]))
    assert trace.kept_positions[2][0].tolist() == [0, 1, *range(14, 40)]


def test_log_has_a_row_per_stage_and_prompt(tmp_path):
    model, schedule = tiny_model(), schedule_of()
    with TokenPruning(schedule, tiny_pruner(schedule.layers), log=tmp_path / "log.jsonl")(model) as trace:
        generate(model, *random_prompts([40, 25]))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(r["layer"], r["row"]) for r in rows] == [(layer, row) for layer in (2, 3, 5) for row in (0, 1)]
    for row in rows:
        assert row["kept"] == row["k"] == (trace.kept_positions[row["layer"]][row["row"]] >= 0).sum()
        assert row["pruned"] == row["tokens_before"] - row["kept"] and row["score_min"] <= row["score_max"]
        assert row["ties_decided"] is False


def test_bad_requests_are_refused_by_name():
    model, schedule = tiny_model(), schedule_of()
    pruner = tiny_pruner(schedule.layers)
    with pytest.raises(ValueError, match="layer 9"), TokenPruning(schedule_of(layers=(9,)), pruner)(model):
        pass
    with pytest.raises(ValueError, match="hidden size 8"), TokenPruning(schedule, TokenPruner(8, (2, 3, 5)))(model):
        pass
    with pytest.raises(ValueError, match=r"layers \[5\]"), TokenPruning(schedule, TokenPruner(HIDDEN, (2, 3)))(model):
        pass
    with pytest.raises(ValueError, match="needs a scorer"):
        TokenPruning(schedule)
    with pytest.raises(ValueError, match="positions"):
        TokenPruning(schedule, pruner, positions="other")
    with pytest.raises(ValueError, match="prune must"):
        TokenPruning(schedule, pruner, prune="never")
    ids, mask = random_prompts([40, 30])
    for message, inputs in {
        "left padding": {"input_ids": ids, "attention_mask": mask.flip(1)},
        "row 1 of the batch is an empty prompt": {"input_ids": ids, "attention_mask": mask * torch.tensor([[1], [0]])},
        "empty prompt": {"input_ids": ids[:, :0]},
        "mask of shape": {"input_ids": ids, "attention_mask": mask[:, :1]},
        "2-D attention mask": {"input_ids": ids, "attention_mask": mask[:, None, None]},
    }.items():
        with pytest.raises(ValueError, match=message), TokenPruning(schedule, pruner)(model):
            model(**inputs)
    with pytest.raises(ValueError, match="StaticCache"), TokenPruning(schedule, pruner)(model):
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=2, cache_implementation="static")
    with pytest.raises(ValueError, match="family 'Linear'"), TokenPruning(schedule, pruner)(torch.nn.Linear(2, 2)):
        pass
