"""`sdtp lm-eval` with options that cannot be: one line that names them, status 2, before a model is loaded."""

import errno
import json
import logging
import os
import string
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.tasks import TaskManager

from sdtp_lib import cli
from sdtp_lib.data.demo.corpus import longbench_mini
from sdtp_lib.evaluation.harness import command as harness_cli
from sdtp_lib.evaluation.harness.model import SDTPLM
from sdtp_lib.evaluation.harness.saving import saving

TASK, CHOICE = "longbench_mini_few_shot", "mini_choice_few_shot"


@pytest.fixture(autouse=True)
def few_tasks(monkeypatch):
    """Spare the tests the ten seconds in which the harness reads its own tasks."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))


class Loaded(BaseException):
    """Options that are fine get as far as the model."""


@pytest.fixture
def no_model(monkeypatch):
    def load(*_, **__):
        raise Loaded

    monkeypatch.setattr("sdtp_lib.evaluation.harness.model.load", load)


@pytest.fixture
def refused(no_model, capsys):
    """Runs the command and gives its one line."""

    def run(*options, model="sdtp"):
        capsys.readouterr()
        assert cli.main(["lm-eval", "--model", model, *map(str, options)]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("20")]  # but for the log
        assert len(lines) == 1 and lines[0].startswith("sdtp: error: ")
        return lines[0]

    return run


@pytest.fixture
def accepted(no_model):
    def run(*options):
        with pytest.raises(Loaded):
            cli.main(["lm-eval", "--model", "sdtp", *map(str, options)])

    return run


# Option -> values that it cannot have, and what the line must say besides the option.
WRONG = {
    "--limit": (["0", "-1", "nan", "inf", "1.5", "-0.5", "junk", "0.0"], "limit"),
    "--seed": (["-1", "junk", "1,2", "4294967296", "1,2,3,-4", "1.5", ","], "whole number"),
    "--tasks": ([",", "", " ", "a,b", f"{TASK},", f"{TASK},b", "b*"], "ls tasks"),
    "--batch_size": (["0", "-1", "auto", "auto:4", "1.5", "junk", ""], "whole number, 1 or more"),
    "--max_batch_size": (["4", "0", "junk"], "max_batch_size"),
    "--num_fewshot": (["-1", "1.5", "junk", "100"], "num_fewshot"),
    "--cache_requests": (["true", "refresh", "junk"], "cache_requests"),
    "--verbosity": (["FOO", ""], "DEBUG, INFO"),
    "--include_path": (["/nowhere/at/all", ""], "folder"),
    "--apply_chat_template": (["default", "true"], "takes no name"),
    "--wandb_args": (["project=x"], "not installed"),
    "--trackio_args": (["project=x"], "not installed"),
    "--hf_hub_log_args": (["foo=1", "output_path=x", "junk"], "hf_hub_log_args"),
    "--samples": (["nothing.json", "[]", "{}", '{"x": [0]}', f'{{"{TASK}": [100]}}', f'{{"{TASK}": [-1]}}',
                   f'{{"{TASK}": []}}', f'{{"{TASK}": 3}}', f'{{"{TASK}": ["a"]}}', '{"a'], "JSON|samples"),
    "--metadata": (["dta=x", "records=0", "records=-1", "records=abc", "records=1.5", "records=", "records=True",
                    "data=", "data=5", "data=/nowhere", "schedule=none", "junk", "[1]", '{"records": 0}', '{"dta": 1}'],
                   "records|data|metadata"),
    "--gen_kwargs": (["tempature=1", "max_gen_toks=0", "max_gen_toks=x", "temperature=-1", "temperature=1", "top_p=2",
                      "do_sample=maybe", "until=5", "num_beams=0", "use_cache=False", "pad_token_id=3",
                      "return_dict_in_generate=True", "custom_generate=a/b", "max_length=3", "junk"], "gen_kwargs"),
    "--model_args": (["peft=x", "seed=-1", "seed=abc", "seed=1.5", "seed=None", "max_length=0", "max_length=abc",
                      "softmax_dtype=int8", "softmax_dtype=foo", "prefix_token_id=-1", "add_bos_token=maybe",
                      "enable_thinking=3", "chat_template_args=x", "positions=odd", "positions=None", "batch_size=0",
                      "pretrained=", "pruner=3", "schedule=0.5", "schedule=-3", "method=", "cache=", "think_end_token=",
                      "junk"],
                     "argument|model_args|positions"),
    "--config": (["/nowhere.yaml"], "not found"),
    "--unknown": (["1"], "unrecognized arguments: --unknown"),
}  # fmt: skip


@pytest.mark.parametrize("option, value", [(option, value) for option in WRONG for value in WRONG[option][0]])
def test_wrong_values_are_refused_before_the_model(refused, option, value):
    tasks = [] if option == "--tasks" else ["--tasks", TASK]
    line = refused(*tasks, option, value)
    assert any(word in line for word in WRONG[option][1].split("|")), line
    assert "functools" not in line and "usage" not in line


def test_right_values_are_taken(accepted, tmp_path):
    (tmp_path / "few_shot.jsonl").write_text(json.dumps(longbench_mini("few_shot", 1)[0]) + "\n")
    for options in (
        ["--limit", 1], ["--limit", 0.5], ["--limit", "2.0"], ["--seed", 0], ["--seed", "1,None,3,4"],
        ["--batch_size", 3], ["--num_fewshot", 0], ["--metadata", "records=2"], ["--metadata", f"data={tmp_path}"],
        ["--metadata", "data=None", "records=3"], ["--metadata", "{}"], ["--samples", f'{{"{TASK}": [3, 1]}}'],
        ["--gen_kwargs", "max_gen_toks=3", "until=a"], ["--gen_kwargs", "temperature=0.5,do_sample=true"],
        ["--output_path", tmp_path / "out"], ["--output_path", tmp_path / "a" / "o.json"],
        ["--cache_requests", "delete"], ["--use_cache", tmp_path / "b" / "answers"], ["--apply_chat_template"],
        ["--verbosity", "debug"],
        ["--model_args", "max_length=64,softmax_dtype=float32,seed=3,schedule=None,dtype=float32,add_bos_token=True"],
    ):  # fmt: skip
        accepted("--tasks", TASK, *options)
    assert {path.name for path in tmp_path.iterdir()} == {"few_shot.jsonl"}, "nothing is left by an early look"


FIELDS = {  # of a file of options -> values that they cannot have there
    "limit": ["5", 0, -1, [1], True, float("nan")], "batch_size": [0, "auto", 1.5, [1]],
    "seed": [-1, "x", [1, 2, -3, 4], 1.5], "tasks": [[], "", {"a": 1}, [3], [TASK, ""], 5],
    "num_fewshot": ["1", -1, True], "metadata": [{"dta": 1}, 5, "dta=1"],
    "model_args": [{"peft": 1}, 5, "seed=-1", {"seed": True}], "gen_kwargs": [{"tempature": 1}, [1], {"top_k": "a"}],
    "samples": [{"x": [0]}, 5, {TASK: [0.5]}], "output_path": ["", 5], "use_cache": ["", 5, True], "model": [5, ["hf"]],
    "cache_requests": [True, "true", {"cache_requests": True}], "include_path": [["a"], "/nowhere"], "device": [5],
    "log_samples": ["no", 1], "verbosity": [5, "LOUD"], "apply_chat_template": ["x"], "predict_only": ["yes"],
    "limt": [1], "records": [3], "system_instruction": [5],
}  # fmt: skip


@pytest.mark.parametrize("field, value", [(field, value) for field in FIELDS for value in FIELDS[field]])
def test_wrong_values_in_a_file_of_options_are_refused_too(no_model, tmp_path, capsys, field, value):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"model": "sdtp", "tasks": [TASK], field: value}))
    assert cli.main(["lm-eval", "--config", str(file)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("20")]
    assert len(lines) == 1 and lines[0].startswith("sdtp: error: ")


@pytest.mark.parametrize("content", ["[1]", "3", "", "a: [", "\0"])
def test_a_file_that_is_no_yaml_mapping_is_refused(refused, tmp_path, content):
    (tmp_path / "run.yaml").write_text(content)
    assert "run.yaml" in refused("--tasks", TASK, "--config", tmp_path / "run.yaml")


def test_options_win_over_the_file(no_model, monkeypatch, tmp_path):
    file, seen = tmp_path / "run.yaml", {}
    file.write_text(yaml.safe_dump({"tasks": TASK, "limit": 7, "num_fewshot": 0, "metadata": "records=3", "seed": 5}))

    def look(cls, arguments, more):
        seen.update(arguments, **more)
        raise Loaded

    monkeypatch.setattr(SDTPLM, "create_from_arg_obj", classmethod(look))
    with pytest.raises(Loaded):
        cli.main(["lm-eval", "--model", "sdtp", "--config", str(file), "--batch_size", "3", "--use_cache",
                  str(tmp_path / "db"), "--model_args", "seed=4"])  # fmt: skip
    assert seen == {"cache": str(tmp_path / "db"), "seed": 4, "chat_template": False, "batch_size": "3",
                    "max_batch_size": None, "device": "cuda:0"}  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(option=st.sampled_from(["--limit", "--seed", "--batch_size", "--num_fewshot", "--metadata", "--gen_kwargs",
                               "--model_args", "--samples", "--tasks", "--output_path"]),
       value=st.text(string.printable.strip(), min_size=1, max_size=12))  # fmt: skip
def test_no_value_ends_in_a_traceback(no_model, monkeypatch, tmp_path_factory, option, value):
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    try:
        status = cli.main(["lm-eval", "--model", "sdtp", "--tasks", TASK, f"{option}={value}"])
    except Loaded:
        status = 2
    assert status == 2


def test_keys_after_an_object_are_not_passed_over(refused):
    line = refused("--tasks", TASK, "--metadata", '{"records": 2}', "data=/nowhere")
    assert "'data=/nowhere' after" in line


def test_options_that_no_task_heeds_are_refused(refused, tmp_path):
    assert "none of the tasks" in refused("--tasks", CHOICE, "--gen_kwargs", "max_gen_toks=5")
    assert "make their own records" in refused("--tasks", "mini_choice", "--metadata", f"data={tmp_path}")
    assert "says nothing of the task" in refused("--tasks", f"{TASK},{CHOICE}", "--samples", f'{{"{TASK}": [0]}}')


def test_places_that_cannot_be_written_are_refused(refused, tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    for option, other in (("--output_path", []), ("--use_cache", [tmp_path])):
        for place in (file / "x", file / "x" / "y", "/proc/nothing/here", *other):
            line = refused("--tasks", TASK, option, place)
            assert option in line and str(place) in line
    assert "is a file; give a folder" in refused("--tasks", TASK, "--output_path", file)
    assert "is no file of answers" in refused("--tasks", TASK, "--use_cache", file)
    assert file.read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is read-only to root")
def test_a_read_only_folder_is_refused(refused, tmp_path):
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused("--tasks", TASK, "--output_path", tmp_path / "out")


def test_the_cache_of_other_model_classes_is_refused(refused, tmp_path):
    line = refused("--tasks", TASK, "--use_cache", tmp_path / "db", model="hf")
    assert "finds answers by their prompts alone" in line


def test_other_subcommands_refuse_a_folder_that_is_not_there(capsys):
    for subcommand in (["ls", "tasks"], ["validate", "--tasks", TASK]):
        assert cli.main(["lm-eval", *subcommand, "--include_path", "/nowhere"]) == 2
        assert "--include_path /nowhere is no folder" in capsys.readouterr().err


def test_one_of_several_processes_without_a_launcher_is_refused(refused, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert "LOCAL_RANK" in refused("--tasks", TASK)


# Tasks of a user's own YAML files

YAML = "task: mine\nclass: !function sdtp_lib.evaluation.harness.tasks.{}\n"


@pytest.mark.parametrize(
    "kind, content, word",
    [
        ("LongBenchTask", "dataset_name: few_shot\ndataset_nam: x", "task mine: unknown key 'dataset_nam'"),
        ("LongBenchTask", "dataset_name: few_shots", "dataset_name must be one of"),
        ("LongBenchTask", "", "got None"),
        ("MiniChoiceTask", "dataset_name: report_summary", "dataset_name must be one of singledoc_qa"),
        ("LongBenchTask", "dataset_name: few_shot\nmetadata: {dta: x}", "unknown metadata key 'dta'"),
        ("LongBenchTask", "dataset_name: few_shot\nmetadata: {records: 0}", "records must be a whole number"),
        ("LongBenchTask", "dataset_name: few_shot\nmetadata: 3", "unknown metadata key '_metadata'"),
    ],
)
def test_a_task_s_own_file_is_checked_too(refused, tmp_path, kind, content, word):
    (tmp_path / "mine.yaml").write_text(YAML.format(kind) + content)
    assert word in refused("--tasks", "mine", "--include_path", tmp_path)


def test_a_task_s_own_file_may_hold_records_and_notes(accepted, refused, tmp_path):
    content = "dataset_name: few_shot\nmetadata: {version: 1.0, description: x, records: 3}"
    (tmp_path / "mine.yaml").write_text(YAML.format("LongBenchTask") + content)
    accepted("--tasks", "mine", "--include_path", tmp_path, "--samples", '{"mine": [2]}')
    line = refused("--tasks", "mine", "--include_path", tmp_path, "--samples", '{"mine": [3]}')
    assert line.endswith("mine has records 0 to 2, got 3")


@pytest.mark.parametrize(
    "metadata, word", [({"dta": "x"}, "'dta'"), ({"records": "3"}, "records"), ({"data": 3}, "data")]
)
def test_tasks_made_in_python_refuse_unknown_keys_and_take_the_models(metadata, word):
    tasks = str(harness_cli.TASKS)
    for name in (TASK, CHOICE):
        with pytest.raises(ValueError, match=f"task {name}: .*{word}"):
            TaskManager(include_path=tasks, include_defaults=False, metadata=metadata).load([name])
    models = {"pretrained": "demo", "schedule": "low", "parallelize": True, "records": 2}
    task = TaskManager(include_path=tasks, include_defaults=False, metadata=models).load([TASK])["tasks"][TASK]
    assert len(task.eval_docs) == 2


# Results that were not written


@pytest.fixture
def run_one(tmp_path):
    options = ["--model", "sdtp", "--model_args", "method=full", "--tasks", CHOICE, "--limit", "1", "--output_path"]
    return lambda *more: harness_cli.run([*options, str(tmp_path / "out"), *more])


def disk_full(after):
    """`Path.write_text` on a disk that has room for `after` characters."""

    def write_text(path, text, **_):
        with open(path, "w") as file:
            file.write(text[:after])
        raise OSError(errno.ENOSPC, "No space left on device")

    return write_text


@pytest.mark.parametrize("level", ["INFO", "ERROR"])
def test_results_that_were_not_written_are_no_success(run_one, monkeypatch, tmp_path, level):
    monkeypatch.setattr(logging.getLogger("lm_eval"), "level", getattr(logging, level))
    monkeypatch.setattr(Path, "write_text", disk_full(40))
    with pytest.raises(RuntimeError, match="results were not written to .*out: .*No space left on device"):
        run_one()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "half a file was left"


def test_samples_that_were_not_written_are_no_success(run_one, monkeypatch, tmp_path):
    monkeypatch.setattr("lm_eval.loggers.evaluation_tracker.sanitize_list", lambda _: 1 / 0)
    with pytest.raises(RuntimeError, match="Could not save sample results .*division by zero"):
        run_one("--log_samples")
    assert [path.name[:8] for path in tmp_path.rglob("*") if path.is_file()] == ["results_"]


def test_a_run_that_writes_nothing_is_no_success(tmp_path):
    with pytest.raises(RuntimeError, match="results were not written to .*: the harness wrote no file"):
        with saving(str(tmp_path / "out")):
            pass
    with saving(None):
        pass


def test_files_of_other_runs_are_left_alone(run_one, monkeypatch, tmp_path):
    (tmp_path / "out" / "m").mkdir(parents=True)
    torn = tmp_path / "out" / "m" / "results_old.json"
    torn.write_text('{"a')
    run_one("--log_samples")
    assert torn.exists() and len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 3
