"""Readers of the notebooks' files: each answer can hold, fail, and, where scores are perfect, show nothing."""

import numpy as np
import pytest
from result_files import METADATA, latency_document, longbench_data

from sdtp_lib import paper
from sdtp_lib.evaluation.intervals import Interval
from sdtp_lib.ledger import quality_readers as quality
from sdtp_lib.ledger import saliency_readers as saliency
from sdtp_lib.ledger import speed_readers as speed
from sdtp_lib.ledger.findings import Status, higher


def answer(read, data, **metadata):
    return read({"metadata": {**METADATA, **metadata}, "data": data})


def scores(**averages):
    return longbench_data(**averages)


def test_higher_is_clearly_above_somewhere_and_clearly_below_nowhere():
    above, same, below = Interval(9, 1, 17), Interval(5, -3, 13), Interval(-9, -17, -1)
    found = [higher(gaps, [60, 50]) for gaps in ([same], [above, same], [below, same], [above, below])]
    assert found == [Status.UNDECIDED, Status.HOLDS, Status.FAILS, Status.FAILS]
    assert higher([above], [99.5, 99.0]) == Status.CEILING


def test_a_part_that_is_not_decided_leaves_the_whole_so_unless_one_fails():
    assert [*map(Status.of, (True, None, False))] == [Status.HOLDS, Status.UNDECIDED, Status.FAILS]
    assert Status.of_all([Status.HOLDS, Status.UNDECIDED]) == Status.UNDECIDED
    assert Status.of_all([Status.UNDECIDED, Status.FAILS, Status.CEILING]) == Status.FAILS


@pytest.mark.parametrize(
    "full, sdtp, status",
    [(90.0, 92.0, "HOLDS"), (90.0, 88.0, "UNDECIDED"), (90.0, 81.0, "FAILS"), (100.0, 99.5, "CEILING")],
)
def test_close_on_the_toy(full, sdtp, status):
    found = answer(quality.loses_at_most("full", "sdtp", 3.0), scores(full=full, sdtp=sdtp, random=75.0))
    assert found.status == Status[status] and found.text.startswith(f"full {full}, sdtp {sdtp}: {sdtp - full:+} [")
    assert found.n == "250 records" and found.chance == "random tokens, same schedule: 75.0"
    assert answer(quality.loses_at_most("full", "oracle", 3.0), scores(full=full)) is None


@pytest.mark.parametrize(
    "low, sdtp, status",
    [(90.0, 70.0, "HOLDS"), (90.0, 88.0, "UNDECIDED"), (70.0, 90.0, "FAILS"), (100.0, 100.0, "CEILING")],
)
def test_sdtp_low_against_sdtp_shows_nothing_at_the_ceiling(low, sdtp, status):
    assert answer(quality.beats("sdtp", "sdtp-low"), scores(sdtp_low=low, sdtp=sdtp)).status == Status[status]


@pytest.mark.parametrize("low, status", [(88.0, "HOLDS"), (87.0, "FAILS")])
def test_losses_by_category_are_held_to_the_papers_worst(low, status):
    assert answer(quality.losses_by_category, scores(full=90.0, sdtp_low=low)).status == Status[status]
    assert answer(quality.losses_by_category, scores(full=100.0, sdtp_low=99.0)).status == Status.CEILING


@pytest.mark.parametrize(
    "ours, other, status",
    [([90.0], [10.0], "UNDECIDED"), ([90.0, 92.0], [80.0, 89.0], "HOLDS"),
     ([90.0, 95.0], [80.0, 92.0], "UNDECIDED"), ([80.0, 82.0], [90.0, 92.0], "FAILS"),
     ([100.0, 100.0], [100.0, 99.0], "CEILING")],
)  # fmt: skip
def test_losses_help_if_the_worst_seed_with_them_beats_the_best_without(ours, other, status):
    named = {paper.ABLATIONS[0]: {"averages": ours}, paper.ABLATIONS[2]: {"averages": other}}
    assert answer(quality.losses_help(paper.ABLATIONS[2]), named).status == Status[status]
    single = {name: {"average": row["averages"][0]} for name, row in named.items()}
    assert answer(quality.losses_help(paper.ABLATIONS[2]), single, limit=5).n == "1 seed, 5 records of each task"
    untested = single | {paper.ABLATIONS[2]: {"average": None}}
    assert answer(quality.losses_help(paper.ABLATIONS[2]), untested) is None


