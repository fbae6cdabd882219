"""Paired differences: the same samples on both sides, an interval by resampling them, and plain words."""

import numpy as np
import pytest

from sdtp_lib.evaluation.bootstrap import standard_error
from sdtp_lib.evaluation.paired_differences import FEWEST, paired_differences


def side(scores, dataset="qasper", start=0):
    """Samples of one dataset with these scores."""
    return [
        {"_id": str(start + i), "dataset": dataset, "answers": ["a"], "prompt_tokens": 9, "score": float(score)}
        for i, score in enumerate(scores)
    ]


def test_differences_by_hand():
    full = side([1, 1, 0.5, 0, 1, 1]) + side([1] * 5, "lcc")
    pruned = side([1, 0.5, 0.5, 0, 0, 1]) + side([1, 1, 1, 0, 1], "lcc")
    found = paired_differences(full, pruned[::-1])
    assert found == paired_differences(full, pruned)
    qasper = found["tasks"]["qasper"]
    assert qasper["difference"] == -25 and qasper["n"] == 6
    assert qasper["stderr"] == pytest.approx(np.std([0, -50, 0, 0, -100, 0], ddof=1) / 6**0.5, abs=1e-3)
    assert found["average"]["difference"] == pytest.approx((-25 - 20) / 2)  # over datasets, not over samples
    assert found["average"]["stderr"] == pytest.approx((qasper["stderr"] ** 2 + 20**2) ** 0.5 / 2, abs=1e-3)
    assert found["categories"]["SingleDoc"] == qasper and found["average"]["n"] == 11


def test_words_follow_the_interval():
    rng = np.random.default_rng(0)
    full = rng.random(200)
    for shift, verdict in ((-0.1, "lower"), (0.1, "higher"), (0.0, "no difference seen")):
        found = paired_differences(side(full), side(full + shift + 0.05 * rng.standard_normal(200)))["average"]
        low, high = found["ci95"]
        assert found["verdict"] == verdict and low < found["difference"] < high
        assert (low <= 0 <= high) == (verdict == "no difference seen")
        assert (high - low) / 2 == pytest.approx(1.96 * found["stderr"], rel=0.1)
    same = paired_differences(side(full), side(full))["average"]
    assert same["ci95"] == [0, 0] and same["verdict"] == "no difference seen"


def test_pairing_cancels_how_hard_samples_are():
    full = np.random.default_rng(1).random(100)
    found = paired_differences(side(full), side(full - 0.02))["average"]
    assert found["verdict"] == "lower" and found["stderr"] < 0.01 < 100 * np.std(full) / 10


def test_few_samples_say_nothing():
    ones, zeros = [1] * (FEWEST - 1), [0] * (FEWEST - 1)
    found = paired_differences(side(ones) + side([1] * 9, "lcc"), side(zeros) + side([0] * 9, "lcc"))
    assert found["tasks"]["qasper"]["verdict"] == found["average"]["verdict"] == "too few samples"
    assert found["tasks"]["lcc"]["verdict"] == "lower"
    assert paired_differences(side([1]), side([0]))["average"]["stderr"] is None
    assert standard_error([[0, 2], [1]]) is None


def test_other_samples_are_refused():
    for full, pruned in (([], []), (side([1, 1]), side([1])), (side([1]), side([1, 1])), (side([1]), side([1], "lcc"))):
        with pytest.raises(ValueError, match="same records on both sides"):
            paired_differences(full, pruned)
    with pytest.raises(ValueError, match="same records"):
        paired_differences(side([1, 1]), side([1]) * 2)
    for changed in ({"answers": ["b"]}, {"prompt_tokens": 8}):
        with pytest.raises(ValueError, match="qasper record 0 has other answers or another prompt"):
            paired_differences(side([1]), [{**side([1])[0], **changed}])
