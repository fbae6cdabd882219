"""What the full model's own times at shorter prompts allow a pruned prefill."""

import pytest
from result_files import latency_document

from sdtp_lib.latency.length_limit import expected_seconds, length_table


def test_time_that_goes_with_tokens_gives_the_mean_of_the_tokens():
    full = {length: length / 1000 for length in (100, 400, 1000)}
    assert expected_seconds(full, [1000, 500, 200, 100]) == pytest.approx((1 + 0.5 + 0.2 + 0.1) / 4)


def test_a_law_of_any_power_is_interpolated_exactly():
    full = {length: length**1.7 for length in (64, 1024, 4096)}
    assert expected_seconds(full, [3000, 77]) == pytest.approx((3000**1.7 + 77**1.7) / 2)


def test_a_layer_below_the_shortest_prompt_takes_as_long_as_there():
    assert expected_seconds({64: 2.0, 128: 3.0}, [128, 64, 5]) == pytest.approx((3 + 2 + 2) / 3)


@pytest.mark.parametrize("full", [{}, {64: 1.0, 128: 2.0}])
def test_nothing_is_made_up_above_the_longest(full):
    with pytest.raises(ValueError, match="no prompt of 200 tokens was measured"):
        expected_seconds(full, [200, 100])


def test_the_table_has_both_estimates():
    """Full prefills of 0.5 and 1 second; half of the layers keep 358 of 1,024 tokens."""
    lines = length_table({"keep09": latency_document("keep09")}).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    (row,) = [dict(zip(cells[0], line, strict=True)) for line in cells if line[0] == "1024"]
    assert row["speedup"] == "1.38" and row["estimate, FLOPs"] == "2.00"
    assert row["estimate, full model's times"] == "1.33"  # 1 / ((1 + 0.5) / 2): below 512 tokens nothing was measured
    assert row["of times, %"] == "103"
    (short,) = [dict(zip(cells[0], line, strict=True)) for line in cells if line[0] == "512"]
    assert short["of times, %"] == "131"  # half of its layers are below the shortest prompt, but not more


def test_most_layers_below_the_shortest_prompt_leave_the_limit_open():
    document = latency_document("keep09", lengths=(512,))
    document["results"]["512"]["sdtp"]["kv_lens_after_prefill"] = [512, 100, 100]
    assert length_table({"keep09": document}).splitlines()[2].split("|")[5].strip() == "-"
