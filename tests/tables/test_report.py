"""The tables: like is compared with like, bad files are refused by name, and rounding is fixed."""

import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_files import LENGTHS, SPEEDUPS, latency_document, longbench_data, summary, write_data, write_sweep

from sdtp_lib import paper as paper_numbers
from sdtp_lib import results
from sdtp_lib.evaluation.bootstrap import table1
from sdtp_lib.markdown import interval_text, paper_ours
from sdtp_lib.tables import report, table2


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def row(table, length, method):
    return table.set_index(["Length", "Method"]).loc[(length, method)]


def test_latency_table_has_a_row_per_length_and_method_and_speedups_of_each_file(tmp_path):
    files = write_sweep(tmp_path, memory=(10.0, 8.0))
    slow = {"prefill_latency_seconds": 99.0}
    edit(files["sdtp09"], lambda document: document["results"]["512"]["baseline"].update(slow))
    table = table2.latency_table(**files, output=tmp_path / "t.md")
    assert list(zip(table["Length"], table["Method"], strict=True)) == [
        (length, method) for length in LENGTHS for method in ("baseline", "keep09", "keep08", "keep07")
    ]
    first = row(table, 512, "keep09")
    assert first["Prefill x"] == SPEEDUPS["keep09"] + 512 / 8192
    assert first["KV reduction %"] == pytest.approx(32.5) and first["Peak GB"] == 8.0
    assert first["Prefill TFLOPs"] == 1.0 and first["End2End TFLOPs"] == 2.0
    assert first["FLOP ratio"] == pytest.approx(0.6 - 512e-6), "end to end counts its own FLOPs"
    assert first["Prefill / estimate"] == pytest.approx(first["Prefill x"] * (0.5 - 512e-6))
    assert first["End2End / estimate"] == pytest.approx(first["End2End x"] / 1.25)
    baseline = row(table, 512, "baseline")
    assert baseline["Prefill (s)"] == 0.5, "baseline rows come from the baseline's file"
    assert (
        baseline["Prefill TFLOPs"] == 2.0 and math.isnan(baseline["Prefill x"]) and math.isnan(baseline["FLOP ratio"])
    )


def test_latency_page_is_markdown_with_dashes_and_what_it_was_measured_on(tmp_path):
    table2.latency_table(**write_sweep(tmp_path), output=tmp_path / "deep" / "t.md")
    lines = (tmp_path / "deep" / "t.md").read_text().splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:4]] == ["Length", "Method", "Prefill (s)"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "512", "baseline", "0.500", "3.000", "3.500", "-", "-", "-", "-", "2.000", "3.000", "-", "-", "-"
    ]  # fmt: skip
    assert any("scaled-mistral, bfloat16, a processor" in line and "128 new tokens" in line for line in lines)


