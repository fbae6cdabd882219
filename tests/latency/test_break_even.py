"""From which length on pruning pays: clear wins and losses alone decide, and interpolation says that it is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib.latency.break_even import break_even, scaling_exponent

LENGTHS = (256, 512, 1024, 2048)


def document(*gains, scatter=0.01, part="prefill"):
    """Speedups at LENGTHS, the repeats `scatter` around each second; None: that length failed."""
    rows = {}
    for length, gain in zip(LENGTHS, gains, strict=False):
        if gain is None:
            rows[str(length)] = {"error": "MemoryError"}
            continue
        seconds = {"baseline": length / 1000, "sdtp": length / 1000 / gain}
        rows[str(length)] = {
            side: {
                f"{part}_latency_seconds": value,
                "spread": {part: [value * (1 - scatter), value * (1 + scatter)]},
            }
            for side, value in seconds.items()
        } | {"speedup": {part: gain}}
    return {"metadata": {}, "results": rows}


def test_it_lies_between_the_last_loss_and_the_first_win_on_a_log_axis():
    found = break_even(document(0.5, 0.8, 1.25, 2.0))
    assert found.tokens == pytest.approx(512 * 2**0.5) and found.bound == "about"
    assert found.text == "about 720 tokens (interpolated between 512, 0.80x, and 1024, 1.25x)"
    assert found.short == "about 720" and found.between == {512: 0.8, 1024: 1.25}
    assert break_even(document(0.5, 0.8, 1.25, part="total"), "total").tokens == found.tokens


def test_a_loss_at_a_longer_prompt_outweighs_an_earlier_win():
    assert break_even(document(1.5, 0.8, 0.8, 1.25)).between.keys() == {1024, 2048}
    assert break_even(document(1.5, 1.2, 1.2, 0.8)).text == "> 2048 tokens"


def test_bounds_where_all_or_none_pay():
    assert break_even(document(1.1, 1.2)).text == "<= 256 tokens"
    assert break_even(document(0.8, 0.9, 0.95)).text == "> 1024 tokens"


def test_lengths_whose_repeats_overlap_are_even_and_decide_nothing():
    found = break_even(document(0.8, 1.001, 0.999, 1.25))
    assert found.even == (512, 1024) and found.between.keys() == {256, 2048}
    assert found.text.endswith(
        "(interpolated between 256, 0.80x, and 2048, 1.25x), even within the spread at 512, 1024"
    )
    assert break_even(document(1.001, 1.25)).text == "<= 512 tokens, even within the spread at 256"
    assert break_even(document(0.8, 1.001)).text == "> 512 tokens, even within the spread at 512"
    assert break_even(document(1.2, 0.999)).text == "<= 256 tokens, even within the spread at 512"


def test_one_repeat_or_none_recorded_has_no_spread():
    found = break_even(document(0.8, 1.001, scatter=0.0))
    assert found.text.endswith(", one repeat") and found.even == ()
    bare = document(0.8, 1.25)
    for row in bare["results"].values():
        del row["baseline"]["spread"], row["sdtp"]["spread"]
    assert break_even(bare).tokens == pytest.approx(256 * 2**0.5)


def test_failed_lengths_and_missing_parts_are_left_out():
    assert break_even(document(None, 1.2)).text == "<= 512 tokens"
    for nothing in (document(), document(None)):
        found = break_even(nothing)
        assert (found.text, found.short, found.tokens) == ("not measured", "", None)
    assert break_even(document(1.2), "decode").text == "not measured"


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=4), st.floats(0, 0.3))
def test_the_answer_lies_within_what_was_measured(gains, scatter):
    found = break_even(document(*gains, scatter=scatter))
    assert found.short in found.text
    if found.between:
        lost, paid = found.between
        assert lost <= found.tokens <= paid and found.between[lost] < 1 < found.between[paid]
        assert LENGTHS.index(paid) > LENGTHS.index(lost)
    else:
        assert found.tokens in LENGTHS and found.bound in ("<=", ">")


def test_scaling_exponents_are_slopes_on_log_axes():
    linear = document(1.0, 1.0, 1.0, None)
    assert scaling_exponent(linear) == pytest.approx(1.0)
    halved = document(1.0, 2**0.5, 2.0)
    assert scaling_exponent(halved, "sdtp") == pytest.approx(0.5)
    assert (
        scaling_exponent(document(1.0))
        is scaling_exponent(document(None))
        is scaling_exponent(linear, "sdtp", "total")
        is None
    )