@pytest.mark.parametrize(
    "full, sdtp, status",
    [(70.0, [69.0] * 4, "HOLDS"), (70.0, [66.0] * 4, "FAILS"), (70.0, [100.0, 100.0, 40.0, 40.0], "UNDECIDED"),
     (100.0, [100.0] * 4, "CEILING")],
)  # fmt: skip
def test_table_3_says_its_ceiling_and_what_random_tokens_score(full, sdtp, status):
    every = {"full": [full] * 4, "sdtp": sdtp, "random": [50.0] * 4}
    named = {name: {"a": {"score": sum(some) / 4, "n": 4, "samples": some}} for name, some in every.items()}
    found = answer(quality.downstream, named)
    assert found.status == Status[status] and found.n == "4 questions of 1 task" and found.chance.endswith("50.0")


def cuts(**by_ratio):
    """r07=[scores at layers 1, 2, 4, 7] -> Figure 4's points, each two points wide either way."""
    return {"full": 95.0, "points": [
        {"method": "sdtp", "ratio": int(name[1:]) / 10, "layer": layer, "score": score, "n": 20,
         "ci95": [score - 2, score + 2]}
        for name, row in by_ratio.items() for layer, score in zip((1, 2, 4, 7), row, strict=True)]}  # fmt: skip


@pytest.mark.parametrize(
    "hard, mild, status",
    [([40, 50, 90, 92], [80, 82, 94, 95], "HOLDS"), ([40, 50, 90, 92], [90, 90, 85, 85], "FAILS"),
     ([40, 50, 90, 92], [95, 95, 95, 95], "HOLDS"), ([95, 95, 95, 95], [95, 95, 95, 95], "CEILING"),
     ([88, 89, 90, 91], [95, 95, 95, 95], "UNDECIDED")],
)  # fmt: skip
def test_figure_4_is_judged_at_every_ratio_at_which_anything_is_lost(hard, mild, status):
    assert answer(quality.early_cuts_hurt_most, cuts(r5=hard, r9=mild)).status == Status[status]


@pytest.mark.parametrize("seven, status", [(93.0, "HOLDS"), (90.5, "UNDECIDED"), (89.0, "FAILS")])
def test_figure_5_is_flat_within_the_bar_and_shows_nothing_at_the_ceiling(seven, status):
    def points(scores):
        return [
            {"method": "sdtp", "stages": n, "score": score, "ci95": [score - 1, score + 1], "n": 9}
            for n, score in scores.items()
        ]

    found = answer(quality.flat_in_stages, {"full": 95.0, "points": points({1: 94.0, 7: seven, 10: 60.0})})
    assert found.status == Status[status] and found.text == f"{seven} to 94.0 over 1 to 7 stages, full 95.0"
    perfect = {"full": 100.0, "points": points({1: 100.0, 7: 100.0})}
    assert answer(quality.flat_in_stages, perfect).status == Status.CEILING


def test_figure_2_needs_a_fall_between_the_first_layer_and_the_last():
    known = {layer: sum(ends) / 2 for layer, ends in paper.FIG2_SALIENT_SHARE.items()}
    curve = np.interp(range(1, 33), [*known], [*known.values()]).tolist()
    papers = answer(saliency.salient_share, {"layers": [*range(32)], "share": curve}, prompts=8)
    assert papers.status == Status.HOLDS and papers.n == "8 prompts" and papers.text.startswith("70.0% at layer 0")
    flat = {"layers": [*range(8)], "share": [0.7, *[0.01] * 6, 0.001]}
    assert answer(saliency.salient_share, flat).status == Status.FAILS
    assert answer(saliency.salient_share, {"layers": [0, 1], "share": [0.7, 0.1]}) is None


def heat_map(rows):
    return {"tokens": [*"abcdefghij"], "layers": [0, 4, 5, 6, 7, 8][: len(rows)], "saliency": rows}


def test_figure_1_is_read_as_the_paper_does():
    def row(salient):
        return [1.0] * salient + [0.05] * (10 - salient)

    fewer = answer(saliency.fewer_when_deeper, heat_map([row(n) for n in (7, 6, 5, 3, 2, 2)]))
    assert fewer.status == Status.HOLDS and fewer.text.startswith("70.0% at layer 0, 20.0% at layer 8; between")
    flat = answer(saliency.fewer_when_deeper, heat_map([row(n) for n in (7, 3, 3, 3, 3, 2)]))
    assert flat.status == Status.FAILS