def test_notes_give_estimates_break_even_and_growth(tmp_path):
    files = write_sweep(tmp_path)
    late = {"prefill": 0.9, "total": 0.95, "decode": 1.0}
    edit(files["sdtp08"], lambda document: document["results"]["512"]["speedup"].update(late))
    apart = {"spread": {"prefill": [9.0, 9.1], "total": [9.0, 9.1]}}
    edit(files["sdtp08"], lambda document: document["results"]["512"]["sdtp"].update(apart))
    table2.latency_table(**files, lengths=[1024], output=tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text()
    assert "- Estimates for keep09, causal prefill and end to end: 1024: 2.00x (dense 2.50x), end to end 1.25x." in text
    assert "- keep08 pays from: prefill about 560 tokens (interpolated between 512, 0.90x, and 1024, 2.12x); " in text
    assert "baseline prefill 1.00, end to end 0.19; keep09 prefill" in text
    assert "- / estimate:" in text and "Amdahl" in text
    table2.latency_table(**files, mode="prefill", output=tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text()
    assert "end to end" not in text.lower() and "- Estimates for keep07, causal prefill: 512: 2.00x (dense" in text


@pytest.mark.parametrize("mode", ["prefill", "end2end"])
def test_files_from_before_there_were_limits_are_read(tmp_path, mode):
    new, old = (
        table2.latency_table(**write_sweep(tmp_path / str(limits), limits=limits), mode=mode, output=tmp_path / "t.md")
        for limits in (True, False)
    )
    assert "- Estimates for keep09, causal prefill" in (tmp_path / "t.md").read_text()
    end2end = ["End2End / estimate"] if mode == "end2end" else []
    assert old["Prefill / estimate"].tolist() == pytest.approx(new["Prefill / estimate"].tolist(), nan_ok=True)
    assert old.drop(columns=["Prefill / estimate", *end2end]).equals(new.drop(columns=["Prefill / estimate", *end2end]))
    assert old[end2end].isna().all().all()
    assert report.table2_beside_paper(latency_document("keep09", limits=False))


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_table2_stands_beside_the_lengths_that_both_have():
    header, _, first, second, third, _ = cells(
        report.table2_beside_paper(latency_document("keep09", lengths=(1024, 4096, 8192)))
    )
    assert header[:5] == ["Tokens, paper", "Tokens, ours", "Part", "Speedup, paper", "Speedup, ours"]
    assert first == ["4096", "4096", "prefill", "1.52", "1.75", "2.02", "0.66", "0.66", "0.64", "0.50"]
    assert second[:4] == ["4096", "4096", "end to end", "1.08"] and second[5] == "1.25"
    assert third[:3] == ["8192", "8192", "prefill"]


def test_table2_stands_beside_the_nearest_length_and_copes_with_what_is_missing():
    document = latency_document("keep09")
    for record in document["results"].values():
        record["speedup"]["total"] = None
    rows = cells(report.table2_beside_paper(document))[2:]
    assert [row[:3] for row in rows] == [["4096", "1024", "prefill"]]
    assert [row[:2] for row in cells(report.table2_beside_paper(latency_document("keep09", (262144, 512))))[2:]] == [
        ["131072", "262144"], ["131072", "262144"]
    ]  # fmt: skip
    report.table2_beside_paper({"metadata": {}, "results": {"4096": {"error": "full"}}})


def test_prefill_mode_leaves_the_decode_out_and_takes_prefill_files(tmp_path):
    table = table2.latency_table(**write_sweep(tmp_path, mode="prefill", new_tokens=1), mode="prefill", lengths=[1024])
    assert not set(table2.DECODE_COLUMNS) & set(table) and set(table["Length"]) == {1024}
    assert row(table, 1024, "keep08")["FLOP ratio"] == pytest.approx(0.5 - 1024e-6)


def test_a_failed_length_is_shown_with_its_reason(tmp_path):
    files = write_sweep(tmp_path)
    edit(files["sdtp07"], lambda document: document["results"].update({"1024": {"error": "OutOfMemoryError: full"}}))
    table = table2.latency_table(**files, output=tmp_path / "t.md")
    assert math.isnan(row(table, 1024, "keep07")["Prefill (s)"])
    assert "1024 tokens, keep07: failed, OutOfMemoryError: full" in (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["metadata"].update(device="another"), r"keep08.json has device 'another'.*baseline.json"),
        (lambda d: d["metadata"].update(model="mistral-7b"), r"keep08.json has model 'mistral-7b'"),
        (lambda d: d["metadata"].update(dtype="float32"), r"keep08.json has dtype 'float32'"),
        (lambda d: d["metadata"].update(new_tokens=64), r"keep08.json has new_tokens 64"),
        (lambda d: d["metadata"].update(config="keep07"), r"keep08.json holds config 'keep07', not 'keep08'"),
        (lambda d: d["metadata"].update(mode="prefill"), r"keep08.json holds mode 'prefill'"),
        (lambda d: d["results"].pop("1024"), r"keep08.json has no length 1024"),
        (lambda d: d.pop("results"), r"keep08.json is no latency file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, change, message):
    files = write_sweep(tmp_path)
    edit(files["sdtp08"], change)
    with pytest.raises(ValueError, match=message):
        table2.latency_table(**files, output=tmp_path / "t.md")
    assert not (tmp_path / "t.md").exists()


def test_missing_damaged_and_unknown_are_refused_by_name(tmp_path):
    files = write_sweep(tmp_path)
    with pytest.raises(ValueError, match="unknown mode 'decode'"):
        table2.latency_table(**files, mode="decode")
    with pytest.raises(ValueError, match="is a folder"):
        table2.latency_table(**files, output=tmp_path)
    with pytest.raises(ValueError, match="baseline.json has no length 4096"):
        table2.latency_table(**files, lengths=[4096])
    files["sdtp09"].write_text("{")
    with pytest.raises(ValueError, match="keep09.json is damaged"):
        table2.latency_table(**files)
    files["sdtp07"].unlink()
    files["sdtp09"].write_text(json.dumps(latency_document("keep09")))
    with pytest.raises(FileNotFoundError, match="keep07.json"):
        table2.latency_table(**files)


def test_longbench_table_reads_files_summaries_and_frames_alike(tmp_path):
    data = longbench_data(full=90.0, sdtp=88.04)
    write_data(tmp_path, "table1_longbench", data)
    table = report.longbench_table(tmp_path / "table1_longbench.json", output=tmp_path / "t.md")
    assert table.equals(report.longbench_table(data)) and table.equals(report.longbench_table(table1(data)))
    assert list(table) == ["method", *paper_numbers.CATEGORIES, "AVG", "1/tau"]
    assert table.loc[1, "Code"] == "88.0 [84.0, 91.0]" and table.loc[0, "1/tau"] == "1.40"
    assert "| sdtp " in (tmp_path / "t.md").read_text()


def test_longbench_table_shows_a_category_that_was_not_run_as_a_dash(tmp_path):
    part = summary(50.0)
    part["categories"] = {name: cell for name, cell in part["categories"].items() if name != "Code"}
    assert report.longbench_table({"full": part}).loc[0, "Code"] == "-"
    results.write_json(tmp_path / "bad.json", {"metadata": {}})
    with pytest.raises(ValueError, match="bad.json is no LongBench result"):
        report.longbench_table(tmp_path / "bad.json")


def test_paper_ours_rounds_and_shows_what_is_missing():
    text = paper_ours([("a", 39.82, 41.0), ("b", 1, None), ("c", None, 2.5, 1), ("d", "heat map", 0.5)])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert cells[0][1:] == ["paper", "ours", "difference"]
    assert cells[2:] == [
        ["a", "39.82", "41.00", "+1.18"],
        ["c", "-", "2.5", "-"],
        ["d", "heat map", "0.50", "-"],
    ]
    assert text._repr_markdown_() == text


def test_paper_ours_says_in_a_sentence_that_there_is_nothing_to_compare():
    said = paper_ours([("a", -2.5, 0.001), ("b", 0.25, -0.001)])
    assert said == "No difference at all was measured here; the paper's are -2.50 to +0.25: a, b."
    assert paper_ours([("a", 1, None)]) == "Nothing of this was measured here."


def test_an_interval_without_width_says_nothing():
    assert interval_text((87.04, 99.4)) == "87.0 to 99.4" and interval_text((-1, 2), sign=True) == "-1.0 to +2.0"
    assert interval_text((41.46, 41.46)) is None and interval_text((0.01, 0.02)) is None


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(0, 4))
def test_paper_ours_difference_is_of_the_unrounded_numbers(theirs, ours, digits):
    difference = paper_ours([("x", theirs, ours, digits)]).splitlines()[2].split("|")[4].strip()
    assert float(difference) == pytest.approx(round(ours - theirs, digits), abs=1e-9)
    assert difference.startswith("-") == (round(ours - theirs, digits) < 0), "no minus zero"


def test_table1_averages_in_the_paper_agree_with_its_own_method():
    weights = pd.Series({"SingleDoc": 3, "MultiDoc": 3, "Summ": 3, "FewShot": 3, "Code": 2})
    for method, numbers in paper_numbers.TABLE1.items():
        mean = sum(numbers[name] * weight for name, weight in weights.items()) / weights.sum()
        assert mean == pytest.approx(numbers["AVG"], abs=0.02), method


def test_table2_speedups_and_savings_follow_from_its_own_columns():
    for length, numbers in paper_numbers.TABLE2.items():
        for part in ("prefill", "end2end"):
            quotient = numbers[f"{part} s full"] / numbers[f"{part} s SDTP"]
            assert quotient == pytest.approx(numbers[f"{part} x"], rel=0.03), (length, part)
        saved = 100 * (1 - numbers["peak GB SDTP"] / numbers["peak GB full"])
        assert saved == pytest.approx(numbers["memory saved %"], abs=0.06), length


def test_tables_3_to_5_have_the_means_that_they_print():
    for model in paper_numbers.TABLE3_MODELS:
        for side in (0, 1):
            tasks = [values[model][side] for name, values in paper_numbers.TABLE3.items() if name != "Avg"]
            assert sum(tasks) / 8 == pytest.approx(paper_numbers.TABLE3["Avg"][model][side], abs=0.02), model
    for name, numbers in paper_numbers.TABLE4.items():
        tasks = [value for task, value in numbers.items() if task != "Avg"]
        assert sum(tasks) / 4 == pytest.approx(numbers["Avg"], abs=0.02), name
    assert list(paper_numbers.TABLE5) == list(paper_numbers.ABLATIONS)
