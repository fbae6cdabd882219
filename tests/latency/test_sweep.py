import json
import subprocess
import sys

import pytest
import torch
from helpers import HIDDEN, tiny_model, tiny_pruner

from sdtp_lib.latency import flops, sweep_memory
from sdtp_lib.latency import sweep as benchmark
from sdtp_lib.latency import sweep_plan as plan
from sdtp_lib.latency.record import latency_table
from sdtp_lib.latency.timing import timed_run
from sdtp_lib.models import loading as models
from sdtp_lib.pruning.context import TokenPruning
from sdtp_lib.pruning.schedule import PruningSchedule

LAYERS, STAGES = 6, (4, 5)
SIDE = {
    "prefill_latency_seconds", "decode_latency_seconds", "total_latency_seconds", "spread", "memory_gb",
    "kv_cache_bytes", "kv_lens_after_prefill", "tokens_kept", "tokens_pruned", "new_tokens",
}  # fmt: skip
QUICK = dict(repeats=2, new_tokens=6)


@pytest.fixture
def model():
    model = tiny_model("mistral", layers=LAYERS)
    model.name_or_path = "tiny"
    return model


@pytest.fixture
def pruner():
    return tiny_pruner(STAGES)


@pytest.fixture
def loading(model, monkeypatch):
    """`profile` gets the tiny model whatever the name; returns the names asked for."""
    asked = []
    monkeypatch.setattr(models, "load_model", lambda name, *rest: (asked.append(name) or model, None))
    monkeypatch.setitem(models.SHAPES, "tiny", {})
    return asked


def read(path):
    return json.loads(path.read_text())


def test_a_sweep_writes_complete_files(model, pruner, tmp_path):
    documents = benchmark.sweep(model, pruner, ("keep09", "keep07"), (64, 40), folder=tmp_path, **QUICK)
    assert set(documents) == {"none", "keep09", "keep07"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"latency_results_{name}.json" for name in ("baseline", "keep07", "keep09")
    ]
    for name in ("keep09", "keep07"):
        document = read(tmp_path / f"latency_results_{name}.json")
        assert document == documents[name]
        assert list(document["results"]) == ["40", "64"]  # by length, not as asked or by letter
        schedule = PruningSchedule.preset(name, LAYERS)
        for length in (40, 64):
            row = document["results"][str(length)]
            lengths = schedule.lengths(length, LAYERS)
            full, pruned = row["baseline"], row["sdtp"]
            assert set(full) == set(pruned) == SIDE
            assert full["kv_lens_after_prefill"] == [length] * LAYERS
            assert pruned["kv_lens_after_prefill"] == lengths
            assert pruned["kv_cache_bytes"] == flops.kv_bytes(model.config, lengths, torch.float32)
            assert (pruned["tokens_kept"], pruned["tokens_pruned"]) == (lengths[-1], length - lengths[-1])
            assert (full["tokens_kept"], full["tokens_pruned"]) == (length, 0)
            assert row["kv_reduction"] == pytest.approx(1 - sum(lengths) / (LAYERS * length))
            assert row["kv_reduction"] < pruned["tokens_pruned"] / length  # of all layers, not of the last
            assert full["new_tokens"] == pruned["new_tokens"] == 6
            for part in ("prefill", "decode", "total"):
                key = f"{part}_latency_seconds"
                assert row["speedup"][part] == full[key] / pruned[key]
                for side in (full, pruned):
                    low, high = side["spread"][part]
                    assert 0 < low <= side[key] <= high
            assert full["spread"]["total"][0] >= full["spread"]["prefill"][0] + full["spread"]["decode"][0]
            assert row["flops"]["sdtp"] == flops.schedule_flops(model.config, schedule, length)
            assert row["flops_end2end"]["sdtp"] == flops.schedule_flops(model.config, schedule, length, 6)
            assert row["flops"]["ratio"] == row["flops"]["sdtp"] / row["flops"]["baseline"] < 1
            if not torch.cuda.is_available():
                assert full["memory_gb"] is None
    alone = documents["none"]["results"]["64"]
    assert set(alone) == {"baseline", "flops", "flops_end2end"} and set(alone["baseline"]) == SIDE
    assert alone["baseline"] == documents["keep09"]["results"]["64"]["baseline"]


def test_metadata_says_what_was_measured(model, pruner, tmp_path):
    metadata = benchmark.sweep(model, pruner, ["keep08"], [40], folder=tmp_path, seed=7, profile_name="demo", **QUICK)
    metadata = metadata["keep08"]["metadata"]
    text = json.dumps(metadata)
    assert metadata["schedule"] == PruningSchedule.preset("keep08", LAYERS).to_dict()
    assert (metadata["model"], metadata["dtype"], metadata["repeats"]) == ("tiny", "float32", 2)
    for word in ("demo", "end2end", "keep08", "1e9 bytes"):
        assert word in text


