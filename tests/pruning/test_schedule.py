"""Schedules: presets, counts and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule


@pytest.mark.parametrize("name", ["paper", "keep09", "keep08", "keep07"])
@pytest.mark.parametrize("layers, stages", [(32, 10), (28, 8)])
def test_presets_cut_every_third_layer_from_the_fourth(name, layers, stages):
    schedule = PruningSchedule.preset(name, layers)
    assert schedule.layers == tuple(4 + 3 * i for i in range(stages))
    assert schedule.keep_ratio == {"paper": 0.9, "keep09": 0.9, "keep08": 0.8, "keep07": 0.7}[name]


def test_other_presets():
    assert PruningSchedule.preset("low", 32).layers == (4, 9, 14, 19, 24)
    assert PruningSchedule.preset("none", 32).layers == ()
    assert PruningSchedule.preset("paper", 14).layers == tuple(range(4, 14))
    assert PruningSchedule.preset("low", 14).layers == (4, 6, 8, 10, 12)
    assert PruningSchedule.preset("paper", 6, first=2).layers == (2, 3, 4, 5)


def test_stretched_cuts_at_the_same_fractions_of_depth():
    schedule = PruningSchedule((4, 7), (0.5, 0.8), 2, 0.2, 8)
    assert schedule.stretched(14, 32) == PruningSchedule((9, 16), (0.5, 0.8), 2, 0.2, 8)
    assert schedule.stretched(14, 14) == schedule and schedule.stretched(14, 7).layers == (2, 4)
    for layers in (1, 2):
        with pytest.raises(ValueError, match=f"do not fit a model of {layers} layers"):
            schedule.stretched(14, layers)


def test_paper_schedule_leaves_what_the_paper_says():
    schedule = PruningSchedule.preset("paper", 32)
    assert schedule.lengths(100_000, 32)[-1] / 100_000 == pytest.approx(0.9**10, abs=1e-3)
    assert schedule.compression(100_000, 32) == pytest.approx(1.53, abs=0.01)
    assert PruningSchedule.preset("low", 32).compression(100_000, 32) == pytest.approx(1.32, abs=0.01)


@given(
    tokens=st.integers(1, 5000),
    keep=st.floats(0.01, 1.0),
    sinks=st.integers(0, 40),
    ratio=st.floats(0, 1),
    local=st.integers(0, 60),
)
def test_lengths_follow_the_rule_and_never_reach_zero(tokens, keep, sinks, ratio, local):
    schedule = PruningSchedule((1, 2, 4), keep, sinks, ratio, local)
    present = tokens
    for layer, length in enumerate(schedule.lengths(tokens, 6)):
        if layer in schedule.layers:
            tail = min(present, max(local, math.floor(ratio * present), 1))
            present = max(math.floor(keep * present), min(present, sinks + tail))
        assert length == present > 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layers": (0, 3)}, "layer 0 is never cut"),
        ({"layers": (1, 3), "keep_ratio": (0.5,)}, "2 stages need as many keep ratios"),
        ({"layers": (), "keep_ratio": ()}, "0 stages need as many keep ratios"),
        ({"layers": (1, 3), "keep_ratio": (0.5, 1.5)}, "keep_ratio"),
        ({"layers": (1, 3), "keep_ratio": (0.5, None)}, "keep_ratio"),
        ({"keep_ratio": "0.9"}, "keep_ratio"),
        ({"layers": (3, 3)}, "increasing"),
        ({"layers": (1.5,)}, "integers"),
        ({"keep_ratio": 0.0}, "keep_ratio"),
        ({"keep_ratio": 1.1}, "keep_ratio"),
        ({"keep_ratio": float("nan")}, "keep_ratio"),
        ({"local_ratio": -0.1}, "local_ratio"),
        ({"local_ratio": float("nan")}, "local_ratio"),
        ({"sink_tokens": -1}, "sink_tokens"),
        ({"min_local_tokens": -1}, "min_local_tokens"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        PruningSchedule(**{"layers": (1, 2), **options})


def test_schedules_that_fit_no_model_are_refused():
    with pytest.raises(ValueError, match="unknown schedule 'keep06'"):
        PruningSchedule.preset("keep06", 32)
    with pytest.raises(ValueError, match="no layer 4"):
        PruningSchedule.preset("paper", 4)
    with pytest.raises(ValueError, match="5 stages do not fit"):
        PruningSchedule.spread(5, 8, first=4, keep_ratio=0.9)
    with pytest.raises(ValueError, match="layer 9"):
        PruningSchedule((9,)).lengths(10, 8)
    with pytest.raises(ValueError, match="at least one token"):
        PruningSchedule((4,)).lengths(0, 8)


def test_every_stage_may_have_its_own_ratio():
    schedule = PruningSchedule([2, 4], [0.5, 0.8], sink_tokens=0, local_ratio=0.0, min_local_tokens=1)
    assert schedule.lengths(100, 6) == [100, 100, 50, 50, 40, 40]
    assert schedule.ratios == (0.5, 0.8) and PruningSchedule((2, 4), 0.7).ratios == (0.7, 0.7)
    assert schedule.to_dict()["keep_ratio"] == [0.5, 0.8]
    assert PruningSchedule(**schedule.to_dict()) == schedule and hash(schedule)


@pytest.mark.parametrize(
    "text, layers, ratios",
    [("15:0.3", (15,), (0.3,)), ("4,7:.9", (4, 7), (0.9, 0.9)), ("8:0.5,15:0.25", (8, 15), (0.5, 0.25))],
)
def test_cuts_may_be_written_out(text, layers, ratios):
    schedule = PruningSchedule.named(text, 30)
    assert (schedule.layers, schedule.ratios) == (layers, ratios)


@pytest.mark.parametrize("text", ["15:", ":0.3", "4,7", "4:0.5,7", "4,8:0.5,15:0.3", "4:0.5;7:0.4", "4:0.5,", "a:0.5"])
def test_what_is_neither_a_name_nor_cuts_is_refused(text):
    with pytest.raises(ValueError, match="names no cuts|unknown schedule"):
        PruningSchedule.named(text, 30)
