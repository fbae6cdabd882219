"""Quality against FLOPs from stored tables: curves, and whether the goals are reached."""

import pytest

from sdtp_lib.experiments.real.frontier import GOALS, by_layer, curves, goal_table, joined, reached, stage_table
from sdtp_lib.plots.frontier import frontier_curves, layer_curves


def cell(mean, difference, low, high):
    return {"mean": mean, "ci95": [mean, mean], "difference": {"mean": difference, "ci95": [low, high]}}


def row(method="attention", schedule="free", task="needle", flops=1.6, found=98.0, nll=0.04, low=-4.0, tokens=64):
    return {
        "tokens": tokens, "task": task, "schedule": schedule, "method": method, "flops": flops, "n": 20,
        "score": cell(found, found - 100, found - 102, found - 98), "nll": cell(1.0, nll, nll - 0.1, nll + 0.1),
        "right": cell(50.0, 1.0, low, 5.0),
    }  # fmt: skip


def test_a_row_that_stands_in_two_tables_is_taken_once():
    full = row("full", "none")
    assert joined([full, row()], [full, row(schedule="fast")]) == [full, row(), row(schedule="fast")]


def test_curves_part_the_paper_s_stages_from_others_and_ascend():
    rows = [row(flops=2.2, schedule="fast"), row(), row(schedule="paper"), row("random"), row(task="documents_qa")]
    found = curves([*rows, row("full", "none")], "needle", 64, ["attention", "random"])
    assert {*found} == {"attention; the paper's stages", "attention; one cut", "random; one cut"}
    assert [each["flops"] for each in found["attention; one cut"]] == [1.6, 2.2]
    assert not curves(rows, "needle", 128, ["attention"])
    assert not curves([cut(8)], "needle", 64, ["attention"]), "a place that was not taken"
    assert curves([cut(1, stays=0.25)], "needle", 64, ["attention"]), "all but a cut before the model"


@pytest.mark.parametrize(
    "changes, part, held",
    [
        ({}, "needles", True), ({"found": 96.9}, "needles", None), ({"found": 92.0}, "needles", False),
        ({"nll": 0.06}, "NLL, needle", None), ({"nll": 0.26}, "NLL, needle", False),
    ],
)  # fmt: skip
def test_a_goal_is_judged_by_the_whole_interval(changes, part, held):
    judged = reached(GOALS["free"], {"needle": row(**changes)})
    assert judged == {"needles": True, "NLL, needle": True} | {part: held}


@pytest.mark.parametrize("low, held", [(-5.1, None), (-5.0, True)])
def test_spans_are_judged_on_questions_alone(low, held):
    judged = reached(GOALS["free"], {"needle": row(low=-20), "documents_qa": row(task="documents_qa", low=low)})
    assert judged["right spans"] is held and len(judged) == 4


def test_the_table_says_what_was_missed():
    text = goal_table([row(), row(task="documents_qa", nll=0.2), row("random", "fast", found=10.0, flops=2.2)], 64)
    assert "not decided: NLL, documents_qa" in text and "missed: needles" in text and "| 10 " in text
    assert "+0.20 [+0.10, +0.30]" in text and text.count("\n") == 3


def test_a_method_that_was_asked_no_task_of_the_goals_has_no_row():
    text = goal_table([row(), row("random", task="needle_reworded")], 64)
    assert "attention" in text and "random" not in text


def test_a_table_of_stages_leaves_out_what_was_not_run():
    rows = [row(schedule="paper"), row("random", "paper", task="documents_qa")]
    text = stage_table(rows, 64, ["paper", "low"], ["random", "attention", "norm"])
    assert text.count("\n") == 3 and "| paper" in text and "20" in text and " - " in text


def test_the_figure_has_a_panel_a_task_and_one_entry_a_curve():
    rows = [row(), row(schedule="fast", flops=2.2), row(task="documents_qa")]
    some = {task: curves(rows, task, 64, ["attention"]) for task in ("needle", "documents_qa")}
    figure = frontier_curves(some, "nll", "NLL above the full model's")
    assert [axes.get_title() for axes in figure.axes] == [*some]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["attention; one cut (n 20)"]


def cut(layer, method="attention", stays=0.3, found=80.0, **options):
    return row(method, f"[{layer}] to {stays:.0%}", found=found, **options) | {"layers": [layer], "stays": stays}


def test_rows_of_one_cut_go_by_layer_and_one_score_may_have_two_names():
    several = row("bm25", "paper") | {"layers": [4, 7], "stays": None}
    full = row("full", "none") | {"layers": [], "stays": None}
    less = cut(7, "strongest", 0.15)
    rows = [cut(11, "strongest"), cut(7, "tuned"), less, several, cut(9, task="documents_qa"), full]
    found = by_layer(rows, "needle", 64, {"bm25": ["bm25"], "strongest": ["strongest", "tuned"]})
    assert [*found] == ["full", "strongest"] and found["full"] == [full]
    assert [(each["layers"], each["stays"]) for each in found["strongest"]] == [([7], 0.3), ([11], 0.3)]


def test_the_figure_by_layer_names_what_stays_and_how_many_were_asked():
    full, points = row("full", "none", found=95.0), [cut(7, stays=0.225), cut(11, found=90.0), cut(13)]
    some = {"full": [full], "attention": points}
    axes = (figure := layer_curves(some, "score", "found, %")).axes[0]
    assert [text.get_text() for text in axes.texts] == ["22%"] and axes.get_title().startswith("30% of the tokens stay")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["full (n 20)", "attention (n 20)"]
    assert [*axes.containers[0].lines[0].get_ydata()] == [80.0, 90.0, 80.0]


def test_a_figure_by_layer_needs_a_cut():
    with pytest.raises(ValueError, match="no row of one cut"):
        layer_curves({"full": [row("full", "none")]}, "score", "found, %")
