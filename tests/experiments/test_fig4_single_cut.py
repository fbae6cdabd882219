"""From which layer on one cut is free."""

from sdtp_lib.experiments.fig4_single_cut import free_from, single_cuts


def points(verdicts, method="sdtp"):
    (layers, ratio) = range(4, 4 + len(verdicts)), 0.3
    return [
        {**point, "score": 90.0, "flops": 0.5, "against_full": {"verdict": verdict, "ci95": [-3.0, 1.0]}}
        for point, verdict in zip(single_cuts(layers, [ratio], [method]), verdicts, strict=True)
    ]


def row(verdicts):
    return free_from(points(verdicts), 95.0).splitlines()[2]


def test_a_cut_is_free_above_the_last_layer_where_something_was_lost():
    assert "| 6 " in row(["lower", "lower", "no difference seen", "no difference seen"])
    assert "| 7 " in row(["lower", "no difference seen", "lower", "higher"])
    assert "| 4 " in row(["no difference seen"] * 4) and "-3.0 to +1.0" in row(["no difference seen"] * 4)


def test_where_the_last_cut_costs_it_is_free_nowhere():
    assert "nowhere" in row(["no difference seen", "lower"])


def test_too_few_records_say_nothing():
    assert "too few samples" in row(["too few samples"] * 3)
