"""The figures: they show the data that went in, display and save the same bytes, and refuse what does not fit."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from result_files import SPEEDUPS, latency_document, longbench_data

from sdtp_lib import paths, plots
from sdtp_lib.evaluation.bootstrap import table1
from sdtp_lib.plots import saliency
from sdtp_lib.plots.style import GREY, LOOKS, looks
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.pruning.trace import last_layers

LAYERS = 6
TOKENS = ["The", "Ġ$code$", "Ġof", "Ġ<b>", "Ċ", "Ġis"]
LAST = [5, 5, 3, 1, 2, 5]


def documents():
    return {config: latency_document(config) for config in SPEEDUPS}


def prune_log():
    return [
        {"layer": layer, "tokens_before": 10, "score_min": -layer, "score_max": layer + prompt, "score_abs_sum": 20.0,
         "ties_decided": prompt == 0}
        for layer in (2, 4) for prompt in range(4)
    ]  # fmt: skip


TURNS = {"first": 90.0, "first_ci95": [88.0, 92.0], "second": 60.0, "second_ci95": [55.0, 66.0]}
BLENDS = [{**TURNS, "method": name, "share": share} for name, share in (("full", None), ("a", 0.0), ("b", 1.0))]
POINT = {"method": "sdtp", "score": 90.0, "ci95": [88.0, 93.0], "flops": 0.6}
DRAWINGS = {
    "saliency_map": lambda: plots.saliency_map(np.eye(LAYERS), TOKENS),
    "salient_share": lambda: plots.salient_share([0.6, 0.4, 0.1]),
    "reading_layer": lambda: plots.reading_layer([1, 2, 3], [2, 50, 98], local_layers=1, baseline=99.0),
    "loss_curves": lambda: plots.loss_curves(
        pd.DataFrame({"mse": [2.0, 1.0]}, index=[1, 2]), pd.DataFrame({4: [2.0, 1.0], 5: [3.0, 1.0]}, index=[1, 2])
    ),
    "rank_correlation": lambda: plots.rank_correlation({"SDTP": {"4": 0.8, "5": 0.7}, "none": {"4": -0.1, "5": 0.1}}),
    "survival_text": lambda: plots.survival_text(TOKENS, LAST, LAYERS),
    "survival_matrix": lambda: plots.survival_matrix(LAST, LAYERS),
    "kv_lengths": lambda: plots.kv_lengths([6, 5, 4], [6, 5, 4]),
    "latency": lambda: plots.latency(documents(), "total"),
    "speedup": lambda: plots.speedup(documents(), "total"),
    "limit_share": lambda: plots.limit_share(documents()),
    "peak_memory": lambda: plots.peak_memory(documents()),
    "hook_shares": lambda: plots.hook_shares({512: {"prefill": 1.0, "hooks": 0.02, "scoring": 0.01}}),
    "longbench_bars": lambda: plots.longbench_bars(table1(longbench_data(full=90.0, sdtp=80.0))),
    "single_cut_losses": lambda: plots.single_cut_losses([{**POINT, "ratio": 0.9, "layer": 4}], 95.0),
    "pooled_quality": lambda: plots.pooled_quality([{**POINT, "width": width} for width in (1, 13)], 95.0),
    "blend_quality": lambda: plots.blend_quality(BLENDS),
    "quality_against_flops": lambda: plots.quality_against_flops([POINT], 95.0),
    "score_distribution": lambda: plots.score_distribution(prune_log()),
}


def lines(figure):
    """label -> (x, y) of every labelled line of the first axes."""
    return {line.get_label(): line.get_data() for line in figure.axes[0].get_lines()}


@pytest.mark.parametrize("name", DRAWINGS)
def test_figure_displays_as_stable_png_and_leaves_no_trace(name):
    before, open_figures = dict(matplotlib.rcParams), matplotlib._pylab_helpers.Gcf.get_all_fig_managers()
    figure, again = DRAWINGS[name](), DRAWINGS[name]()
    assert isinstance(figure, Figure) and figure._repr_png_().startswith(b"\x89PNG")
    assert figure._repr_png_() == again._repr_png_()
    assert re.fullmatch(r"<Figure size \d+x\d+ with \d Axes>", repr(figure))
    assert dict(matplotlib.rcParams) == before
    assert matplotlib._pylab_helpers.Gcf.get_all_fig_managers() == open_figures
    for axes in figure.axes:
        if axes.axison and axes.get_label() != "<colorbar>":
            assert axes.get_xlabel() and axes.get_ylabel(), "both axes say what they show"


def test_every_public_figure_is_drawn_here():
    others = {"Figure", "save_figure", "save_figures"}
    assert set(DRAWINGS) == set(plots.__all__) - others


def test_saved_file_is_what_the_notebook_shows_without_a_version(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_FIGURES", str(tmp_path))
    figure = DRAWINGS["kv_lengths"]()
    assert plots.save_figure(figure, "demo", "inspect_pruning") is figure
    saved = paths.figures("demo") / "inspect_pruning.png"
    assert saved.read_bytes() == figure._repr_png_() and b"Software" not in saved.read_bytes()
    assert [path.name for path in saved.parent.iterdir()] == ["inspect_pruning.png"]


def test_several_are_saved_and_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_FIGURES", str(tmp_path))
    said = plots.save_figures("demo", {"one": DRAWINGS["kv_lengths"](), "two": DRAWINGS["survival_matrix"]()})
    assert sorted(path.name for path in paths.figures("demo").iterdir()) == ["one.png", "two.png"]
    assert said == "Drawn into the profile's figures: `one`, `two`."


@pytest.mark.parametrize("name", ["", "../up", "a/b", "fig1.png"])
def test_figure_names_are_plain_stems(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SDTP_FIGURES", str(tmp_path))
    with pytest.raises(ValueError, match="plain stem"):
        plots.save_figure(DRAWINGS["kv_lengths"](), "demo", name)


def test_saliency_map_scales_every_layer_and_names_salient_tokens_only():
    saliency = [[4.0, 0.1, 0.2, 0.0], [0.0, 0.0, 8.0, 0.0]]
    figure = plots.saliency_map(saliency, ["Ġone", "Ġtwo", "Ġ$x$", "Ġfour"])
    axes = figure.axes[0]
    shown = np.asarray(axes.collections[0].get_array()).reshape(2, 4)
    assert shown.max(axis=1).tolist() == [1.0, 1.0] and shown[0, 2] == pytest.approx(0.05)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "$x$"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]
    with pytest.raises(ValueError, match=r"shape \(2, 4\) does not fit 3 tokens"):
        plots.saliency_map(saliency, ["a", "b", "c"])


def test_a_layer_without_saliency_does_not_break_the_map():
    assert plots.saliency_map(np.zeros((2, 3)), ["a", "b", "c"])._repr_png_()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=150))
def test_named_tokens_keep_their_distance_and_the_strongest_is_named(strength):
    shown = saliency._spaced(np.array(strength), width=10.5)
    gap = 1.25 * saliency.LABEL_POINTS / 72 * len(strength) / 10.5
    assert all(b - a >= gap for a, b in zip(shown, shown[1:], strict=False))
    assert all(strength[token] > 0 for token in shown)
    assert max(strength) == 0 or int(np.argmax(strength)) in shown


def test_bars_of_longbench_carry_scores_and_intervals():
    axes = plots.longbench_bars(table1(longbench_data(full=90.0, sdtp=80.0))).axes[0]
    bars = [container for container in axes.containers if hasattr(container, "patches")]
    assert [patch.get_height() for patch in bars[1]] == [80.0] * 6
    assert bars[1].errorbar.lines[2][0].get_segments()[0][:, 1].tolist() == [76.0, 83.0]


def test_score_distribution_shows_range_and_ties():
    left, right = plots.score_distribution(prune_log()).axes
    assert left.collections[0].get_segments()[1][:, 1].tolist() == [-4.0, 7.0]
    assert [patch.get_height() for patch in right.patches] == [0.25, 0.25]
    (alone,) = plots.score_distribution([{**row, "ties_decided": False} for row in prune_log()]).axes
    assert len(alone.collections) == 2, "no empty panel"


def test_a_method_or_schedule_looks_alike_in_every_figure():
    told = looks(["full", "sdtp", "keep09", "keep09, float32", "sdtp+h2o", "h2o", "attention-pool7", "blend 0", "SDTP"])
    full, sdtp, keep09, float32, both, h2o, pooled, other, loud = told
    assert full["color"] == GREY and sdtp == keep09 == {**loud, "linestyle": "-"} and sdtp["linestyle"] == "-"
    assert float32 == {**keep09, "linestyle": "--"} and both == {**h2o, "linestyle": "--"}
    assert pooled["color"] == LOOKS["attention"][0] and other["color"] not in (full["color"], h2o["color"])
    known = [name for name in LOOKS if name not in ("paper", "keep09", "low", "local", "tuned")]
    assert len({LOOKS[name] for name in known}) == len(known), "each has a look of its own"


def test_losses_on_one_axis_begin_at_one_and_what_is_read_seldom_is_left_out():
    terms = pd.DataFrame({"mse": [4.0, 2.0, 1.0], "cls": [0.5, None, None]}, index=[1, 2, 3])
    (line,) = plots.loss_curves(terms).axes[0].get_lines()
    assert line.get_label() == "mse" and line.get_ydata().tolist() == [1.0, 0.5, 0.25]


def test_last_layers_follow_the_trace():
    kept = {2: torch.tensor([[0, 2, 3]]), 4: torch.tensor([[-1, 0, 3]])}
    assert last_layers(kept, tokens=4, num_layers=6) == [5, 1, 3, 5]
    with pytest.raises(ValueError, match="stage at layer 4 does not fit 4 layers"):
        last_layers(kept, tokens=4, num_layers=4)
    with pytest.raises(ValueError, match="3 tokens"):
        last_layers(kept, tokens=3, num_layers=6)


@given(st.integers(1, 80), st.integers(1, 10), st.randoms(use_true_random=False))
def test_last_layers_and_schedule_agree_on_the_tokens_present(tokens, stages, random):
    schedule = PruningSchedule.spread(stages, 12, 2, 0.7, min_local_tokens=2)
    present, kept = list(range(tokens)), {}
    for layer, length in enumerate(schedule.lengths(tokens, 12)):
        if layer in schedule.layers:
            present = sorted(random.sample(present, length))
            kept[layer] = torch.tensor([present])
    last = last_layers(kept, tokens, 12)
    assert [sum(layer <= end for end in last) for layer in range(12)] == schedule.lengths(tokens, 12)


def test_survival_text_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="6 tokens but 5 layers"):
        plots.survival_text(TOKENS, LAST[:-1], LAYERS)
    with pytest.raises(ValueError, match="last layers must be 0 to 4"):
        plots.survival_text(TOKENS, LAST, 5)


def test_survival_text_keeps_every_token_inside_the_picture():
    tokens = ["Ġword"] * 300 + ["x" * 500]
    axes = plots.survival_text(tokens, [5] * 301, LAYERS).axes[0]
    boxes = [(patch.get_x() + patch.get_width(), patch.get_y()) for patch in axes.patches]
    assert max(right for right, _ in boxes) <= axes.get_xlim()[1]
    assert max(top for _, top in boxes) < max(axes.get_ylim())
