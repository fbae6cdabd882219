"""Ways to cut tried on records at equal FLOPs, and the presets that are chosen from them."""

import pytest
from chat_tokenizers import chat_tokenizer
from helpers import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from real_text import passages
from transformers import LlamaConfig

from sdtp_lib.data.real.build import real_records
from sdtp_lib.evaluation.answers import encode_record
from sdtp_lib.experiments.real.full_passes import TASKS
from sdtp_lib.experiments.real.presets import as_pruner, choose, over_lengths
from sdtp_lib.experiments.real.tried import AT, FAST, FASTEST, FREE, Way, as_sample, cuts, tried_table, try_ways, ways
from sdtp_lib.experiments.schedule_search import LOCAL
from sdtp_lib.latency.flop_estimates import flop_ratio
from sdtp_lib.models.loading import load_pruner
from sdtp_lib.models.named_schedules import own_presets, resolve_schedule
from sdtp_lib.models.shipped_pruners import shipped_folders
from sdtp_lib.options import SENTENCES
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.results import stored
from sdtp_lib.scorers.files import read_config
from sdtp_lib.scorers.pooling import pool_of

CONFIG = LlamaConfig(num_hidden_layers=30, hidden_size=576, intermediate_size=1536, num_attention_heads=9)
SCHEDULE = {"layers": [2], "keep_ratio": [0.5], "sink_tokens": 4, "local_ratio": 0.1, "min_local_tokens": 16}


@pytest.fixture(scope="module")
def asked():
    tokenizer = chat_tokenizer()
    model = tiny_model(vocab_size=len(tokenizer))

    def length_of(record):
        return len(encode_record(model, tokenizer, record)[1])

    return model, tokenizer, {task: real_records(task, passages(), 300, length_of, 2) for task in TASKS}


def row(score="strongest", pool="sentences", flops=1.6, loss=0.1, layer=2):
    cell = {"nll": 1.0, "n": 2, "above": {"difference": loss, "ci95": [loss, loss], "verdict": "-"}}
    return {
        "score": score, "pool": pool, "flops": flops, "asked": flops // 1, "schedule": {**SCHEDULE, "layers": [layer]},
        **dict.fromkeys(TASKS, cell),
    }  # fmt: skip


def test_one_score_alone_is_tried_at_its_single_cuts():
    some = ways((15,), (7, 8), (7,), ("strongest", SENTENCES))
    assert [(way.ratio, way.layers) for way in some] == [(FREE, (15,)), (FAST, (7,)), (FAST, (8,)), (FASTEST, (7,))]
    assert {(way.score, way.pool, way.local, way.earlier) for way in some} == {("strongest", SENTENCES, LOCAL, ())}


@given(st.sampled_from(ways(*AT)))
def test_the_last_cut_is_as_gentle_as_the_flops_allow(way):
    schedule = way.schedule(30, CONFIG, 1000)
    assert schedule.ratios[:-1] == way.earlier and way.ratio * 0.99 < flop_ratio(schedule, 30, CONFIG, 1000)
    assert flop_ratio(schedule, 30, CONFIG, 1000) < way.ratio * 1.02
    assert (schedule.local_ratio, schedule.min_local_tokens) == ((0.1, 16) if way.local is None else (0, way.local))


def test_a_ratio_that_the_earlier_cuts_rule_out_is_refused():
    with pytest.raises(ValueError, match="no last cut of .* after .* reaches a FLOP ratio of 3"):
        Way("random", 1, 3.0, (8, 15), (0.9,)).schedule(30, CONFIG, 1000)


def test_every_way_stands_beside_the_full_model(asked, tmp_path, monkeypatch):
    some = [Way("oracle", 1, 1.3, (2,)), Way("strongest", "sentences", 1.3, (2, 3), (0.8,), 20)]
    some.append(Way("random", 3, 1.5, (2,)))
    rows = try_ways(*asked, some, 300, tmp_path)
    assert [each["score"] for each in rows][0] == "full" and rows[-1]["score"] == "random"
    assert all(each[task]["n"] == 2 and "above" in each[task] for each in rows[1:] for task in TASKS)
    monkeypatch.setattr("sdtp_lib.experiments.tuning.loss_file.sample_loss", None)  # nothing is measured twice
    assert try_ways(*asked, some, 300, tmp_path) == rows
    text = tried_table(rows)
    assert "strongest, by sentences" in text and "layer 2 to 80%, layer 3 to" in text and "20 last tokens stay" in text


