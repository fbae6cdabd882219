"""Tokens that the caller never wants cut: `keep=`, against the full model under masks and the rule token by token."""

import json

import numpy as np
import pytest
import torch
from helpers import Reference, close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule, TokenPruning

SCHEDULE = schedule_of()
PRUNER = tiny_pruner(SCHEDULE.layers)
SCHEDULES = st.builds(
    schedule_of,
    keep=st.floats(0.05, 1.0),
    sink_tokens=st.integers(0, 6),
    local_ratio=st.floats(0, 0.6),
    min_local_tokens=st.integers(1, 10),
)


def kept_of(trace, layer, row, pads=0):
    return [column - pads for column in trace.kept_positions[layer][row].tolist() if column >= 0]


@st.composite
def kept_rows(draw):
    """Lengths of the rows of a batch and, for each row, the columns of its own that are never cut."""
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    share = draw(st.floats(0, 1))  # of the tokens, so that few as well as nearly all are named
    return lengths, [sorted(draw(st.sets(st.integers(0, n - 1), max_size=int(share * n)))) for n in lengths]


def mask_of(lengths, keeps):
    named = torch.zeros(len(lengths), max(lengths), dtype=torch.bool)
    for row, (n, keep) in enumerate(zip(lengths, keeps, strict=True)):
        named[row, torch.tensor(keep, dtype=torch.long) + max(lengths) - n] = True
    return named


@settings(max_examples=60, deadline=None)
@given(rows=kept_rows(), schedule=SCHEDULES, family=st.sampled_from(["llama", "gemma3", "bloom"]), data=st.data())
def test_rows_of_a_batch_equal_the_masked_full_model(rows, schedule, family, data):
    positions = "original" if family == "bloom" else data.draw(st.sampled_from(["original", "compact"]))
    (lengths, keeps), model = rows, tiny_model(family, None)
    ids, mask = random_prompts(lengths)
    named = mask_of(lengths, keeps)
    with TokenPruning(schedule, PRUNER, positions=positions, keep=named)(model) as trace:
        new, logits = generate(model, ids, mask, steps=2)
    assert [torch.nonzero(row)[:, 0].tolist() for row in named] == trace.never_cut
    for row, (length, keep) in enumerate(zip(lengths, keeps, strict=True)):
        pads = max(lengths) - length
        sequence = torch.cat([ids[row, pads:], new[row]])
        expected, kept = Reference(model, schedule, PRUNER, positions).run(sequence, length, keep=keep)
        for layer in schedule.layers:
            ours = kept_of(trace, layer, row, pads)
            assert ours == kept[layer] and set(keep) <= set(ours)
        assert close(logits[row], expected[length - 1 : -1])


@settings(max_examples=40, deadline=None)
@given(
    keep=st.sets(st.integers(0, 69), max_size=60),
    schedule=SCHEDULES,
    family=st.sampled_from(["llama", "qwen3", "bloom"]),
    rows=st.integers(1, 2),
)
def test_later_prompts_keep_what_is_named_of_them(keep, schedule, family, rows):
    """Two prompts of one conversation, or two chunks of a prompt, under prune="every"."""
    model, ids, more = tiny_model(family, None), random_prompts([40])[0], random_prompts([30], seed=5)[0]
    ids, more = ids.expand(rows, -1), more.expand(rows, -1)
    with TokenPruning(schedule, PRUNER, prune="every", keep=sorted(keep))(model) as trace, torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        last = model(more, past_key_values=past, use_cache=True).logits[:, -1]
    whole = torch.cat([ids[0], more[0]])
    expected, kept = Reference(model, schedule, PRUNER).run(whole, 40, (40, 70), keep)
    for layer in schedule.layers:
        ours = [prefill.kept_positions[layer][-1].tolist() for prefill in trace.prefills]
        assert sum(ours, []) == kept[layer]
    assert [prefill.never_cut for prefill in trace.prefills] == [
        [sorted(keep & {*columns})] * rows if keep else [] for columns in (range(40), range(40, 70))
    ]
    assert close(last[-1], expected[-1])


def run(lengths=(40,), more=None, **options):
    ids, mask = random_prompts(list(lengths))
    with TokenPruning(SCHEDULE, PRUNER, **options)(MODEL) as trace, torch.no_grad():
        past = MODEL(ids, attention_mask=mask, use_cache=True).past_key_values
        if more:
            MODEL(random_prompts([more], seed=5)[0], past_key_values=past)
    return trace


MODEL = tiny_model()


@pytest.mark.parametrize(
    "named",
    [[3, 10, 11, 12, 38], slice(3, 39, 5), [slice(8, 20), 30], [slice(None, 9), slice(25, None)], range(5, 12),
     np.arange(4), torch.tensor([7, 9]), [np.int64(7)], (7, 7), []],
)  # fmt: skip
def test_positions_and_slices_name_what_they_would_of_a_list(named):
    columns = list(range(40))
    parts = [named] if isinstance(named, slice) else named
    wanted = [columns[part] if isinstance(part, slice) else [columns[part]] for part in parts]
    wanted = sorted({column for part in wanted for column in part})
    assert run(keep=named).never_cut == ([wanted] if len(wanted) else [])


def test_nothing_named_is_as_without():
    plain = run()
    for nothing in (None, [], slice(0, 0), torch.zeros(1, 40, dtype=torch.bool)):
        trace = run(keep=nothing)
        assert all(torch.equal(trace.kept_positions[x], plain.kept_positions[x]) for x in SCHEDULE.layers)
        assert "never cut" not in repr(trace)