@pytest.mark.parametrize("moved, status", [(0, "HOLDS"), (1, "FAILS")])
def test_a_token_that_comes_back_breaks_the_claim_that_redundant_stays_redundant(moved, status):
    early, later = [1.0] * 4 + [0.0] * 6, [1.0] * 3 + [0.0] * 7
    back = [0.0] * moved + later[: 10 - moved] if moved else later
    others = [[0.0] * 3 + [1.0] * 3 + [0.0] * 4] if moved else [later]
    found = answer(saliency.stays_redundant, heat_map([later, early, back, later, *others, later]))
    assert found.status == Status[status] and found.chance == "40%, the salient share of that layer"
    one = [[0.0] * 9 + [1.0]] * 4  # a single token stands out at each later layer, and nearly all stay redundant
    assert answer(saliency.stays_redundant, heat_map([later, early, *one])).status == Status.CEILING


def test_reading_and_ranking():
    reading = {"layers": [1, 4, 8], "accuracy": [2.0, 5.0, 90.0], "baseline": 95.0, "local_layers": 0}
    found = answer(saliency.reads_late, reading, tasks=["a", "b"], limit=10)
    assert found.text.startswith("5% with the context hidden from layer 4") and found.status == Status.HOLDS
    assert found.n == "10 records of 2 tasks each"
    assert answer(saliency.reads_late, reading | {"local_layers": 8}).status == Status.FAILS
    assert answer(saliency.ranks_held_out, {"rank_correlation": {"4": 0.7, "5": -0.1}}).status == Status.FAILS
    assert answer(saliency.ranks_held_out, {"rank_correlation": {"4": 0.7, "5": 0.1}}).status == Status.HOLDS


@pytest.mark.parametrize("ends, status", [((1.1, 2.0), "HOLDS"), ((0.9, 2.0), "UNDECIDED"), ((0.8, 0.9), "FAILS")])
def test_speed_on_prompts_needs_every_prompt(ends, status):
    ours = {"prefill x": {"mean": 1.5, "range": ends}}
    data = {"prompts": [{"prompt_tokens": n} for n in (900, 400)], "methods": {"full": {}, "sdtp": ours}}
    assert answer(speed.speed_on_prompts("prefill"), data).status == Status[status], "SDTP-low was not timed"
    assert answer(speed.speed_on_prompts("prefill"), data | {"methods": {"full": {}}}) is None
    found = answer(speed.speed_on_prompts("prefill"), data | {"methods": {"sdtp": ours, "sdtp-low": ours}})
    assert found.status == Status[status] and found.n == "2 prompts of 400 to 900 tokens"
    ours["total x"] = ours["prefill x"]
    whole = answer(speed.speed_on_prompts("total"), data | {"new_tokens": 8})
    assert whole.n == "2 prompts of 400 to 900 tokens, 8 new tokens"


def test_speed_grows_with_the_prompt_or_does_not_hold():
    document = latency_document("keep09")
    found = speed.speedup("prefill")(document)
    assert found.text == "1.31x at 512 tokens to 1.38x at 1,024" and found.status == Status.HOLDS
    assert found.n == "3 runs of each side and length"
    once = {**document, "metadata": {**document["metadata"], "repeats": 1}}
    assert speed.speedup("prefill")(once).status == Status.UNDECIDED, "one run has no spread"
    document["results"]["1024"]["speedup"]["prefill"] = 1.2
    assert speed.speedup("prefill")(document).status == Status.FAILS
    assert speed.memory_saved(document) is None and speed.speedup("prefill")(latency_document("none")) is None


def test_memory_and_tokens_can_fail():
    worse = latency_document("keep09", memory=(30.0, 40.0))
    assert speed.memory_saved(worse).status == Status.FAILS
    worse["metadata"]["repeats"] = 1
    assert speed.memory_saved(worse).status == Status.UNDECIDED
    assert speed.memory_saved(latency_document("keep09", memory=(40.0, 30.0))).text.endswith("(peak of the prefill)")
    gpu = latency_document("keep09", memory=(40.0, 30.0))
    gpu["metadata"] = gpu["metadata"] | {"device": "NVIDIA H200", "mode": "end2end"}
    assert speed.memory_saved(gpu).text.endswith("(peak end to end)")
    document = latency_document("keep09")
    assert speed.tokens_pruned(document).status == speed.kv_saved(document).status == Status.HOLDS
    document["results"]["512"]["sdtp"]["tokens_kept"] *= 2
    assert speed.tokens_pruned(document).status == Status.FAILS
    assert speed.flops_saved("flops")(document).status == Status.HOLDS
    document["results"]["1024"]["flops"]["ratio"] = 1.1
    assert speed.flops_saved("flops")(document).status == Status.FAILS
