"""The limits from FLOPs and bytes, and Table 2's FLOP columns recomputed."""

import math

import pytest
import torch
from helpers import tiny_model

from sdtp_lib.latency import flop_estimates as limits
from sdtp_lib.latency import flops
from sdtp_lib.models.shapes import shape_config
from sdtp_lib.paper import TABLE2
from sdtp_lib.pruning.schedule import UNPRUNED, PruningSchedule

MISTRAL_7B = shape_config()
PAPER = PruningSchedule.preset("paper", 32)
ALL = [(cut, forced) for cut in limits.CUTS for forced in limits.FORCED]


def test_prefill_limit_of_the_papers_schedule():
    for tokens, expected in {4096: 1.56, 16384: 1.63, 32768: 1.71, 131072: 1.91}.items():
        assert limits.prefill_limit(MISTRAL_7B, PAPER, tokens) == pytest.approx(expected, abs=0.01)
        assert limits.prefill_limit(MISTRAL_7B, PAPER, tokens, causal=False) > expected
    assert limits.prefill_limit(MISTRAL_7B, UNPRUNED, 4096) == 1


def test_end_to_end_limit_is_amdahls():
    def limit(prefill=3.0, decode=1.0, schedule=PAPER):
        return limits.end2end_limit(MISTRAL_7B, schedule, 32768, 128, prefill, decode, torch.bfloat16)

    alone = limits.prefill_limit(MISTRAL_7B, PAPER, 32768)
    lengths = [PAPER.lengths(32768, 32), [32768] * 32]
    cache = [
        flops.kv_bytes(MISTRAL_7B, [n + 64 for n in each], torch.bfloat16) for each in lengths
    ]  # steps see 1 to 127
    weights = 2 * (MISTRAL_7B.hidden_size * 32000 + 6_979_321_856)  # head and layers; 13.96 GFLOP a token
    pruned, full = (weights + each for each in cache)
    assert limit() == pytest.approx(4 / (3 / alone + pruned / full), rel=1e-6)
    assert limit(decode=1e-9) == pytest.approx(alone)
    assert limit(prefill=1e-9) == pytest.approx(full / pruned)
    assert limit(schedule=UNPRUNED) == 1


@pytest.mark.parametrize("family", ["bloom", "qwen3_moe", "demo"])
def test_limits_know_other_families(family):
    config, schedule = tiny_model(family, None, layers=6).config, PruningSchedule((2, 4), 0.5)
    assert 1 < limits.prefill_limit(config, schedule, 100) < limits.prefill_limit(config, schedule, 10_000)
    found = limits.end2end_limit(config, schedule, 100, 8, 1.0, 1.0, torch.float32)
    assert 1 < found < limits.prefill_limit(config, schedule, 100)


@pytest.mark.parametrize(
    "change",
    [{"new_tokens": 1}, {"prefill_seconds": 0.0}, {"decode_seconds": math.nan}],
    ids=lambda change: next(iter(change)),
)
def test_times_that_cannot_be_are_refused(change):
    given = {"new_tokens": 128, "prefill_seconds": 1.0, "decode_seconds": 1.0, "dtype": torch.bfloat16} | change
    with pytest.raises(ValueError, match="seconds" if "seconds" in str(change) else next(iter(change))):
        limits.end2end_limit(MISTRAL_7B, PAPER, 4096, **given)


@pytest.mark.parametrize("part", limits.NEW_TOKENS)
def test_formula_recomputes_table_2(part):
    rows = limits.table2_flops(part)
    assert [row["tokens"] for row in rows] == list(TABLE2)
    for row in rows:
        assert row["paper: full"] == TABLE2[row["tokens"]][f"{part} TFLOPs full"]
        assert row["formula: full"] == pytest.approx(row["paper: full"], rel=1e-4)
        assert row["formula: SDTP"] == pytest.approx(row["paper: SDTP"], rel=5e-3)
        assert row["formula: ratio"] == pytest.approx(row["paper: ratio"], abs=3e-3)


def test_formula_recomputes_the_papers_decode_to_its_last_digit():
    for prefill, both in zip(limits.table2_flops("prefill"), limits.table2_flops("end2end"), strict=True):
        theirs, formula = (both[f"{name}: SDTP"] - prefill[f"{name}: SDTP"] for name in ("paper", "formula"))
        assert formula == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize("part", limits.NEW_TOKENS)
def test_other_readings_recompute_it_worse(part):
    def worst(cut, forced):
        return max(abs(row["formula: SDTP"] / row["paper: SDTP"] - 1) for row in limits.table2_flops(part, cut, forced))

    errors = {reading: worst(*reading) for reading in ALL}
    assert sorted(errors, key=errors.get)[:2] == [("before", "besides"), ("after", "within")]
    assert errors["before", "besides"] < 0.005 < 0.02 < errors["after", "within"] < 0.03


def test_mean_keep_of_the_readings():
    means = {reading: sum(limits.paper_lengths(65536, *reading)) / 65536 / 32 for reading in ALL}
    expected = {"after within": 0.653, "before within": 0.632, "after besides": 0.687, "before besides": 0.669}
    assert {" ".join(reading): round(mean, 3) for reading, mean in means.items()} == expected
    assert limits.paper_lengths(65536, "after", "within") == PAPER.lengths(65536, 32)


def test_ours_in_the_table_is_the_schedules_count():
    prefill, both = limits.table2_flops("prefill")[0], limits.table2_flops("end2end")[0]
    assert prefill["ours, causal: SDTP"] * 1e12 == pytest.approx(flops.schedule_flops(MISTRAL_7B, PAPER, 4096))
    assert both["ours, dense: full"] * 1e12 == pytest.approx(
        flops.schedule_flops(MISTRAL_7B, UNPRUNED, 4096, 128, causal=False)
    )
    limit = limits.prefill_limit(MISTRAL_7B, PAPER, 4096)
    assert prefill["ours, causal: ratio"] == pytest.approx(1 / limit)


def test_unknown_readings_and_parts_are_refused():
    with pytest.raises(ValueError, match="'at'"):
        limits.paper_lengths(4096, cut="at")
    with pytest.raises(ValueError, match="unknown part 'decode'"):
        limits.table2_flops("decode")
