"""Samples on disk: a killed run goes on where it stopped, no sample twice and none lost; another run is refused."""

import json
import shutil

import pytest
import torch
from small_records import LAYERS, small_model, small_records, small_tokenizer

from sdtp_lib import PruningSchedule, cli, paths
from sdtp_lib.evaluation import answers, sample_files
from sdtp_lib.evaluation.compare import compare
from sdtp_lib.evaluation.longbench import evaluate, measure
from sdtp_lib.evaluation.sample_files import SampleFile, run_settings, sample_folder
from sdtp_lib.models import code_version
from sdtp_lib.models.identity import scorer_digest
from sdtp_lib.scorers.attention_pruner import READ, AttentionPruner
from sdtp_lib.scorers.sentences import SentenceScorer
from sdtp_lib.scorers.token_pruner import TokenPruner

SCHEDULE = PruningSchedule(layers=(2, 4), keep_ratio=0.7, min_local_tokens=8)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def records():
    return small_records()


@pytest.fixture
def run(model, records, tmp_path):
    """`measure` of a random choice in batches of 3, to `tmp_path`; keywords change it."""

    def call(**changes):
        options = {"method": "random", "schedule": SCHEDULE, "folder": tmp_path, "batch_size": 3, "records": records}
        options |= changes
        return measure(model, small_tokenizer(), options.pop("records"), **options)

    return call


@pytest.fixture
def asked(monkeypatch):
    """Sizes of the batches that the model was asked; `asked.limit` batches, then the run is killed."""

    class Asked(list):
        limit = 99

    sizes, answer = Asked(), answers._answer

    def counted(model, tokenizer, prompts, *args):
        if len(sizes) == sizes.limit:
            raise KeyboardInterrupt
        sizes.append(len(prompts))
        return answer(model, tokenizer, prompts, *args)

    monkeypatch.setattr(answers, "_answer", counted)
    return sizes


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_sample_is_a_line(run, records, tmp_path):
    summary, samples = run()
    header, *rows = lines(tmp_path / "random.jsonl")
    assert header["settings"].keys() >= {
        "model", "fingerprint", "dtype", "method", "schedule", "seed", "positions", "commit",
    }  # fmt: skip
    assert sorted(row["_id"] for row in rows) == sorted(record["_id"] for record in records)
    by_id = {row["_id"]: row for row in rows}
    for sample in samples:
        row = by_id[sample["_id"]]
        assert {**sample, "device": header["settings"]["device"], "digest": row["digest"]} == row
        assert sample["tokens_per_layer"] == SCHEDULE.lengths(sample["prompt_tokens"], LAYERS)
    assert (summary, samples) == run(folder=None)


@pytest.mark.parametrize("torn", [0, 7, 1])
@pytest.mark.parametrize("done", [0, 1, 3])
def test_a_killed_run_goes_on(run, records, tmp_path, asked, done, torn):
    path, whole = tmp_path / "random.jsonl", run(folder=None)
    asked.clear()
    asked.limit = done
    with pytest.raises(KeyboardInterrupt):
        run()
    before = len(lines(path))
    assert before == 1 + sum(asked)
    if torn:  # the last line, the header if there is no other, lost its last characters
        path.write_bytes(path.read_bytes()[:-torn])
        before -= 1
    asked.clear()
    asked.limit = 99
    assert run() == whole
    assert sum(asked) == len(records) - max(0, before - 1)
    assert sorted(row["_id"] for row in lines(path)[1:]) == sorted(record["_id"] for record in records)
    asked.clear()
    assert run() == whole and not asked  # nothing is left to ask


def test_more_records_are_added_and_a_fresh_start_asks_again(run, records, asked):
    run(records=records[:4])
    assert sum(asked) == 4
    _, samples = run(batch_size=2)
    assert sum(asked) == len(records) and [s["_id"] for s in samples] == [r["_id"] for r in records]
    run(resume=False)
    assert sum(asked) == 2 * len(records)


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"positions": "compact"}, "positions was 'original' and is now 'compact'"),
        ({"method": "norm", "title": "random"}, "method was 'random' and is now 'norm'"),
        ({"schedule": PruningSchedule(layers=(2,), keep_ratio=0.7)}, "schedule was"),
    ],
)
def test_other_settings_are_refused_by_name(run, records, asked, tmp_path, changes, name):
    run(records=records[:1])
    before = (tmp_path / "random.jsonl").read_bytes()
    with pytest.raises(ValueError, match=f"cannot resume: {name}.*delete .*random.jsonl to start over"):
        run(**changes)
    assert asked == [1] and (tmp_path / "random.jsonl").read_bytes() == before