def test_both_sides_decode_exactly_the_new_tokens_on_their_own_cache(model, pruner, monkeypatch):
    """Counted at the attention itself: each layer sees the keys its cache kept, and one more each step."""
    schedule, seen, attend = PruningSchedule(STAGES, 0.5), [], torch.nn.functional.scaled_dot_product_attention

    def counting(query, key, value, **options):
        seen.append((query.shape[2], key.shape[2]))
        return attend(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    ids = torch.randint(model.config.vocab_size, (1, 50))
    with TokenPruning(schedule, pruner)(model):
        pruned = timed_run(model, ids, 9)
    lengths = schedule.lengths(50, LAYERS)
    assert seen[:LAYERS] == [(n, n) for n in lengths]
    assert seen[LAYERS:] == [(1, n + step) for step in range(1, 9) for n in lengths]
    assert pruned.new_tokens.shape == timed_run(model, ids, 9).new_tokens.shape == (1, 9)
    assert pruned.kv_lengths == lengths


def test_the_decode_loop_is_greedy_generation(model, pruner):
    ids = torch.randint(2, model.config.vocab_size, (1, 50), generator=torch.Generator().manual_seed(3))
    for context in (TokenPruning(PruningSchedule(()), None), TokenPruning(PruningSchedule(STAGES, 0.5), pruner)):
        with context(model):
            stock = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False)
            assert timed_run(model, ids, 9).new_tokens.tolist() == stock[:, 50:].tolist()


def test_an_end_of_sequence_token_does_not_stop_the_decode(model):
    ids = torch.randint(2, model.config.vocab_size, (1, 20))
    first = int(timed_run(model, ids, 1).new_tokens)
    model.generation_config.eos_token_id = model.config.eos_token_id = first
    assert timed_run(model, ids, 7).new_tokens.shape == (1, 7)


def test_sides_take_turns_after_a_warm_up(model, pruner, tmp_path, monkeypatch):
    calls = []

    def recorded(model, ids, new_tokens):
        run = timed_run(model, ids, new_tokens)
        calls.append(("full" if len(set(run.kv_lengths)) == 1 else "pruned", new_tokens))
        return run

    monkeypatch.setattr(plan, "timed_run", recorded)
    benchmark.sweep(model, pruner, ["keep07"], [64], folder=tmp_path, **QUICK)
    assert {new for _, new in calls[:2]} == {plan.WARMUP_TOKENS} and {new for _, new in calls[2:]} == {6}
    assert [side for side, _ in calls] == ["pruned", "full", "full", "pruned", "pruned", "full"]


def test_prefill_mode_decodes_nothing(model, pruner, tmp_path):
    row = benchmark.sweep(model, pruner, ["keep09"], [64], mode="prefill", folder=tmp_path)["keep09"]["results"]["64"]
    assert row["speedup"]["prefill"] > 0 and row["speedup"]["decode"] is row["speedup"]["total"] is None
    assert row["baseline"]["decode_latency_seconds"] is row["sdtp"]["total_latency_seconds"] is None
    assert row["flops"]["ratio"] < 1 and row["flops_end2end"] is None


def test_results_are_written_where_they_are_named_alone(loading, pruner, model, tmp_path, monkeypatch, capsys):
    """Neither a profile's results nor the folder one is in: a user's run is nobody's result."""
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    document = benchmark.profile("end2end", "keep09", [40], model="tiny", **QUICK)
    assert {"baseline", "sdtp"} < set(document["results"]["40"]) and document["metadata"]["profile"] is None
    alone = benchmark.profile("end2end", "none", [40], model="tiny", **QUICK)
    assert set(alone["results"]["40"]) == {"baseline", "flops", "flops_end2end"}
    benchmark.sweep(model, pruner, ["keep09"], [40], **QUICK)
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out.count("40 tokens") == 3
    with pytest.raises(ValueError, match="resume needs an output"):
        benchmark.profile("end2end", "keep09", [40], model="tiny", resume=True, **QUICK)
    benchmark.profile("end2end", "keep09", [40], model="tiny", output="named/here.json", **QUICK)
    benchmark.sweep(model, pruner, ["keep09"], [40], profile_name="mine", **QUICK)  # as notebook 05 names its profile
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    written = [f"results/mine/latency_results_{name}.json" for name in ("baseline", "keep09")]
    assert files == ["named/here.json", *written]


