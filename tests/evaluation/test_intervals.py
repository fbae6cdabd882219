from sdtp_lib.evaluation.intervals import Interval


def test_an_interval_of_a_difference_is_that_of_two_independent_means():
    gap = Interval(60.0, 57.0, 63.0).over(Interval(50.0, 46.0, 54.0))
    assert (gap.mean, gap.low, gap.high) == (10.0, 5.0, 15.0) and str(gap) == "+10.0 [+5.0, +15.0]"


def test_a_bar_within_an_interval_is_not_decided():
    gap = Interval(-2.0, -4.0, 0.0)
    assert [gap.at_least(bar) for bar in (-4.0, -3.0, 0.5)] == [True, None, False]