def test_sentences_are_told_apart_by_their_ends_and_by_what_scores_them(model):
    pruners = [TokenPruner(32, SCHEDULE.layers).requires_grad_(False) for _ in range(2)]
    scorers = [SentenceScorer(pruner, ends) for pruner in pruners for ends in ((3,), (3, 4))]
    found = [run_settings(model, "own", SCHEDULE, scorer)["pruner"] for scorer in scorers]
    assert len({*map(str, found)}) == 4


def test_pruners_without_weights_are_told_apart_by_their_options(model):
    made = [AttentionPruner(32, SCHEDULE.layers, heads=heads, window=window) for heads in READ for window in (16, 32)]
    assert len({run_settings(model, "sdtp", SCHEDULE, pruner)["pruner"] for pruner in made}) == 4
    again = AttentionPruner(32, SCHEDULE.layers, {"model": "another record"}, window=16, heads="mean")
    assert run_settings(model, "sdtp", SCHEDULE, again)["pruner"] == scorer_digest(made[0])


def test_another_model_or_pruner_is_refused(model, records, tmp_path):
    torch.manual_seed(3)
    first, second = (TokenPruner(32, SCHEDULE.layers).requires_grad_(False) for _ in range(2))
    options = {"method": "sdtp", "schedule": SCHEDULE, "folder": tmp_path}
    measure(model, small_tokenizer(), records[:1], pruner=first, **options)
    with pytest.raises(ValueError, match="cannot resume: pruner was"):
        measure(model, small_tokenizer(), records[:1], pruner=second, **options)
    other = small_model()
    other.lm_head.weight.data[0, 0] += 1
    with pytest.raises(ValueError, match="cannot resume: fingerprint was"):
        measure(other, small_tokenizer(), records[:1], pruner=first, **options)


def test_a_record_that_changed_is_refused(run, records, asked):
    run(records=records[:2])
    for changes in ({"context": "Nothing but this."}, {"answers": ["no"]}):
        with pytest.raises(ValueError, match="singledoc_qa record .* with another prompt or other answers"):
            run(records=[{**records[0], **changes}, records[1]])
    assert sum(asked) == 2


@pytest.mark.parametrize("damage", ["{", "[1]", '{"dataset": "a"}', "null"])
def test_a_damaged_line_is_named(tmp_path, damage):
    path = tmp_path / "x.jsonl"
    SampleFile(path, {"seed": 0})
    path.write_text(path.read_text() + damage + "\n")
    with pytest.raises(ValueError, match="x.jsonl line 2 is damaged"):
        SampleFile(path, {"seed": 0})
    path.write_text(damage + "\n")
    with pytest.raises(ValueError, match="x.jsonl line 1 is damaged"):
        SampleFile(path, {"seed": 0})


@pytest.mark.parametrize("name", ["commit", "device"])
def test_commit_and_device_are_recorded_and_not_compared(tmp_path, name):
    SampleFile(tmp_path / "x.jsonl", {"seed": 0, name: "a"})
    SampleFile(tmp_path / "x.jsonl", {"seed": 0, name: "b"})
    assert lines(tmp_path / "x.jsonl") == [{"settings": {"seed": 0, name: "a"}}]


def test_a_run_goes_on_on_another_device_and_each_sample_says_which(run, records, tmp_path, asked, monkeypatch):
    whole = run(folder=None)
    run(records=records[:4])
    here = sample_files.environment_record
    monkeypatch.setattr(sample_files, "environment_record", lambda model: {**here(model), "device": "another"})
    asked.clear()
    assert run() == whole and sum(asked) == len(records) - 4
    header, *rows = lines(tmp_path / "random.jsonl")
    assert header["settings"]["device"] != "another"
    assert [row["device"] == "another" for row in rows] == [False] * 4 + [True] * (len(records) - 4)


def test_a_run_goes_on_only_with_the_code_that_scores(run, records, tmp_path, monkeypatch):
    run(records=records[:1])
    before = (tmp_path / "random.jsonl").stat().st_mtime_ns
    run(records=records[:1])
    assert (tmp_path / "random.jsonl").stat().st_mtime_ns > before  # a store takes what is newer than its beginning
    monkeypatch.setattr(sample_files, "code_digest", lambda parts: "other")
    with pytest.raises(ValueError, match="cannot resume: code was .* and is now 'other'; delete .* to start over"):
        run(records=records[:1])