def test_named_tokens_count_within_the_budget():
    """The length stays that of the ratio until the forced tokens are more; then it is theirs."""
    few, many, all_but_one = (run(keep=range(n)) for n in (10, 30, 39))
    assert few.kv_lengths == run().kv_lengths == SCHEDULE.lengths(40, 6)
    assert many.kv_lengths == [40, 40, 34, 33, 33, 33]  # 30 first ones, 2 sinks among them, and the last 4, then 3
    assert all_but_one.kv_lengths == [40] * 6 and not all_but_one.pruned
    assert "keep names too much" in all_but_one.reason and "never cut, as keep= says: 39 tokens" in repr(all_but_one)


def test_the_end_of_a_prompt_is_not_counted_twice():
    trace = run(keep=slice(10, None))
    assert trace.kv_lengths == [40, 40, 32, 32, 32, 32]  # 30 named, which hold the last ones, and 2 sinks
    assert trace.kept_positions[5][0].tolist() == [0, 1, *range(10, 40)]


def test_trace_and_log_tell_named_tokens(tmp_path):
    trace = run(keep=[slice(5, 9)], log=tmp_path / "log.jsonl")
    (prefill,) = json.loads(trace.to_json())["prefills"]
    assert prefill["never_cut"] == [[5, 6, 7, 8]] and "never cut, as keep= says: 4 tokens" in repr(trace)

    class Equal:
        def score(self, layer, hidden_states, context):
            return (context.columns != 20).float()

    with TokenPruning(schedule_of(0.99, layers=(2,)), Equal(), log=tmp_path / "ties.jsonl", keep=[19])(MODEL):
        MODEL(random_prompts([40])[0])
    assert json.loads((tmp_path / "ties.jsonl").read_text())["ties_decided"] is False


@pytest.mark.parametrize(
    "keep, words",
    [([-1], "got -1"), ([1.5], "got 1.5"), ([True], "got True"), ("system", "got 's'"), ([range(3)], "got range"),
     (slice(-3, None), "got -3"), (slice(9, 3, -1), "got -1"), (slice(3, 9, 0), "a step that is not positive"),
     (torch.ones(40, dtype=torch.bool), r"a bool tensor of shape \(40,\)"), (torch.ones(1, 40), "a float32 tensor"),
     (torch.ones(1, 40, 1, dtype=torch.bool), r"of shape \(1, 40, 1\)"), ([torch.tensor([1, 2])], "got tensor")],
)  # fmt: skip
def test_what_names_no_tokens_is_refused_at_once(keep, words):
    with pytest.raises(ValueError, match=words):
        TokenPruning(SCHEDULE, PRUNER, keep=keep)


@pytest.mark.parametrize(
    "keep, options, words",
    [([40], {}, "column 40 of a prompt of 40 tokens"), (slice(30, 41), {}, "column 40 of"),
     (slice(40, None), {}, "column 40 of"), ([5], dict(lengths=(40, 22)), "rows that differ in length"),
     (torch.ones(1, 39, dtype=torch.bool), {}, r"shape \(1, 39\), expected \(1, 40\)"),
     (torch.ones(1, 41, dtype=torch.bool), {}, r"shape \(1, 41\), expected \(1, 40\)"),
     (torch.ones(2, 40, dtype=torch.bool), {}, r"shape \(2, 40\), expected \(1, 40\)"),
     (torch.ones(1, 39, dtype=torch.bool), dict(prune="every"), r"expected \(1, 40\)"),
     (torch.ones(2, 40, dtype=torch.bool), dict(lengths=(40, 22)), "column 0 of row 1, which is padding")],
)  # fmt: skip
def test_what_does_not_fit_the_prompt_is_refused_before_the_model_runs(keep, options, words):
    with pytest.raises(ValueError, match=words):
        run(keep=keep, **options)


def test_a_mask_may_be_wider_than_a_chunk_and_end_before_a_later_prompt():
    for width in (40, 55, 70, 99):
        trace = run(keep=torch.arange(width)[None] % 7 == 0, more=30, prune="every")
        named = [prefill.never_cut[0] for prefill in trace.prefills]
        assert named == [[*range(0, 40, 7)], [*range(42, min(width, 70), 7)]]
    assert [each.never_cut for each in run(keep=[3, 90], more=30, prune="every").prefills] == [[[3]], [[]]]


def test_beams_keep_what_the_prompt_does():
    ids, mask = random_prompts([40])
    with TokenPruning(SCHEDULE, PRUNER, keep=range(8))(MODEL) as trace:
        MODEL.generate(input_ids=ids, attention_mask=mask, max_new_tokens=3, num_beams=2, do_sample=False)
    assert all(trace.kept_positions[5][row, :8].tolist() == [*range(8)] for row in (0, 1))


def test_nothing_is_read_from_the_device_with_or_without():
    """On the meta device there are no values, so that every look at one would fail; one prompt needs none."""
    model = tiny_model("bloom", None).to("meta")  # rotary positions cannot be computed there
    pruner = tiny_pruner(SCHEDULE.layers).to("meta")
    for keep in (None, range(3, 10)):
        with TokenPruning(SCHEDULE, pruner, keep=keep)(model) as trace:
            model(torch.zeros(1, 40, dtype=torch.long, device="meta"))
        assert trace.kv_lengths == SCHEDULE.lengths(40, 6)


def test_schedules_with_a_ratio_for_each_stage_keep_it():
    schedule = PruningSchedule((2, 4), (0.5, 0.5), sink_tokens=1, min_local_tokens=1, local_ratio=0.0)
    with TokenPruning(schedule, PRUNER_2_4, keep=range(20, 30))(MODEL) as trace:
        MODEL(random_prompts([40])[0])
    assert trace.kv_lengths == [40, 40, 20, 20, 12, 12]  # then the sink, the last, and the ten named


PRUNER_2_4 = tiny_pruner((2, 4))
