"""The record of one length: limits beside the speedups, from the full model's own seconds and cache."""

import json

import pytest
import torch
from helpers import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from sdtp_lib.latency import files as latency_files
from sdtp_lib.latency import flop_estimates as limits
from sdtp_lib.latency import flops
from sdtp_lib.latency.record import latency_record
from sdtp_lib.latency.timing import Run
from sdtp_lib.pruning.schedule import UNPRUNED, PruningSchedule

CONFIG = tiny_model("mistral", layers=6).config
SCHEDULE, TOKENS, NEW = PruningSchedule((2, 4), 0.5), 300, 8


def run(schedule, prefill, decode, dtype=torch.bfloat16, config=CONFIG):
    lengths = schedule.lengths(TOKENS, config.num_hidden_layers)
    return Run(
        TOKENS, prefill, decode, None if decode is None else prefill + decode, lengths,
        flops.kv_bytes(config, lengths, dtype), dtype, torch.zeros(1, 1 if decode is None else NEW), None,
    )  # fmt: skip


def record(decode=4.0, **options):
    full = [run(UNPRUNED, prefill, decode, **options) for prefill in (1.0, 1.2, 9.0)]
    pruned = [run(SCHEDULE, 0.8, decode and decode - 1, **options) for _ in full]
    return latency_record(options.get("config", CONFIG), SCHEDULE, full, pruned)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_limits_come_from_schedule_and_measured_medians(dtype):
    found = record(dtype=dtype)
    causal, dense = (limits.prefill_limit(CONFIG, SCHEDULE, TOKENS, causal=causal) for causal in (True, False))
    amdahl = limits.end2end_limit(CONFIG, SCHEDULE, TOKENS, NEW, 1.2, 4.0, dtype)
    assert found["limit"] == {"prefill_causal": causal, "prefill_dense": dense, "end2end": amdahl}
    assert found["share_of_limit"]["prefill"] == pytest.approx(1.2 / 0.8 / causal)
    assert found["share_of_limit"]["end2end"] == pytest.approx(5.2 / 3.8 / amdahl)
    assert json.loads(json.dumps(found)) == found


def test_without_a_decode_there_is_no_end_to_end_limit():
    found = record(decode=None)
    assert found["limit"]["end2end"] is found["share_of_limit"]["end2end"] is None
    assert found["share_of_limit"]["prefill"] > 0


def test_a_sliding_window_does_not_hide_the_number_format():
    config = tiny_model("mistral", layers=6).config
    config.sliding_window = 64
    full = [run(UNPRUNED, 1.0, 1.0, config=config)]
    full = [Run(**{**vars(full[0]), "kv_lengths": [63] * 6})]  # what such a cache holds
    found = latency_record(config, SCHEDULE, full, [run(SCHEDULE, 0.5, 0.5, config=config)])
    assert found["limit"]["end2end"] == limits.end2end_limit(config, SCHEDULE, TOKENS, NEW, 1.0, 1.0, torch.bfloat16)


def test_the_baseline_alone_has_no_limits():
    full = [run(UNPRUNED, 1.0, 4.0)]
    assert set(latency_record(CONFIG, UNPRUNED, full, full)) == {"baseline", "flops", "flops_end2end"}


@given(st.floats(0.1, 1), st.floats(0.1, 10) | st.none())
def test_an_older_record_gets_the_prefills_limit_from_its_flops(ratio, gain):
    old = {"flops": {"ratio": ratio}, "speedup": {"prefill": gain}}
    document = {"results": {"64": old}}
    assert latency_files.series(document, "limit", "prefill_causal") == {64: pytest.approx(1 / ratio)}
    expected = {} if gain is None else {64: pytest.approx(gain * ratio)}
    assert latency_files.series(document, "share_of_limit", "prefill") == expected
    assert latency_files.series(document, "limit", "end2end") == {} and "limit" not in old
    for row in ({"error": "x"}, {"flops": {"baseline": 1.0}}, {"limit": {}, **old}):
        assert latency_files.completed(row) is row