def test_a_sample_is_the_record_as_it_is_evaluated(asked):
    model, tokenizer, records = asked
    record = records["needle"][0]
    sample = as_sample(model, tokenizer, record)
    assert sample.input_ids[: sample.prompt_tokens].tolist() == encode_record(model, tokenizer, record)[1]
    assert record["answers"][0] in tokenizer.decode(sample.input_ids[sample.prompt_tokens :])


def test_presets_are_the_best_of_one_score_at_each_flop_ratio():
    best = [row(flops=1.65, loss=0.1), row(flops=2.3, loss=0.2, layer=3), row(flops=3.1, loss=0.3)]
    worse = [row(flops=1.62, loss=0.2), row("attention", 7, 1.6, 0.0), row("attention", 7, 2.2, 0.3)]
    others = [row("oracle", 1, flops, 0.0) for flops in (1.6, 2.2, 3)]
    chosen = choose([*worse, *others, *best])
    assert [*chosen] == ["free", "fast", "fastest"] and [*chosen.values()] == best
    with pytest.raises(ValueError, match="no score was tried at all FLOP ratios, 1.6, 2.2, 3"):
        choose([*worse, *others])


def test_presets_may_take_the_score_of_another_model():
    own = [row("attention", 7, flops, 0.0) for flops in (1.6, 2.2, 3)]
    asked = [row(flops=flops, loss=0.4) for flops in (1.6, 2.2, 3)]
    assert [*choose([*own, *asked]).values()] == own
    assert [*choose([*own, *asked], "strongest", "sentences").values()] == asked
    with pytest.raises(ValueError, match="no score was tried"):
        choose([*own, *asked], "strongest", 13)


def test_ways_tried_at_several_lengths_are_judged_by_their_mean():
    short = [row(flops=1.7, loss=0.1), row(flops=2.3, loss=0.1, layer=3), row(flops=2.3, loss=0.2, layer=4)]
    short += [row(flops=3.1, loss=0.3), row(flops=2.3, loss=0.0, layer=5)]
    long = [row(flops=1.8, loss=0.1), row(flops=2.5, loss=9.0, layer=3), row(flops=2.5, loss=0.2, layer=4)]
    long += [row(flops=3.4, loss=0.3)]
    both = over_lengths([short, long])
    assert [each["schedule"]["layers"] for each in both] == [list(each["schedule"]["layers"]) for each in short[:4]]
    assert choose(both)["fast"]["schedule"]["layers"] == short[2]["schedule"]["layers"], "3 is bad in long prompts"
    assert choose(over_lengths([short]))["fast"]["schedule"] == short[4]["schedule"]


def test_the_folder_of_presets_is_one_that_every_command_takes(asked, tmp_path):
    model, tokenizer, _ = asked
    chosen = {"free": row(), "fast": row(layer=3), "fastest": row(layer=4)}
    as_pruner(chosen, model, tokenizer).save_pretrained(tmp_path)
    schedule = resolve_schedule("fast", model, tmp_path)
    scorer = load_pruner(tmp_path, model, schedule)
    assert schedule.layers == (3,) and pool_of(scorer) == "sentences" and scorer.scorer.heads == "max"


def test_cuts_are_told_in_words():
    assert cuts(None) == "none" and cuts(SCHEDULE) == "layer 2 to 50%"


# folder -> files of the trials that chose its places, and the score that was taken before
FOUND = {
    "smollm2-135m": [("smollm2", "tried_places"), ("smollm2", "tried_4096")],
    "qwen2.5-coder-0.5b": [("qwen", "tried")],
}
SCORE = ("strongest", "sentences")  # chosen by smollm2's first trial


TUNED = {each.parent.name: each for each in shipped_folders() if each.name == "tuned"}


@pytest.mark.parametrize("name", TUNED)
def test_what_is_shipped_is_what_the_stored_trial_chooses(name):
    record = read_config(TUNED[name])["record"]
    chosen = choose(over_lengths([stored(*file) for file in FOUND[name]]), *SCORE)
    schedules = {key: PruningSchedule(**each["schedule"]) for key, each in chosen.items()}
    assert own_presets(record["model"]) == schedules
    assert {(record["score"], record["use"]["pool"])} == {(each["score"], each["pool"]) for each in chosen.values()}


def test_the_shipped_score_is_what_the_first_trial_chooses():
    chosen = choose(over_lengths([stored("smollm2", "tried")]))
    assert {(each["score"], each["pool"]) for each in chosen.values()} == {SCORE}
