"""Table 6 in kind: presses alone and on top of pruning, one prompt at a time, and what is left in the cache."""

import pytest
import torch
from evaluation.test_presses import HINDRANCE
from helpers import generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from small_records import LAYERS, small_model, small_records, small_tokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sdtp_lib import PruningSchedule, TokenPruner, TokenPruning
from sdtp_lib.evaluation.presses import load_press
from sdtp_lib.experiments.table6_kv_compression import (
    PRESSES,
    Compressed,
    against_paper,
    cache_share,
    compression_table,
    score_compressed,
)
from sdtp_lib.pruning.families import ModelAdapter

pytestmark = [
    pytest.mark.skipif(bool(HINDRANCE), reason=HINDRANCE),
    pytest.mark.filterwarnings("ignore:'pipes' is deprecated:DeprecationWarning"),  # fire, which kvpress imports
]
SCHEDULE = PruningSchedule(layers=(3, 4), keep_ratio=0.7, min_local_tokens=8)
WINDOW = dict(
    use_sliding_window=True, sliding_window=8,
    layer_types=2 * ["sliding_attention"] + (LAYERS - 2) * ["full_attention"],
)  # fmt: skip


def press_of(name, kept=0.4):
    kind, settings = PRESSES[name]
    return load_press(kind, compression_ratio=1 - kept, **settings)


def small_pruner():
    torch.manual_seed(1)
    return TokenPruner(32, tuple(range(1, LAYERS))).requires_grad_(False)


def hooks_of(model):
    return [hook for part in model.modules() for hook in (*part._forward_hooks, *part._forward_pre_hooks)]


@pytest.mark.parametrize("windows", [False, True])
def test_all_rows_and_their_shares_of_the_cache(windows, tmp_path):
    model, records = small_model(**WINDOW if windows else {}), small_records(each=1)[::2]
    stock = dict(ALL_ATTENTION_FUNCTIONS.items())
    run = lambda: score_compressed(  # noqa: E731
        model, small_tokenizer(), records, small_pruner(), SCHEDULE, folder=tmp_path
    )
    found = run()
    assert list(found) == ["full", "sdtp", "local", "sdtp+local", "h2o", "sdtp+h2o", "snapkv", "sdtp+snapkv"]
    assert {path.stem for path in tmp_path.iterdir()} == {f"kv_{name}" for name in found}
    assert found["full"]["cache"] == 1 > found["sdtp"]["cache"] > found["local"]["cache"] > found["sdtp+local"]["cache"]
    for name in PRESSES:
        assert found[name]["cache"] == pytest.approx(0.4, abs=0.02 + 0.03 * windows)
        assert found[f"sdtp+{name}"]["compression"] == found["sdtp"]["compression"] > 1
        assert found[f"sdtp+{name}"]["against_press"]["average"]["n"] == len(records)
        assert found[name]["compression"] == 1 and found[name]["against_full"]["average"]["n"] == len(records)
    assert not hooks_of(model) and model.config._attn_implementation == "sdpa"
    assert dict(ALL_ATTENTION_FUNCTIONS.items()) == stock
    assert run() == found


@pytest.mark.parametrize("family", ["llama", "demo"])
@pytest.mark.parametrize("name", PRESSES)
def test_the_share_is_what_the_cache_holds(family, name):
    model = tiny_model(family, "eager" if name == "h2o" else "sdpa")
    adapter, prompt = ModelAdapter.of(model), random_prompts([90])
    pruning = TokenPruning(schedule_of(layers=(2, 3, 5)), tiny_pruner((2, 3, 5)))
    nothing = TokenPruning(PruningSchedule.preset("none", 6))
    with nothing(model) as full:
        generate(model, *prompt)
    for cut in (nothing, pruning):
        with Compressed(press_of(name), cut)(model) as trace:
            generate(model, *prompt)
        tokens = cut.schedule.lengths(90, 6)
        sample = {"prompt_tokens": 90, "tokens_per_layer": tokens}
        assert cache_share([sample], adapter, 0.4) == sum(trace.kv_lengths) / sum(full.kv_lengths)
    assert not hooks_of(model)


def test_alone_it_is_the_press_itself():
    model, prompt, press = tiny_model(), random_prompts([90]), press_of("snapkv")
    with press(model):
        wanted = generate(model, *prompt)[1]
    with Compressed(press)(model) as trace:
        assert torch.equal(generate(model, *prompt)[1], wanted) and trace is None
    assert not torch.equal(generate(model, *prompt)[1], wanted)


def test_refused_before_the_model_runs(monkeypatch):
    model, pruner = small_model(), small_pruner()
    monkeypatch.setattr(model, "generate", None)
    call = lambda **changes: score_compressed(  # noqa: E731
        **{"model": model, "tokenizer": small_tokenizer(), "records": small_records(1), "pruner": pruner,
           "schedule": SCHEDULE} | changes)  # fmt: skip
    with pytest.raises(ValueError, match=r"kept must be in \(0, 1\]"):
        call(kept=0.0)
    with pytest.raises(ValueError, match="unknown press 'best'; known: local, h2o, snapkv"):
        call(presses=["best"])
    for family in ("bloom", "mistral-window"):
        with pytest.raises(ValueError, match="kvpress compresses no cache of"):
            call(model=tiny_model(family, None))
    monkeypatch.setattr("sdtp_lib.experiments.table6_kv_compression.load_press", lambda *_, **__: None)
    with pytest.raises(ValueError, match="kvpress is missing"):
        call()


def test_a_padded_batch_is_refused():
    model, pruning = tiny_model(), TokenPruning(schedule_of(), tiny_pruner((2, 3, 5)))
    with pytest.raises(ValueError, match="padded batches"), Compressed(press_of("local"), pruning)(model):
        generate(model, *random_prompts([60, 50]))


def test_tables_say_what_sdtp_adds_to_a_press():
    def row(score, cache, *differences):
        keys = ("against_full", "against_press")
        cells = [{"average": {"difference": value, "ci95": [value - 1, value + 1]}} for value in differences]
        return {"average": score, "cache": cache, "tasks": {"a": {"n": 3}}, **dict(zip(keys, cells, strict=False))}

    found = {"full": row(90.0, 1.0), "local": row(50.0, 0.4, -40.0), "h2o": row(88.0, 0.4, -2.0),
             "sdtp+h2o": row(87.5, 0.3, -2.5, -0.5)}  # fmt: skip
    last = [cell.strip() for cell in compression_table(found).splitlines()[-1].split("|")[1:-1]]
    assert last == ["sdtp+h2o", "87.5", "30.0", "3", "-2.5", "-3.5 to -1.5", "-0.5", "-1.5 to +0.5"]
    beside = [[cell.strip() for cell in line.split("|")[1:-1]] for line in against_paper(found).splitlines()[2:]]
    assert [line[2] for line in beside] == ["-40.00", "-2.00", "-2.50", "-0.50"]
    assert beside[1][1] == "0.07" and beside[3][1] == "-0.21"  # Table 6: H2O alone, and SDTP on top of it