def test_resume_goes_on_where_it_stopped(model, pruner, tmp_path):
    options = dict(folder=tmp_path, **QUICK)
    first = benchmark.sweep(model, pruner, ["keep09"], [40], **options)["keep09"]["results"]["40"]
    more = benchmark.sweep(model, pruner, ["keep09"], [40, 64], resume=True, **options)["keep09"]["results"]
    assert list(more) == ["40", "64"] and more["40"] == first  # not measured again
    fresh = benchmark.sweep(model, pruner, ["keep09"], [64], **options)["keep09"]["results"]
    assert list(fresh) == ["64"]


@pytest.mark.parametrize(
    "change", [dict(repeats=3), dict(new_tokens=7), dict(seed=1), dict(mode="prefill"), "model", "dtype"]
)
def test_resume_refuses_another_run(model, pruner, tmp_path, change):
    benchmark.sweep(model, pruner, ["keep09"], [40], folder=tmp_path, **QUICK)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    options = {**QUICK, **(change if isinstance(change, dict) else {})}
    if change == "model":
        model.name_or_path = "another"
    if change == "dtype":
        model, pruner = model.bfloat16(), pruner.bfloat16()
    name = change if isinstance(change, str) else next(iter(change))
    with pytest.raises(ValueError, match=f"cannot resume: {name} was"):
        benchmark.sweep(model, pruner, ["keep09"], [40, 64], folder=tmp_path, resume=True, **options)
    assert before == {path.name: path.read_text() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("text", ["{}", "[1]", '{"metadata": '])
def test_resume_refuses_a_file_that_is_none_of_ours(model, pruner, tmp_path, text):
    (tmp_path / "latency_results_keep09.json").write_text(text)
    with pytest.raises(ValueError, match="latency_results_keep09.json"):
        benchmark.sweep(model, pruner, ["keep09"], [40], folder=tmp_path, resume=True, **QUICK)
    assert [path.read_text() for path in tmp_path.iterdir()] == [text]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory.\nTried"), MemoryError(), RuntimeError("x")]
)
def test_a_failed_length_is_recorded_and_tried_again_on_resume(model, pruner, tmp_path, monkeypatch, error, capsys):
    def failing(model, ids, new_tokens):
        if ids.shape[1] == 50:
            raise error
        return timed_run(model, ids, new_tokens)

    monkeypatch.setattr(plan, "timed_run", failing)
    benchmark.sweep(model, pruner, ["keep09"], [40, 50, 64], folder=tmp_path, **QUICK)
    rows = read(tmp_path / "latency_results_keep09.json")["results"]
    expected = {"x": "RuntimeError: x", "": "MemoryError"}.get(str(error), "OutOfMemoryError: CUDA out of memory.")
    assert rows["50"] == {"error": expected}
    assert "sdtp" in rows["40"] and "sdtp" in rows["64"]
    assert f"50 tokens: failed, {expected}" in capsys.readouterr().out
    assert not model.model._forward_pre_hooks
    monkeypatch.setattr(plan, "timed_run", timed_run)
    again = benchmark.sweep(model, pruner, ["keep09"], [40, 50, 64], folder=tmp_path, resume=True, **QUICK)
    assert "sdtp" in again["keep09"]["results"]["50"] and again["keep09"]["results"]["40"] == rows["40"]


def test_an_interrupted_sweep_leaves_whole_files(model, pruner, tmp_path, monkeypatch):
    def interrupted(model, ids, new_tokens):
        if ids.shape[1] == 64:
            raise KeyboardInterrupt
        return timed_run(model, ids, new_tokens)

    monkeypatch.setattr(plan, "timed_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        benchmark.sweep(model, pruner, ["keep09"], [40, 64], folder=tmp_path, **QUICK)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}  # no half-written file beside them
    assert all(list(read(path)["results"]) == ["40"] for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(config="keep05"), "unknown config 'keep05'.*keep09"),
        (dict(mode="both"), "unknown mode 'both'"),
        (dict(lengths=[64, 0]), "lengths must be 1 token or more"),
        (dict(lengths=[]), "lengths must be 1 token or more"),
        (dict(repeats=0), "repeats must be 1 or more"),
        (dict(new_tokens=1), "new_tokens must be 2 or more"),
    ],
)
def test_bad_requests_are_refused_before_a_model_is_loaded(loading, tmp_path, change, message):
    request = dict(mode="end2end", config="keep09", lengths=[64], output=tmp_path / "out" / "x.json") | change
    with pytest.raises(ValueError, match=message):
        benchmark.profile(**request)
    assert not loading and not any(tmp_path.iterdir())


