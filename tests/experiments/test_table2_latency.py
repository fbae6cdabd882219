"""Table 2's notebooks: what is drawn, what is said of the cache, and a stored sweep instead of a new one."""

from result_files import latency_document

from sdtp_lib import paths, results
from sdtp_lib.experiments import table2_latency as table2


def test_a_sweep_is_drawn_under_the_names_of_its_part(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_FIGURES", str(tmp_path))
    said = table2.draw({"keep09": latency_document("keep09")}, "total", "demo")
    names = {f"table2_end2end_{what}" for what in ("latency", "speedup", "limit_share")}
    assert {file.stem for file in (tmp_path / "demo").iterdir()} == names and all(name in said for name in names)


def test_the_cache_saved_is_one_share_where_lengths_agree():
    document = latency_document("keep09")
    assert "keep09 32%" in table2.said_of_cache({"keep09": document})
    document["results"]["512"]["kv_reduction"] = 0.5
    assert table2.said_of_cache({"keep09": document}).endswith("keep09 32% to 50%.")


def test_the_other_format_is_that_of_the_profile_named(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    stored = latency_document("keep09", mode="prefill", dtype="float32")
    results.write_json(tmp_path / "results" / "kept" / "prefill_float32" / "latency_results_keep09.json", stored)
    assert table2.other_format("kept", ["keep09"], [512], "demo", "no such model", "float32") == {"keep09": stored}
