"""The ledger: every claim has a row, nothing is invented, and a demo number never counts as the paper's."""

import re

import pytest
from result_files import latency_document, longbench_data, write_data, write_sweep

from sdtp_lib import paths, results
from sdtp_lib.ledger.claims import CLAIMS, CONTROLS
from sdtp_lib.ledger.ledger import CONTROL_ON_DEMO, MEASURED, NOT_RUN, ON_DEMO, RESULT_FILES, write_ledger
from sdtp_lib.ledger.question_claims import BEYOND
from sdtp_lib.paper import ABLATIONS


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    return paths.results("demo")


def ledger_rows(profile="demo"):
    """Rows of both tables as dicts."""
    text = write_ledger(profile).read_text()
    rows = []
    for block in text.split("\n\n"):
        if block.startswith("| Where"):
            header, _, *body = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
            rows += [dict(zip(header, cells, strict=True)) for cells in body]
    return rows


def find(rows, claim, where=None):
    found = [row for row in rows if claim in row["Claim"] and (where is None or row["Where"] == where)]
    assert found, claim
    return found


def test_without_results_nothing_is_claimed_but_what_can_be_counted(demo):
    rows = ledger_rows()
    assert {row["Status"] for row in rows} == {NOT_RUN, MEASURED}
    for row in rows:
        if row["Status"] == MEASURED:
            assert row["Model and machine"] == "Mistral-7B's shape, counted" and row["Command if not run"] == "-"
        else:
            assert row["Ours"] == "-" and row["Command if not run"].startswith("`sdtp ")


def test_every_table_figure_and_claim_of_the_abstract_has_a_row(demo):
    places = " ".join(row["Where"] for row in ledger_rows())
    wanted = [f"Table {n}" for n in range(1, 7)] + [f"Figure {n}" for n in (1, 2, 4, 5)] + ["Abstract", "Control"]
    assert all(place in places for place in wanted)
    assert len(ledger_rows()) == len(CLAIMS) + len(CONTROLS) + len(BEYOND)


def test_counted_flops_are_in_the_range_of_the_abstract(demo):
    (row,) = find(ledger_rows(), "fewer FLOPs")
    low, high = (float(part.split("%")[0]) for part in row["Ours"].split(" to "))
    assert 33 < low < 37 and 46 < high < 49
    (row,) = find(ledger_rows(), "modules cost little")
    assert all(0 < float(part.split("%")[0]) < 1 for part in row["Ours"].split(" to "))


def test_commands_of_the_ledger_are_understood_by_the_command_line():
    from sdtp_lib import cli

    parser = cli.build_parser()
    for command in {claim.command.strip("`") for claim in (*CLAIMS, *BEYOND) if claim.command.startswith("`")}:
        program, name, *options = command.split()
        assert program == "sdtp" and name in ("profile", "reproduce")
        parser.parse_args([name, *options])


def test_the_commands_of_the_tables_are_understood_and_their_files_known():
    from sdtp_lib.runner.reproduce import plan

    text = (paths.ROOT / "docs" / "tables.md").read_text()
    commands = set(re.findall(r"`sdtp reproduce ([^`]*)`", text))
    assert len(commands) >= 14
    for command in commands:
        options = dict(zip(command.split()[::2], command.split()[1::2], strict=True))
        assert plan(options.get("--profile", "demo"), options["--only"])
    known = " ".join(RESULT_FILES)
    for stem in re.findall(r"`(\w+)\.json`", text):
        assert stem in known, stem


def test_demo_numbers_are_reproduced_in_kind_or_not_and_never_measured(demo):
    write_sweep(demo)
    write_data(demo, "table1_longbench", longbench_data(full=90.0, sdtp=80.0, sdtp_low=89.0, random=75.0, recency=40.0))
    write_data(demo, "fig2_salient_share", {"layers": [0, 1, 2], "share": [0.6, 0.4, 0.2]})
    rows = ledger_rows()
    assert all(row["Model and machine"] == "Mistral-7B's shape, counted" for row in rows if row["Status"] == MEASURED)
    (close,) = find(rows, "stays close to the full model")
    assert close["Status"] == ON_DEMO[False] and close["Ours"] == "full 90.0, sdtp 80.0"
    assert close["Model and machine"] == "demo, bfloat16, a processor"
    assert find(rows, "share of salient tokens falls")[0]["Status"] == ON_DEMO[True]
    assert find(rows, "prefill is faster")[0]["Ours"] == "1.31x at 512 tokens to 1.38x at 1024"
    assert find(rows, "most tokens")[0]["Status"] == ON_DEMO[True]
    assert find(rows, "random tokens")[0]["Status"] == CONTROL_ON_DEMO[False], "only 5 points below"
    assert find(rows, "most recent tokens")[0]["Status"] == CONTROL_ON_DEMO[True]


