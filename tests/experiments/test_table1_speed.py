"""Table 1's speed columns: turns, the same number of tokens, honest ratios, and what is not timed."""

import json

import pytest
import torch
from evaluation.test_presses import HINDRANCE
from small_records import LAYERS, small_model, small_records, small_tokenizer

from sdtp_lib import TokenPruner
from sdtp_lib.evaluation.answers import encode_record
from sdtp_lib.evaluation.presses import load_press
from sdtp_lib.experiments import table1_speed as speed_module
from sdtp_lib.experiments.table1_speed import speed, speed_against_paper, speed_table
from sdtp_lib.experiments.table6_kv_compression import Compressed
from sdtp_lib.latency import sweep_plan as plan
from sdtp_lib.latency.timing import Run
from sdtp_lib.pruning.schedule import PruningSchedule

SECONDS = {None: (2.0, 8.0), "RecencyScorer": (1.0, 4.0), "TokenPruner": (0.5, 4.0)}


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def pruner():
    torch.manual_seed(1)
    return TokenPruner(32, tuple(range(1, LAYERS))).requires_grad_(False)


@pytest.fixture
def clock(monkeypatch):
    """Runs take what SECONDS says, times 1, 10, 2, ... as if the machine had hiccups; gives (scorer, tokens, new)."""
    calls = []

    def run_under(context, model, ids, new_tokens):
        name = type(context.scorer).__name__ if context else None
        calls.append((name, ids.shape[1], new_tokens))
        noise = (1.0, 10.0, 1.0)[sum(call == calls[-1] for call in calls) % 3]
        prefill, total = (noise * part for part in SECONDS[name])
        lengths = [ids.shape[1]] * LAYERS
        return Run(
            ids.shape[1], prefill, total - prefill, total, lengths, 0, torch.float32, torch.zeros(1, new_tokens), None
        )

    monkeypatch.setattr(speed_module, "run_under", run_under)
    return calls


