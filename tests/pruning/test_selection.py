"""Choosing tokens, against the rule written out token by token."""

import torch
from helpers import naive_choice
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule
from sdtp_lib.pruning.selection import boundary_tie, select, select_ragged

scores_of = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1e30, -1e30]), min_size=1, max_size=40)
schedules = st.builds(
    PruningSchedule,
    layers=st.just((1,)),
    keep_ratio=st.floats(0.05, 1.0),
    sink_tokens=st.integers(0, 6),
    local_ratio=st.floats(0, 1),
    min_local_tokens=st.integers(1, 10),
)


@given(scores=scores_of, schedule=schedules)
def test_select_follows_the_rule_with_ties(scores, schedule):
    n = len(scores)
    kept = select(torch.tensor([scores]), schedule.keep(n), *schedule.forced(n))
    assert kept[0].tolist() == naive_choice(scores, list(range(n)), schedule, schedule.keep_ratio)


@settings(max_examples=60)
@given(rows=st.lists(scores_of, min_size=1, max_size=4), schedule=schedules, absent=st.floats(-2, 2))
def test_ragged_rows_keep_what_each_keeps_alone(rows, schedule, absent):
    tokens = max(map(len, rows))
    scores = torch.tensor([[absent] * (tokens - len(r)) + r for r in rows])
    present = [len(r) for r in rows]
    keep = [schedule.keep(n) for n in present]
    numbers = torch.tensor([present, keep, *zip(*[schedule.forced(n) for n in present], strict=True)])
    index, filled = select_ragged(scores, *numbers, max(keep))
    for row, values in enumerate(rows):
        expected = naive_choice(values, list(range(len(values))), schedule, schedule.keep_ratio)
        assert (index[row][filled[row]] - (tokens - len(values))).tolist() == expected


def test_boundary_tie_sees_only_movable_tokens():
    scores = torch.tensor([9.0, 1.0, 1.0, 2.0, 1.0])
    kept = torch.tensor([True, False, True, True, True])
    movable = torch.tensor([False, True, True, True, False])
    assert boundary_tie(scores, kept, movable)
    assert not boundary_tie(torch.tensor([1.0, 1.0, 3.0, 2.0, 1.0]), kept, movable)
