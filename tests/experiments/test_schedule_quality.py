"""Quality of other schedules: which points are measured, what they cost, and how they are drawn."""

import pytest
from folders import LAYERS, save_model, write_pairs

from sdtp_lib import plots
from sdtp_lib.data.corpora import longbench_records
from sdtp_lib.evaluation.longbench import measure
from sdtp_lib.experiments import fig4_single_cut, fig5_stages
from sdtp_lib.experiments import schedule_quality as schedules
from sdtp_lib.experiments.all_layer_pruners import pruner_of_every_layer
from sdtp_lib.latency.flop_estimates import prefill_limit
from sdtp_lib.models import load_model, load_pruner
from sdtp_lib.pruning.schedule import PruningSchedule


def test_points_name_their_schedules():
    cuts = fig4_single_cut.single_cuts((4, 6), (0.9, 0.7), ("sdtp", "random"))
    assert len(cuts) == 8 and cuts[3]["schedule"] == PruningSchedule((6,), 0.7)
    deep = fig5_stages.stage_counts((1, 3, 7), num_layers=32)
    assert [point["schedule"].layers for point in deep] == [(4,), (4, 7, 10), tuple(range(4, 23, 3))]
    for stages, layers in ((10, 32), (9, 30), (7, 24)):  # as many as the paper's schedule has: a pruner has no others
        (all_of_them,) = fig5_stages.stage_counts((stages,), layers)
        assert all_of_them["schedule"] == PruningSchedule.preset("paper", layers)
    shallow = fig5_stages.stage_counts((2, 10), num_layers=14)
    assert [point["schedule"].layers for point in shallow] == [(4, 5), tuple(range(4, 14))]
    with pytest.raises(ValueError, match="11 stages do not fit layers 4 to 13"):
        fig5_stages.stage_counts((11,), num_layers=14)
    paper = PruningSchedule.preset("paper", 32)
    curve = schedules.budgets(paper, (0.9, 0.5), ["norm"])
    assert [point["schedule"].keep_ratio for point in curve] == [0.9, 0.5] and curve[0]["schedule"] == paper


def test_every_point_is_measured_on_the_same_records():
    model, tokenizer = load_model("demo", dtype="float32")
    records = longbench_records("singledoc_qa", "mini", 2)
    paper = PruningSchedule.preset("paper", 14)
    points = [*schedules.budgets(paper, (0.9,), ["sdtp"]), {"method": "recency", "schedule": PruningSchedule((6,), 0.5),
                                                           "positions": "compact"}]  # fmt: skip
    pruner = load_pruner(None, model, paper).float()
    first, second = schedules.quality(model, tokenizer, records, points, pruner)
    alone, _ = measure(model, tokenizer, records, "sdtp", paper, pruner)
    assert (first["score"], first["ci95"], first["n"]) == (alone["average"], alone["ci95"], 2)
    assert first["flops"] == 1 / prefill_limit(model.config, paper, round(alone["prompt_tokens"]))
    assert first["kept"] == pytest.approx(1 / alone["compression"], rel=1e-3)
    assert second["positions"] == "compact" and second["kept"] < 0.75
    assert first["schedule"]["keep_ratio"] == 0.9
    with pytest.raises(ValueError, match="layer"):
        schedules.quality(model, tokenizer, records, [{"method": "norm", "schedule": PruningSchedule((14,), 0.5)}])


def measured(**labels):
    return {"method": "sdtp", "score": 90.0, "ci95": [88.0, 93.0], "flops": 0.6, **labels}


def test_positions_are_tried_of_the_pruner_alone():
    points = [measured(method=m, ratio=0.7, schedule=PruningSchedule((4,), 0.7).to_dict()) for m in ("sdtp", "random")]
    asked = []
    both = schedules.positions(points, lambda some: asked.extend(some) or [{**some[0], "score": 80.0}])
    assert [(p["positions"], p["score"]) for p in both] == [("original", 90.0), ("compact", 80.0)]
    assert len(asked) == 1 and asked[0]["schedule"] == PruningSchedule((4,), 0.7)


def test_stages_are_told_in_a_sentence():
    points = [measured(stages=n) for n in (7, 1)]
    said = fig5_stages.said_of_stages({"full": 95.0, "points": points})
    assert said == "By the number of stages sdtp scores 90.0 with 1, 90.0 with 7; the full model 95.0."


def test_figures_show_every_curve():
    paired = {"against_full": {"difference": -3.0, "ci95": [-4.0, -2.0]}}
    single = plots.single_cut_losses(
        [measured(ratio=r, layer=n, **(paired if n > 1 else {})) for r in (0.9, 0.7) for n in (1, 4)], 95.0
    )
    labels = {text.get_text() for text in single.legends[0].get_texts()}
    assert {"r = 0.9", "r = 0.7", "full model", "paper, r = 0.7 (WinoGrande, read off)"} <= labels
    lost = {tuple(line.get_ydata()) for line in single.axes[0].get_lines()}
    assert (-5.0, -3.0) in lost, "the paired difference where there is one"
    both = [measured(flops=f, method=m) for m in ("sdtp", "random") for f in (0.4, 0.8)]
    curves = plots.quality_against_flops(both, 95.0)
    assert {"sdtp", "random", "full model"} <= {text.get_text() for text in curves.legends[0].get_texts()}
    assert all(figure._repr_png_() for figure in (single, curves))


def test_a_pruner_of_every_layer_scores_at_each(tmp_path):
    save_model(tmp_path / "model")
    data = write_pairs(tmp_path / "pairs.jsonl", 4)
    pruner = pruner_of_every_layer(tmp_path / "model", data, 4, tmp_path / "out", epochs=1, holdout=0.25)
    assert pruner.layers == tuple(range(1, LAYERS))
    assert len(pruner.record["held_out"]["rank_correlation"]) == LAYERS - 1