def test_prefill_is_read_from_its_own_sweep_first(demo):
    write_sweep(demo)
    write_sweep(demo / "prefill", mode="prefill", new_tokens=1, lengths=(256, 512))
    assert find(ledger_rows(), "prefill is faster")[0]["Ours"].startswith("1.28x at 256 tokens")


def test_memory_that_a_processor_did_not_measure_is_not_run(demo):
    write_sweep(demo)
    assert all(row["Status"] == NOT_RUN for row in find(ledger_rows(), "peak memory"))


def test_another_profile_is_measured_and_keeps_its_row_beside_the_demo(demo):
    write_sweep(demo)
    on_gpu = latency_document("keep09", memory=(40.0, 30.0), model="mistral-7b", device="a GPU")
    results.write_json(paths.results("latency_7b") / "latency_results_keep09.json", on_gpu)
    rows = find(ledger_rows(), "end to end is faster", "Table 2")
    assert [(row["Model and machine"], row["Status"]) for row in rows] == [
        ("scaled-mistral, bfloat16, a processor", ON_DEMO[True]),
        ("mistral-7b, bfloat16, a GPU", MEASURED),
    ]
    (memory,) = find(ledger_rows(), "less peak memory")
    assert memory["Status"] == MEASURED and memory["Ours"].startswith("25.00% at 512")


def test_a_run_goes_before_what_is_stored_and_what_is_stored_is_marked(tmp_path, monkeypatch):
    """Each file for itself, as a run may be of some notebooks alone; the stored ledger knows of no run."""
    monkeypatch.delenv("SDTP_RESULTS")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    for home, top in ((paths.stored("results", "demo"), 0.6), (paths.results("demo"), 0.8)):
        write_data(home, "fig2_salient_share", {"layers": [0, 1], "share": [top, 0.2]})
    write_data(paths.stored("results", "demo_full"), "fig2_salient_share", {"layers": [0, 1], "share": [0.7, 0.2]})
    write_data(paths.stored("results", "demo"), "pruner_training", {"rank_correlation": {"4": 0.7}})
    rows = ledger_rows()
    own, other = find(rows, "share of salient tokens falls")
    assert "0.80" in own["Ours"] and own["Model and machine"] == "demo, bfloat16, a processor"
    assert "0.70" in other["Ours"] and other["Model and machine"] == "demo, bfloat16, a processor (stored)"
    assert find(rows, "ranks held-out tokens")[0]["Model and machine"].endswith("(stored)")
    path = write_ledger("demo", stored=True)
    assert path == tmp_path / "results" / "REPRODUCTION.md" and "(stored)" not in path.read_text()
    assert "0.60" in path.read_text() and "0.80" not in path.read_text()
    assert paths.ledger("demo") == tmp_path / "runs" / "demo" / "REPRODUCTION.md" and paths.ledger("demo").is_file()


def test_a_heat_map_is_read_as_the_paper_does(demo):
    saliency = [[1.0, 0.5, 0.05, 0.2], [1.0, 0.05, 0.02, 0.01]]
    write_data(demo, "fig1_saliency_map", {"tokens": list("abcd"), "layers": [0, 13], "saliency": saliency})
    rows = ledger_rows()
    fewer, stays = find(rows, "few tokens are salient")[0], find(rows, "stays redundant")[0]
    assert fewer["Ours"] == "75% of the tokens salient at layer 0, 25% at 13" and fewer["Status"] == ON_DEMO[True]
    assert stays["Ours"].startswith("100.0%") and stays["Status"] == ON_DEMO[True]


@pytest.mark.parametrize("worst, status", [(88.0, ON_DEMO[True]), (91.0, ON_DEMO[False])])
def test_an_ablation_that_is_better_without_the_losses_is_not_reproduced(demo, worst, status):
    averages = dict(zip(ABLATIONS, (90.0, 89.0, worst), strict=True))
    write_data(demo, "table5_loss_ablation", {name: {"average": value} for name, value in averages.items()})
    assert find(ledger_rows(), "losses help on LongBench")[0]["Status"] == status