def test_a_missing_or_wrong_pruner_is_refused_before_anything_is_written(loading, tmp_path):
    output = tmp_path / "out" / "x.json"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        benchmark.profile("prefill", "keep09", [64], pruner=tmp_path / "nowhere", output=output)
    assert not loading
    tiny_pruner(STAGES, hidden=2 * HIDDEN).save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=f"hidden size {2 * HIDDEN}, the model {HIDDEN}"):
        benchmark.profile("prefill", "keep09", [64], pruner=tmp_path / "wide", output=output)
    with pytest.raises(ValueError, match="is a folder"):
        benchmark.profile("prefill", "keep09", [64], model="tiny", output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["wide"]


def test_a_sweep_checks_its_pruner_too(model, tmp_path):
    with pytest.raises(ValueError, match="no scorer for layers"):
        benchmark.sweep(model, tiny_pruner((4,)), folder=tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_table_shows_both_sides_speedups_and_kv_lengths(model, pruner, tmp_path, capsys):
    documents = benchmark.sweep(model, pruner, ["keep07"], [64], folder=tmp_path, **QUICK)
    text = capsys.readouterr().out
    row = documents["keep07"]["results"]["64"]
    assert latency_table(64, {"keep07": row}) in text
    for word in ("64 tokens", "prefill s", "decode s", "total s", "prefill x", "decode x", "total x", "full", "keep07"):
        assert word in text
    assert f"{row['speedup']['total']:.3f}" in text
    assert "KV lengths, full: 64 x6" in text and "KV lengths, keep07: 64 x4, 44 x1, 30 x1" in text


def test_benchmark_imports_nothing_heavy():
    unwanted = ("datasets", "matplotlib", "seaborn", "papermill", "lm_eval", "nbformat")
    code = f"import sys, sdtp_lib.latency.sweep; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_chunks_and_decode_attention_are_alike_on_both_sides(model, pruner, tmp_path, monkeypatch):
    seen, real = set(), plan.timed_run

    def watched(model, ids, new_tokens):
        seen.add((len(model.base_model.layers[0].mlp.__dict__.keys() & {"forward"}), model.config._attn_implementation))
        return real(model, ids, new_tokens)

    monkeypatch.setattr(plan, "timed_run", watched)
    options = dict(QUICK, chunk=16, decode="grouped")
    documents = benchmark.sweep(model, pruner, ("keep09",), (40,), folder=tmp_path, **options)
    assert seen == {(1, "sdpa_grouped_decode")}
    assert (documents["keep09"]["metadata"]["chunk"], documents["keep09"]["metadata"]["decode"]) == (16, "grouped")
    with pytest.raises(ValueError, match="cannot resume: chunk was 16 and is now None"):
        benchmark.sweep(model, pruner, ("keep09",), (40, 64), folder=tmp_path, resume=True, **QUICK)
    with pytest.raises(ValueError, match="unknown decode 'compiled'; known: sdpa, grouped"):
        plan.Plan("end2end", ["keep09"], [40], decode="compiled")
    with pytest.raises(ValueError, match="tokens must be a whole number"):
        plan.Plan("end2end", ["keep09"], [40], chunk=0)


def test_peak_memory_of_fresh_processes_goes_into_every_file_once(model, pruner, tmp_path, monkeypatch):
    asked = []

    def peaks(config, lengths, **options):
        asked.append((config, list(lengths), options))
        return {n: {"peak_bytes": (2 if config == "none" else 1) * n * 10**9} for n in lengths}

    monkeypatch.setattr(sweep_memory, "resident_peaks", peaks)
    run = dict(QUICK, folder=tmp_path, memory=dict(model="tiny"), chunk=16)
    benchmark.sweep(model, pruner, ("keep09",), (40,), **run)
    benchmark.sweep(model, pruner, ("keep09",), (40, 64), resume=True, **run)  # only what is lacking
    options = dict(model="tiny", seed=0, chunk=16)
    assert asked == [(name, lengths, options) for lengths in ([40], [64]) for name in ("none", "keep09")]
    for length in (40, 64):
        row = read(tmp_path / "latency_results_keep09.json")["results"][str(length)]
        assert (row["baseline"]["memory_gb"], row["sdtp"]["memory_gb"]) == (2.0 * length, 1.0 * length)
        alone = read(tmp_path / "latency_results_baseline.json")["results"][str(length)]
        assert alone["baseline"]["memory_gb"] == 2.0 * length
