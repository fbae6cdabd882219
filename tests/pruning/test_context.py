"""One pruned prompt: what is kept, what the cache then holds, what trace and log say of it."""

import json
import re

import pytest
import torch
from helpers import close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner

from sdtp_lib import PruningSchedule, TokenPruning
from sdtp_lib.pruning.versions import find_cache

STEPS = 4  # new tokens that `generate` makes


def count_keys(model):
    """Handles and {layer: [keys seen in each forward]}, read at the attention function's own cache update."""
    seen = {}

    def hook_of(layer):
        def hook(module, args, kwargs, output):
            seen.setdefault(layer, []).append(find_cache(kwargs.values()).layers[layer].keys.shape[-2])

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


def test_log_of_a_prompt_that_was_not_cut_has_no_scores(tmp_path):
    model, schedule = tiny_model(), schedule_of(keep=1.0)
    with TokenPruning(schedule, tiny_pruner(schedule.layers), log=tmp_path / "log.jsonl")(model):
        generate(model, *random_prompts([40]))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and all(row["kept"] == 40 and row["score_min"] is None for row in rows)


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
def test_trace_tells_what_the_cache_holds(family):
    model, schedule = tiny_model(family, None, dtype=torch.bfloat16), schedule_of()
    ids, mask = random_prompts([50, 20])
    with TokenPruning(schedule, tiny_pruner(schedule.layers).bfloat16())(model) as trace, torch.no_grad():
        cache = model(ids, attention_mask=mask, use_cache=True).past_key_values
    assert trace.kv_lengths == [part.keys.shape[-2] for part in cache.layers]
    assert trace.kv_bytes == [2 * 2 * part.keys.numel() for part in cache.layers]  # keys and values, two bytes each
    assert trace.pruned and trace.reason is None
    (prefill,) = json.loads(trace.to_json(indent=1))["prefills"]
    assert prefill["kv_lengths"] == trace.kv_lengths and prefill["kv_bytes"] == trace.kv_bytes
    assert prefill["kept_positions"] == {str(x): trace.kept_positions[x].tolist() for x in schedule.layers}
    assert prefill["pruned"] is True and prefill["tokens"] == 50
    for layer in schedule.layers:
        rows = [schedule.lengths(n, 6)[layer] for n in (50, 20)]
        assert re.search(rf"{layer} +{rows[0]} {rows[1]} +{trace.kv_lengths[layer]}\b", repr(trace))


def test_trace_before_any_prompt_says_so():
    model, schedule = tiny_model(), schedule_of()
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model) as trace:
        assert not trace.pruned and "no prompt" in repr(trace) and json.loads(trace.to_json()) == {"prefills": []}
        assert trace.kept_positions == {} and trace.kv_lengths == trace.kv_bytes == []


def test_a_schedule_without_stages_needs_no_scorer():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    stock = generate(model, ids, mask)[1]
    with TokenPruning(PruningSchedule.preset("none", 6))(model) as trace:
        assert torch.equal(generate(model, ids, mask)[1], stock)
    assert trace.reason == "the schedule has no stages" and trace.kv_lengths == [40] * 6