def test_the_code_that_scores_is_all_there_and_what_writes_tables_is_not_in_it(tmp_path, monkeypatch):
    before = code_version.code_digest(sample_files.SCORING)
    shutil.copytree(paths.PACKAGE, tmp_path / "sdtp_lib", ignore=lambda *_: ["__pycache__"])
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "sdtp_lib")
    for file, same in (("tables/report.py", True), ("evaluation/metrics.py", False)):
        (tmp_path / "sdtp_lib" / file).write_text("changed")
        assert (code_version.code_digest(sample_files.SCORING) == before) is same
    (tmp_path / "sdtp_lib" / "evaluation" / "oracle.py").unlink()
    with pytest.raises(FileNotFoundError, match="oracle.py"):
        code_version.code_digest(sample_files.SCORING)


def test_compare_writes_a_file_for_each_method(model, records, tmp_path):
    schedules = {"random": SCHEDULE, "norm-low": PruningSchedule(layers=(4,), min_local_tokens=8)}
    methods = ["full", *schedules]
    found = compare(model, small_tokenizer(), records[:2], None, methods, schedules, folder=tmp_path / "samples")
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {f"{name}.jsonl" for name in methods}
    assert found["random"]["against_full"]["average"]["n"] == 2


@pytest.fixture
def evaluated(model, records, tmp_path):
    """`evaluate` of a random choice in batches of 3, to `tmp_path/out.json`; keywords change it."""
    model.save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "data").mkdir()
    for name in {record["dataset"] for record in records}:
        rows = [json.dumps(record) + "\n" for record in records if record["dataset"] == name]
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(rows))

    def call(**changes):
        options = {"tasks": "longbench_mini", "method": "random", "schedule": SCHEDULE, "model": tmp_path / "model"}
        options |= {"data": tmp_path / "data", "dtype": "float32", "device": "cpu", "batch_size": 3}
        return evaluate(**options | {"output": tmp_path / "out.json"} | changes)

    return call


def test_a_killed_evaluation_goes_on_if_told_to(evaluated, records, tmp_path, asked):
    whole, path = evaluated(output=None), tmp_path / "out.samples.jsonl"
    for resume in (True, False):
        asked.clear()
        asked.limit = 1
        with pytest.raises(KeyboardInterrupt):
            evaluated()
        done = sum(asked)
        assert len(lines(path)) == 1 + done > 1 and not (tmp_path / "out.json").exists()
        asked.clear()
        asked.limit = 99
        assert evaluated(resume=resume) == whole == json.loads((tmp_path / "out.json").read_text())
        assert sum(asked) == len(records) - (done if resume else 0)
        assert sorted(row["_id"] for row in lines(path)[1:]) == sorted(record["_id"] for record in records)
        asked.clear()
        assert evaluated(resume=True) == whole and not asked
        (tmp_path / "out.json").unlink()


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"method": "norm"}, "method was 'random' and is now 'norm'"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"schedule": PruningSchedule(layers=(2,), keep_ratio=0.7)}, "schedule was"),
        ({"dtype": "bfloat16"}, "dtype was 'float32' and is now 'bfloat16'|fingerprint was"),
    ],
)
def test_an_evaluation_with_other_settings_is_refused(evaluated, asked, tmp_path, changes, name):
    evaluated(limit=1)
    before = {file: (tmp_path / file).read_bytes() for file in ("out.json", "out.samples.jsonl")}
    asked.clear()
    with pytest.raises(
        ValueError, match=f"cannot resume: ({name}).*delete .*out.samples.jsonl to start over"
    ) as caught:
        evaluated(**changes, resume=True)
    assert "\n" not in str(caught.value) and not asked
    assert before == {file: (tmp_path / file).read_bytes() for file in before}
    evaluated(limit=1, **changes)  # a fresh start takes the place of the old samples
    assert lines(tmp_path / "out.samples.jsonl")[0]["settings"]["seed"] == changes.get("seed", 0) and asked


def test_resuming_without_an_output_is_refused(capsys):
    assert cli.main(["evaluate", "--tasks", "longbench_mini", "--method", "full", "--resume"]) == 2
    assert capsys.readouterr().err == (
        "sdtp: error: resume needs an output, beside which the samples of the interrupted run are\n"
    )


def test_a_folder_of_samples_is_emptied_unless_a_run_goes_on(tmp_path):
    """The repository keeps samples of another device beside a notebook's; they must not stop a first run."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "full.jsonl").write_text("stored\n")
    assert (sample_folder(tmp_path, resume=True) / "deep" / "full.jsonl").exists()
    assert not sample_folder(tmp_path, resume=False).exists() and not sample_folder(tmp_path / "none", False).exists()