def halved(records):
    """Half of each context, in 6 seconds a record."""
    return [{**record, "context": record["context"][: len(record["context"]) // 2]} for record in records], 6.0


def test_ratios_are_of_medians_over_repeats_and_a_methods_own_time_counts(model, pruner, clock):
    records = small_records(1)[:3]
    found = speed(
        model, small_tokenizer(), records, ["full", "recency", "sdtp-low", "oracle"], pruner,
        shorten={"short": halved}, new_tokens=9, repeats=3,
    )  # fmt: skip
    json.dumps(found)
    assert list(found["methods"]) == ["full", "recency", "sdtp-low", "short"]
    assert "backward pass" in found["left_out"]["oracle"] and len(found["left_out"]) == 1
    ratios = {name: (row["prefill x"]["mean"], row["total x"]["mean"]) for name, row in found["methods"].items()}
    assert ratios["full"] == (1, 1)
    assert ratios["recency"] == pytest.approx((2, 2)) and ratios["sdtp-low"] == pytest.approx((4, 2))
    assert ratios["short"] == pytest.approx((2 / (2 + 6), 8 / (8 + 6)))
    assert found["methods"]["recency"]["prefill"] == [1.0] * 3
    lengths = [len(encode_record(model, small_tokenizer(), record)[1]) for record in records]
    assert [prompt["prompt_tokens"] for prompt in found["prompts"]] == lengths
    low = PruningSchedule.preset("low", LAYERS)
    shares = [sum(low.lengths(n, LAYERS)) / (n * LAYERS) for n in lengths]
    assert found["methods"]["sdtp-low"]["tokens"] == pytest.approx(sum(shares) / 3)
    assert 0.3 < found["methods"]["short"]["tokens"] < 1


def test_methods_take_turns_on_each_prompt_after_a_warm_up(model, clock):
    speed(model, small_tokenizer(), small_records(1)[:2], ["full", "recency"], new_tokens=9, repeats=2)
    first, second = clock[:6], clock[6:]
    assert [(name, new) for name, _, new in first] == [
        ("RecencyScorer", plan.WARMUP_TOKENS), (None, plan.WARMUP_TOKENS),
        (None, 9), ("RecencyScorer", 9), ("RecencyScorer", 9), (None, 9),
    ]  # fmt: skip
    assert len({tokens for _, tokens, _ in first}) == len({tokens for _, tokens, _ in second}) == 1
    assert len(second) == 6


def test_means_are_geometric_with_their_range():
    full = [{"prefill": 1.0, "total": 2.0, "tokens": 1.0, "keys": 1.0}] * 2
    rows = [{"prefill": 0.25, "total": 2.0, "tokens": 0.5, "keys": 0.6},
            {"prefill": 1.0, "total": 4.0, "tokens": 0.7, "keys": 0.8}]  # fmt: skip
    summary = speed_module._summary(rows, full)
    assert summary["prefill x"] == {"mean": pytest.approx(2.0), "range": [1.0, 4.0]}
    assert summary["total x"]["range"] == [0.5, 1.0]
    assert summary["tokens"] == pytest.approx(0.6) and summary["keys"] == pytest.approx(0.7)


def test_real_runs_generate_exactly_so_many_tokens_and_read_the_cache(model, pruner, monkeypatch):
    """The full model is never cut, and every answer has the same length, whatever ends it."""
    seen, run_under = [], plan.run_under

    def watched(*arguments):
        seen.append(run_under(*arguments))
        return seen[-1]

    monkeypatch.setattr(speed_module, "run_under", watched)
    methods = ["full", "sdtp", "random", "norm", "attention", "h2o"]
    found = speed(model, small_tokenizer(), small_records(1)[:1], methods, pruner,
                  shorten={"short": halved}, new_tokens=6, repeats=1)  # fmt: skip
    assert {run.new_tokens.shape[1] for run in seen[len(seen) // 2 :]} == {6}
    assert [*found["methods"]] == [*methods, "short"]
    kept = {name: (row["tokens"], row["keys"]) for name, row in found["methods"].items()}
    assert kept["full"] == (1, 1) and kept["sdtp"] == kept["random"] == kept["h2o"]
    assert kept["sdtp"][0] == pytest.approx(kept["sdtp"][1]) and kept["sdtp"][0] < 1
    for row in found["methods"].values():
        assert all(0 < prefill < total for prefill, total in zip(row["prefill"], row["total"], strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.skipif(bool(HINDRANCE), reason=HINDRANCE)
@pytest.mark.filterwarnings("ignore:'pipes' is deprecated:DeprecationWarning")  # fire, which kvpress imports
def test_a_press_cuts_the_cache_and_no_token(model):
    contexts = {"snapkv": Compressed(load_press("SnapKVPress", compression_ratio=0.5, window_size=8))}
    options = {"contexts": contexts, "new_tokens": 2, "repeats": 1}
    found = speed(model, small_tokenizer(), small_records(1)[:1], ["full"], **options)["methods"]
    assert found["snapkv"]["tokens"] == 1 and found["snapkv"]["keys"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"records": []}, "needs records"),
        ({"methods": ["sdtp"]}, "the method 'full'"),
        ({"methods": ["full", "best"]}, "unknown method 'best'"),
        ({"methods": ["full", "sdtp"], "pruner": None}, "needs a trained pruner"),
        ({"new_tokens": 1}, "needs 2 new tokens"),
        ({"repeats": 0}, "1 repeat"),
        ({"records": [{"dataset": "qasper", "context": " ", "input": "", "_id": "a"}]}, "has no context"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_the_model_runs(model, clock, changes, problem):
    options = {"records": small_records(1)[:1], "methods": ["full", "recency"]} | changes
    with pytest.raises(ValueError, match=problem):
        speed(model, small_tokenizer(), **options)
    assert not clock


def test_tables(model, pruner, clock):
    found = speed(model, small_tokenizer(), small_records(1)[:2], ["full", "sdtp", "recency"], pruner, new_tokens=9)
    table = speed_table(found)
    assert "| sdtp " in table and "4.00 to 4.00" in table and "end-to-end x" in table and "KV kept, %" in table
    beside = speed_against_paper(found)
    assert "1.71" in beside and "4.00" in beside and "1.31" in beside and "recency" not in beside
