"""Several processes share an evaluation: the result of one, nothing asked twice or lost when a process is killed."""

import json

import pytest
from evaluation.test_sample_files import SCHEDULE, lines
from launch import launch
from small_records import small_model, small_records, small_tokenizer, write_records

from sdtp_lib.evaluation import answers
from sdtp_lib.evaluation.longbench import evaluate, measure
from sdtp_lib.evaluation.sample_files import SampleFile
from sdtp_lib.models.workers import Workers

# Runs the command as it is; where told to, kills process 1 when it is about to be asked its second batch.
SCRIPT = """
import os, pathlib, signal, sys
from sdtp_lib import cli
from sdtp_lib.evaluation import answers

answer, asked, rank = answers._answer, [], os.environ["RANK"]

def counted(model, tokenizer, prompts, *rest):
    if asked and rank == "1" and sys.argv[1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    asked.append(len(prompts))
    pathlib.Path(sys.argv[2], f"asked{rank}").write_text(str(sum(asked)))
    return answer(model, tokenizer, prompts, *rest)

answers._answer = counted
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def model():
    return small_model()


class One(Workers):
    """One of several processes that never hears of the others."""

    def __init__(self, index, count):
        super().__init__()
        self.index, self.count = index, count


def names(rows):
    return sorted((row["dataset"], row["_id"]) for row in rows)


def test_every_item_is_in_one_share():
    for count in (1, 2, 3, 7):
        shares = [One(index, count).share(list(range(5))) for index in range(count)]
        assert sorted(sum(shares, [])) == list(range(5)) and max(map(len, shares)) <= 5 // count + 1


def test_parts_of_a_killed_run_are_taken_up_by_one_process(model, tmp_path, monkeypatch):
    records = small_records()
    options = dict(method="random", schedule=SCHEDULE, batch_size=2)
    whole = measure(model, small_tokenizer(), records, **options)
    measure(model, small_tokenizer(), records, folder=tmp_path, **options)
    path = tmp_path / "random.jsonl"
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text(header + rows[0])
    (tmp_path / "random.part0.jsonl").write_text(header + "".join(rows[:3]))  # killed after a merge: a row is known
    (tmp_path / "random.part7.jsonl").write_text(header + "".join(rows[4:6]) + rows[6][:-9])  # torn
    (tmp_path / "random.part8.jsonl").write_text(header[:5])
    asked, answer = [], answers._answer
    monkeypatch.setattr(
        answers, "_answer", lambda m, t, prompts, *rest: asked.extend(prompts) or answer(m, t, prompts, *rest)
    )
    assert measure(model, small_tokenizer(), records, folder=tmp_path, **options) == whole
    assert len(asked) == len(records) - 5
    assert names(lines(path)[1:]) == names(records)
    assert [file.name for file in tmp_path.iterdir()] == ["random.jsonl"]


def test_a_part_of_other_settings_is_refused_and_a_fresh_start_deletes_it(model, tmp_path):
    SampleFile(tmp_path / "random.part1.jsonl", {"seed": 5})
    options = dict(method="random", schedule=SCHEDULE, folder=tmp_path)
    with pytest.raises(ValueError, match="cannot resume: .* delete .*random.part1.jsonl to start over"):
        measure(model, small_tokenizer(), small_records()[:1], **options)
    measure(model, small_tokenizer(), small_records()[:1], **options, resume=False)
    assert [file.name for file in tmp_path.iterdir()] == ["random.jsonl"]


def test_several_processes_and_a_device_map_are_refused(monkeypatch):
    monkeypatch.setattr(Workers, "of_launch", lambda device, together: One(0, 2))
    with pytest.raises(ValueError, match="several processes cannot each lay the model over all devices"):
        evaluate(method="full", device_map="auto")


@pytest.mark.slow
def test_two_processes_give_the_result_of_one_though_one_was_killed(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    records = write_records(tmp_path / "data")
    same = dict(tasks="longbench_mini", method="random", schedule="keep07", dtype="float32", device="cpu", batch_size=1)
    alone = evaluate(**same, model=tmp_path / "model", data=tmp_path / "data", output=tmp_path / "alone.json")
    script, output = tmp_path / "script.py", tmp_path / "out.json"
    script.write_text(SCRIPT)
    command = ["evaluate", "--tasks", "longbench_mini", "--method", "random", "--schedule", "keep07", "--batch-size", 1]
    command += ["--dtype", "float32", "--device", "cpu", "--model", tmp_path / "model", "--data", tmp_path / "data"]
    command += ["--output", output]

    killed = launch(script, "kill", tmp_path, *command)
    assert killed.returncode != 0 and "SIGKILL" in killed.stderr and not output.exists()
    done = [row for index in range(2) for row in lines(tmp_path / f"out.samples.part{index}.jsonl")[1:]]
    assert 0 < len(done) < len(records)

    finished = launch(script, "go on", tmp_path, *command, "--resume")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("| average") == 1  # one process shows the table
    asked = [int((tmp_path / f"asked{index}").read_text()) for index in range(2)]
    assert sum(asked) == len(records) - len(done) and abs(asked[0] - asked[1]) <= 1
    found = json.loads(output.read_text())
    assert found.pop("metadata") == {**alone["metadata"], "workers": 2, "threads": 1}
    assert found == {name: value for name, value in alone.items() if name != "metadata"}
    ours, theirs = (lines(tmp_path / f"{stem}.samples.jsonl") for stem in ("out", "alone"))
    assert ours[0] == theirs[0]
    assert sorted(ours[1:], key=lambda row: row["digest"]) == sorted(theirs[1:], key=lambda row: row["digest"])
    assert not list(tmp_path.glob("*.part*"))
