"""The plan on paper: its numbers against the model's own weights and sums done by hand, and what it says of itself."""

import pytest
import torch
from helpers import SHARED, tiny_model
from transformers import LlamaConfig

from sdtp_lib import PruningSchedule
from sdtp_lib.latency.flops import kv_bytes, schedule_flops
from sdtp_lib.ledger.ledger import write_ledger
from sdtp_lib.ledger.multi_gpu_estimate import LLAMA_70B, Device, model_weights, plan_section, scale_plan

TINY = LlamaConfig(**SHARED, num_hidden_layers=6)
SCHEDULE = PruningSchedule((2, 4), keep_ratio=0.5, min_local_tokens=4)
DEVICE = Device("toy", flops=1e6, bandwidth=1e5, compute_share=0.5, bandwidth_share=0.25)


def test_the_weights_are_those_of_the_model():
    assert model_weights(TINY) == tiny_model().num_parameters()
    assert model_weights(LlamaConfig(**LLAMA_70B)) == 70_553_706_496  # as published for Llama 3 70B


def test_every_number_by_hand():
    """float32, two devices, 64 tokens and 3 new ones: the last step attends the prompt and both tokens before it."""
    found = scale_plan(SCHEDULE, TINY, 64, 3, 2, DEVICE, torch.float32)
    kept = SCHEDULE.lengths(64, 6)
    stages = 2 * (32 * 8 + 8 + 8 + 1)  # two MLPs 32 -> 8 -> 1
    for side, lengths, schedule, pruner in (
        ("full", [64] * 6, PruningSchedule(()), 0), ("pruned", kept, SCHEDULE, stages),
    ):  # fmt: skip
        row, prefill = found[side], schedule_flops(TINY, schedule, 64)
        assert row["prefill_tflops"] == pytest.approx(prefill / 1e12)
        assert row["prefill_seconds"] == pytest.approx(prefill / (2 * 0.5e6))
        assert row["prefill_tokens_per_second"] == pytest.approx(64 / row["prefill_seconds"])
        weights = 4 * (tiny_model().num_parameters() + pruner)
        cache = 4 * 2 * 2 * 8 * sum(n + 2 for n in lengths)  # keys and values of 2 heads of width 8
        assert cache == kv_bytes(TINY, [n + 2 for n in lengths], torch.float32)
        assert row["weights_gb"] == pytest.approx(weights / 1e9) and row["kv_gb"] == pytest.approx(cache / 1e9)
        assert row["gb_per_device"] == pytest.approx((weights + cache) / 2e9)
        layer = 32 * (32 + 2 * 16 + 32) + 3 * 32 * 48
        read = 4 * (2 * (6 * layer + 32 * 97) + 2 * 2 * 8 * sum((n + 1) + (n + 2) for n in lengths))
        assert row["decode_tokens_per_second"] == pytest.approx(2 * 2 * 0.25e5 / read)
        assert row["total_seconds"] == pytest.approx(row["prefill_seconds"] + read / (2 * 0.25e5))
        pairs = 4 * 4 * 8 * sum((n + 1) + (n + 2) for n in lengths)
        assert row["decode_gflops_per_token"] == pytest.approx((2 * 2 * (6 * layer + 32 * 97) + pairs) / 2 / 1e9)


def test_twice_the_devices_take_half_the_time_and_hold_half():
    one, two = (scale_plan(SCHEDULE, TINY, 64, 3, count, DEVICE)["pruned"] for count in (1, 2))
    for key in ("prefill_seconds", "total_seconds", "gb_per_device"):
        assert one[key] == pytest.approx(2 * two[key])
    assert one["prefill_tflops"] == two["prefill_tflops"] and one["kv_gb"] == two["kv_gb"]


def test_the_ledger_says_that_it_is_computed(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    section = plan_section()
    assert section in write_ledger().read_text()
    for words in ("Computed from the FLOP and byte model, not measured", "Left out: communication", "same 8 GPUs",
                  "131,072 tokens", "50% of 989 TFLOP/s and 70% of 3.35 TB/s"):  # fmt: skip
        assert words in section
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")]
    assert rows[1:], "the table"
    for cell in (cell.strip() for _, *cells in rows[1:] for cell in cells):
        assert len(cell.replace(",", "").replace(".", "").strip("0")) <= 2, f"{cell} says more than a plan can"
    numbers = {name.strip(): tuple(float(cell.replace(",", "")) for cell in cells[:2]) for name, *cells in rows[1:]}
    assert numbers["weights, GB"][0] == 140  # 70.55 billion numbers of two bytes
    assert numbers["prefill, TFLOPs"][0] == 40000
    assert numbers["KV cache, GB"][0] == round(80 * 2 * 8 * 128 * 2 * (131072 + 127) / 1e9)
    assert all(
        full >= pruned for name, (full, pruned) in numbers.items() if "per second" not in name and name[0] != "w"
    )
