"""The ledger: one row a claim, from its best evidence, with one status of a fixed list and nothing invented."""

import re

import pytest
from methods_file import methods_document, write_methods
from result_files import latency_document, longbench_data, write_data, write_sweep

from sdtp_lib import paths, results
from sdtp_lib.ledger.claims import CLAIMS, CONTROLS
from sdtp_lib.ledger.evidence import MODELS, Kind, model_of
from sdtp_lib.ledger.findings import Status
from sdtp_lib.ledger.free_claims import FREE
from sdtp_lib.ledger.ledger import TITLES, cells, ledger_rows, write_ledger
from sdtp_lib.ledger.question_claims import BEYOND
from sdtp_lib.ledger.result_files import RESULT_FILES

EVERY = (*CLAIMS, *CONTROLS, *FREE, *BEYOND)
PLACES = ["on the toy", *(f"measured on {model.shown}" for model in MODELS.values() if model.kind is not Kind.TOY)]
STATUS = re.compile(f"({'|'.join(Status)})(,? ({'|'.join(map(re.escape, PLACES))}))?")


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(tmp_path))
    return paths.results("demo")


def every_row(profile="demo", **options):
    return [row for rows in ledger_rows(profile, **options).values() for row in rows]


def find(claim, profile="demo", where=None, **options):
    """The one row of a claim."""
    (row,) = [row for row in every_row(profile, **options)
              if claim in row.claim.claim and where in (None, row.claim.where)]  # fmt: skip
    return row


def test_without_results_nothing_is_claimed_but_what_can_be_counted(demo):
    rows = every_row()
    assert {row.status for row in rows} == {Status.NOT_RUN, Status.CONSTRUCTION}
    for row in rows:
        assert (row.status == Status.CONSTRUCTION) == row.claim.by_construction == bool(row.evidence)
        if row.evidence:
            assert row.evidence[0].source == "counted on Mistral-7B's shape" and row.evidence[0].file.is_file()


def test_every_table_figure_and_claim_of_the_abstract_has_a_row_and_every_claim_one(demo):
    rows = every_row()
    places = " ".join(row.claim.where for row in rows)
    wanted = [f"Table {n}" for n in range(1, 7)] + [f"Figure {n}" for n in (1, 2, 4, 5)] + ["Abstract", "Control"]
    assert all(place in places for place in wanted)
    assert sorted(row.number for row in rows) == [*range(1, len(EVERY) + 1)]
    assert len({(claim.where, claim.claim) for claim in EVERY}) == len(EVERY)


def test_what_follows_from_the_schedule_says_so_and_cannot_hold_otherwise(demo):
    constructed = {claim.claim for claim in EVERY if claim.by_construction}
    assert {"compression 1/tau", "fewer keys and values over all layers"} < constructed and len(constructed) == 6
    write_sweep(demo)
    assert find("most tokens of a prompt").status == Status.CONSTRUCTION
    saved = find("FLOPs in the prefill").evidence[0].finding.text.split(" to ")
    low, high = (float(part.split("%")[0]) for part in saved)
    assert 33 < low < 37 and 46 < high < 49
    shares = find("modules cost little").evidence[0].finding.text.split(" to ")
    assert all(0 < float(part.split("%")[0]) < 1 for part in shares)


def test_commands_of_the_ledger_are_understood_by_the_command_line():
    from sdtp_lib import cli
    from sdtp_lib.runner.reproduce import plan

    parser = cli.build_parser()
    for command in {claim.command.strip("`") for claim in EVERY}:
        program, *options = command.split()
        parsed = parser.parse_args(options)
        assert program == "sdtp" and options[0] == "reproduce" and plan(parsed.profile, parsed.only)


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


def test_the_real_model_goes_before_the_shape_and_the_toy_comes_last(demo):
    """One status; what the others found stands beside it, without any."""
    scores = longbench_data(full=90.0, sdtp=89.0, random=60.0)
    write_data(demo, "table1_longbench", scores)
    toy = find("stays close to the full model")
    assert toy.status == "not decided on the toy" and toy.lacks_a_real_model
    assert cells(toy)["Beside it"] == "on a real model: not run"
    write_methods(needle={"full": 90.0, ("sdtp", "paper"): 80.0, "random": 16.0})
    real = find("stays close to the full model")
    assert real.status == "does not hold, measured on SmolLM2-135M" and not real.lacks_a_real_model
    assert cells(real)["Beside it"] == "demo, a toy, bfloat16, a processor: full 90.0, sdtp 89.0: -1.0 [-5.9, +3.9]"
    assert cells(real)["Model and machine"] == "SmolLM2-135M-Instruct, dequantised from 4 bits, float32, a GPU"
    (first, *_), *_ = ledger_rows("demo").values()
    assert first is not real and first.status == real.status and first.kind is Kind.REAL
    text = write_ledger().read_text()
    assert text.count("does not hold, measured on SmolLM2-135M |") == sum(
        row.status == real.status for row in every_row()
    )


def test_without_a_trained_pruner_in_its_table_the_real_model_was_not_run(demo):
    write_methods(needle={"full": 90.0, "attention": 60.0, "random": 16.0})
    assert find("stays close to the full model").status == Status.NOT_RUN
    assert find("last-window attention does better").status == "holds, measured on SmolLM2-135M"