def test_reading_and_ranking_controls(demo):
    reading = {"layers": [1, 4, 8], "accuracy": [2.0, 5.0, 90.0], "baseline": 95.0, "local_layers": 4}
    write_data(demo, "layer_of_reading", reading)
    write_data(demo, "pruner_training", {"rank_correlation": {"4": 0.7, "5": -0.1}})
    rows = ledger_rows()
    assert find(rows, "read above the first cut")[0]["Ours"].startswith("5% with the context hidden from layer 4")
    assert find(rows, "ranks held-out tokens")[0]["Status"] == CONTROL_ON_DEMO[False]


def test_bad_profile_and_bad_files_are_refused_by_name_and_the_old_ledger_stays(demo):
    path = write_ledger("demo")
    before = path.read_text()
    with pytest.raises(ValueError, match="unknown profile 'other'"):
        write_ledger("other")
    write_data(demo, "fig2_salient_share", {"layers": [0, 1]})
    with pytest.raises(ValueError, match="fig2_salient_share.json is not laid out as expected.*share"):
        write_ledger("demo")
    (demo / "fig2_salient_share.json").write_text('{"metadata"')
    with pytest.raises(ValueError, match="fig2_salient_share.json is damaged"):
        write_ledger("demo")
    assert path.read_text() == before and path == paths.results("demo").parent / "REPRODUCTION.md"


def test_the_ledger_says_what_does_not_add_up_and_is_the_same_twice(demo):
    text = write_ledger("demo").read_text()
    assert text == write_ledger("demo").read_text()
    assert "never the paper's" in text
    for word in ("393,209", "1.53", "keep logit", "DynamicViT", "38/104", "RULER", "seven stages"):
        assert word in text, word


@pytest.mark.parametrize("slowest, status", [(1.1, ON_DEMO[True]), (0.9, ON_DEMO[False])])
def test_speed_on_longbenchs_prompts_is_read_from_its_own_file(demo, slowest, status):
    def row(prefill, total, slowest=1.0):
        speedups = {"prefill x": (prefill, [1.05, 2.0]), "total x": (total, [slowest, 2.0])}
        return {part: {"mean": mean, "range": ends} for part, (mean, ends) in speedups.items()}

    prompts, methods = (
        [{"prompt_tokens": 900}, {"prompt_tokens": 400}],
        {"full": row(1, 1), "sdtp": row(1.5, 1.3, slowest)},
    )
    write_data(demo, "table1_speed", {"prompts": prompts, "methods": methods})
    assert find(ledger_rows(), "prefill faster on LongBench")[0]["Status"] == NOT_RUN
    write_data(demo, "table1_speed", {"prompts": prompts, "methods": methods | {"sdtp-low": row(1.4, 1.2, 1.01)}})
    (prefill,), (total,) = (find(ledger_rows(), f"{part} faster on LongBench") for part in ("prefill", "end to end"))
    assert (
        prefill["Ours"] == "sdtp 1.50x (1.05 to 2.00), sdtp-low 1.40x (1.05 to 2.00) on 2 prompts of 400 to 900 tokens"
    )
    assert prefill["Status"] == ON_DEMO[True] and total["Status"] == status


def test_figures_4_and_5_are_answered_by_their_files(demo):
    def point(score, **labels):
        return {"method": "sdtp", "score": score, **labels}

    cuts = [point(score, ratio=0.7, layer=layer) for layer, score in {1: 40.0, 4: 90.0, 7: 92.0}.items()]
    write_data(demo, "fig4_single_cut", {"full": 95.0, "points": cuts})
    stages = [point(score, stages=n) for n, score in {1: 94.0, 7: 93.0, 10: 60.0}.items()]
    write_data(demo, "fig5_stages", {"full": 95.0, "points": stages})
    (fourth,), (fifth,) = (find(ledger_rows(), "", where) for where in ("Figure 4", "Figure 5"))
    assert fourth["Ours"] == "40.0 at layer 1, 91.0 from 4 on (r = 0.7); full 95.0"
    assert fifth["Ours"] == "93.0 to 94.0 over 1 to 7 stages, full 95.0"
    assert fourth["Status"] == fifth["Status"] == ON_DEMO[True]
