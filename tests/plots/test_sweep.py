"""The figures of a latency sweep: what they show, and that what is missing does not break them."""

from itertools import pairwise

import pytest
from result_files import SPEEDUPS, latency_document

from sdtp_lib.plots import sweep as plots

PAPER = "paper: Mistral-7B on its GPU"
EMPTY = {"metadata": {}, "results": {"4096": {"error": "OutOfMemoryError"}}}
COSTS = {"prefill": 2.0, "hooks": 0.1, "scoring": 0.04, "selecting": 0.02, "gathering": 0.02, "telling": 0.01}


def documents(**options):
    return {config: latency_document(config, **options) for config in SPEEDUPS}


def lines(figure):
    """label -> (x, y) of every labelled line."""
    return {line.get_label(): [list(values) for values in line.get_data()] for line in figure.axes[0].get_lines()}


def dashed(figure, style="--"):
    found = [line.get_data() for line in figure.axes[0].get_lines() if line.get_linestyle() == style]
    return [list(y) for x, y in found if len(x) and list(x) != [0, 1]]


def bars(figure):
    return {bar.get_label(): bar for bar in figure.axes[0].containers}


def test_speedup_shows_measured_estimated_and_the_papers_points():
    figure = plots.speedup(documents(), "prefill")
    shown = lines(figure)
    assert shown["keep09"] == [[512, 1024], [1.25 + 512 / 8192, 1.25 + 1024 / 8192]]
    assert shown[f"{PAPER}, SDTP, r = 0.9"][1][-1] == 2.15
    assert {"estimate: FLOPs, causal attention", "estimate: FLOPs, dense attention"} <= shown.keys()
    assert dashed(figure) == [[2.5, 2.5]] * 3
    assert dashed(figure, "-")[1] == pytest.approx([1 / (0.5 - 512e-6), 1 / (0.5 - 1024e-6)])
    total = plots.speedup(documents(), "total")
    assert [1.25, 1.25] in dashed(total, "-")


def test_speedup_of_files_without_estimates_still_shows_the_prefills():
    assert dashed(plots.speedup(documents(limits=False)), "-")[1] == pytest.approx([2.0, 2.0], abs=0.01)
    assert "estimate: FLOPs, dense attention" not in lines(plots.speedup(documents(limits=False)))
    assert not any(label.startswith("estimate") for label in lines(plots.speedup(documents(limits=False), "total")))


def test_speedup_marks_where_it_breaks_even():
    document = latency_document("keep09")
    early = document["results"]["512"]
    early["speedup"]["prefill"], early["sdtp"]["spread"]["prefill"] = 0.8, [9.0, 9.1]
    figure = plots.speedup({"a": document, "b": latency_document("keep07")})
    (mark,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "|"]
    assert 512 < mark.get_xdata()[0] < 1024 and mark.get_ydata() == [1]
    assert figure.axes[0].get_title("left") == "breaks even at (tokens): a about 680, b <= 512"


def test_latency_leaves_failed_lengths_out_and_draws_spread_slope_and_paper():
    some = documents()
    some["keep07"]["results"]["1024"] = {"error": "OutOfMemoryError"}
    figure = plots.latency(some, "prefill")
    found = bars(figure)
    assert list(found) == ["full", *SPEEDUPS]
    assert found["keep07"].lines[0].get_xdata().tolist() == [512]
    low, high = found["full"].lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.45, 0.6))
    assert lines(figure)[f"{PAPER}, full"][1][0] == 0.31 and lines(figure)[f"{PAPER}, SDTP"][1][-1] == 13.6
    title = figure.axes[0].get_title("left")
    assert "full 1.00, keep09 0.9" in title and "keep07" not in title, "one length has no slope"
    assert not any("paper" in label for label in lines(plots.latency(some, "decode")))
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize("part", ["prefill", "total"])
def test_limit_share_shows_the_share(part):
    shown = lines(plots.limit_share(documents(), part))
    record = latency_document("keep08")["results"]["512"]
    share = record["share_of_limit"]["prefill" if part == "prefill" else "end2end"]
    assert shown["keep08"][1][0] == share


def test_peak_memory_shows_both_sides():
    shown = lines(plots.peak_memory({"keep09": latency_document("keep09", memory=(20.0, 15.0))}))
    assert [shown[name][1][0] for name in ("full", "keep09")] == [20, 15]
    assert shown[f"{PAPER}, full"][1][-1] == 65.13
    rows = {"full": {"1024": {"peak_bytes": 3e9}, "512": {"peak_bytes": 2e9}}, "sdtp": {512: {"peak_bytes": None}}}
    shown = lines(plots.peak_memory(rows, with_paper=False))
    assert shown == {"full": [[512, 1024], [2.0, 3.0]]}, "what memory.resident_peaks gives"


def test_hook_shares_stack_to_the_share_of_all_hooks():
    figure = plots.hook_shares({"512": COSTS, 4096: COSTS, 8192: None, 100: {"prefill": 1.0, "hooks": None}})
    heights = {name: [patch.get_height() for patch in bar.patches] for name, bar in bars(figure).items()}
    assert list(heights) == ["scoring", "selecting", "gathering", "telling", "other"]
    assert [sum(height[at] for height in heights.values()) for at in range(3)] == pytest.approx([0.05, 0.05, 0.0])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["512", "4K", "100"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "sources", [{}, {"keep09": EMPTY}, {"keep09": latency_document("keep09", (4096,))}], ids=["none", "failed", "one"]
)
def test_nothing_or_a_single_length_breaks_no_figure(sources):
    for part in plots.PARTS:
        assert plots.latency(sources, part)._repr_png_()
        figure = plots.speedup(sources, part)
        assert ("not measured here" in [text.get_text() for text in figure.axes[0].texts]) == (
            sources.get("keep09") in (None, EMPTY)
        )
    for part in plots.LIMITS:
        assert plots.limit_share(sources, part)._repr_png_()
    assert plots.peak_memory(sources)._repr_png_()
    assert plots.hook_shares({})._repr_png_()


def test_legends_stay_inside_the_picture():
    many = {f"a schedule with a long name {n}": latency_document("keep09", memory=(20.0, 15.0)) for n in range(6)}
    for figure in (plots.speedup(many), plots.latency(many), plots.peak_memory(many)):
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    widths = [plots._columns(["x" * size] * 6) for size in (1, 20, 60, 200)]
    assert widths[0] == 6 and widths[-1] == 1 and all(a >= b for a, b in pairwise(widths))