def test_a_table_measured_on_two_machines_names_both(demo):
    document = methods_document(needle={"full": 90.0, "attention": 60.0, "random": 16.0})
    document["metadata"] = {**document["metadata"], "device": ["a GPU", "a CPU"]}
    results.write_json(paths.results("smollm2") / "methods.json", document)
    assert find("last-window attention does better").evidence[0].machine == "float32, a GPU and a CPU"


def test_notebooks_of_a_real_models_profile_are_real_rows(demo):
    share = {"metadata": {"model": "smollm2-135m"}, "data": {"layers": [0, 1, 2, 3], "share": [0.7, 0.5, 0.2, 0.1]}}
    results.write_json(paths.results("smollm2") / "fig2_salient_share.json", share)
    assert find("share of salient tokens falls").status == "holds, measured on SmolLM2-135M"
    assert model_of("Qwen/Qwen2.5-Coder-0.5B-Instruct").shown == "Qwen2.5-Coder-0.5B-Instruct"


def test_a_second_machine_stands_beside_and_a_repeated_one_does_not(demo):
    for profile in ("latency_7b", "h200_decode"):
        on_gpu = latency_document("keep09", memory=(40.0, 30.0), model="mistral-7b", device="a GPU")
        results.write_json(paths.results(profile) / "latency_results_keep09.json", on_gpu)
    for profile in ("demo", "demo_full", "latency_cpu"):
        write_sweep(paths.results(profile))
    row = find("end to end is faster")
    assert row.status == "holds, measured on Mistral-7B's shape"
    assert [each.source.split(",")[0] for each in row.evidence] == [
        "Mistral-7B's shape", "scaled-mistral (32 layers of 512)"
    ]  # fmt: skip
    assert row.evidence[0].file.parent.name == "latency_7b"
    assert find("less peak memory").evidence[0].finding.text.startswith("25.0% at 512")


def test_the_defect_of_the_decode_on_a_gpu_is_told_with_its_number(demo):
    slow = latency_document("keep09", lengths=(4096,), model="mistral-7b", device="a GPU")
    slow["results"]["4096"]["speedup"]["total"] = 0.2
    slow["results"]["4096"]["sdtp"]["spread"]["total"] = [3.5, 50.0]
    results.write_json(paths.results("h200_decode") / "latency_results_keep09.json", slow)
    row = find("end to end is faster")
    assert row.status == "does not hold, measured on Mistral-7B's shape"
    assert row.evidence[0].finding.text == (
        "0.20x at 4,096 tokens; runs differ by up to 14x, the fastest of each side give 1.80x"
    )
    assert "not tested" in cells(row)["Beside it"] and re.search(r"not\s+tested:\s+\[gpu", write_ledger().read_text())


def test_a_run_goes_before_what_is_stored_and_what_is_stored_is_marked(tmp_path, monkeypatch):
    """Each file for itself, as a run may be of some notebooks alone; the stored ledger knows of no run."""
    monkeypatch.delenv("SDTP_RESULTS")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    layers = {"layers": [0, 1, 2, 3]}
    for home, top in ((paths.stored("results", "demo"), 0.6), (paths.results("demo"), 0.8)):
        write_data(home, "fig2_salient_share", layers | {"share": [top, 0.3, 0.3, 0.2]})
    write_data(paths.stored("results", "demo_full"), "fig2_salient_share", layers | {"share": [0.7, 0.3, 0.3, 0.2]})
    write_data(paths.stored("results", "demo"), "pruner_training", {"rank_correlation": {"4": 0.7}})
    own, other = find("share of salient"), find("share of salient", "demo_full")
    assert own.evidence[0].finding.text.startswith("80.0%") and not own.evidence[0].mark
    assert other.evidence[0].finding.text.startswith("70.0%") and other.evidence[0].source.endswith("(stored)")
    assert find("ranks held-out tokens").evidence[0].source.endswith("(stored)")
    path = write_ledger("demo", stored=True)
    assert path == tmp_path / "results" / "REPRODUCTION.md" and "(stored)" not in path.read_text()
    assert "70.0%" in path.read_text() and "80.0%" not in path.read_text()
    assert write_ledger("demo") == paths.ledger("demo") == tmp_path / "runs" / "demo" / "REPRODUCTION.md"
    assert "Numbers marked *(stored)*" in paths.ledger("demo").read_text()


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


def test_the_stored_ledger_is_what_the_stored_files_say(monkeypatch):
    """Short lines, one row and one status a claim, links that lead somewhere."""
    monkeypatch.setenv("SDTP_RESULTS", "/nowhere")
    written = {}
    monkeypatch.setattr(results, "write_text", lambda path, text: written.update({path: text}))
    path = write_ledger(stored=True)
    assert path.read_text() == written[path], "made anew by ledger.write_ledger(stored=True)"
    assert max(map(len, written[path].splitlines())) <= 160
    rows = re.findall(r"^\| \[(\d+)\]\(#claim-\1\) \|.*\| ([^|]+) \|$", written[path], re.M)
    assert len(rows) == len(EVERY) == len({number for number, _ in rows})
    assert all(STATUS.fullmatch(status) for _, status in rows)
    assert re.findall(r"^- Status: \*\*(.*)\*\*$", written[path], re.M) == [
        status for _, status in sorted(rows, key=lambda row: int(row[0]))
    ]
    targets = re.findall(r"\]\(([^#)]+)\)", written[path])
    assert len(targets) > 40 and all((path.parent / target).is_file() for target in targets)
    assert [title for title in TITLES if f"## {title}\n" not in written[path]] == []
