"""Evaluation in a chat template: which prompts go into it, and what is recorded, resumed and warned of."""

import json
from functools import partial

import pytest
import torch
from chat_tokenizers import chat_tokenizer
from lm_eval.tasks import TaskManager
from small_records import small_model, small_records, small_tokenizer, write_records

from sdtp_lib import PruningSchedule, cli
from sdtp_lib.data.chat import takes_template, template_digest
from sdtp_lib.evaluation.answers import score_records
from sdtp_lib.evaluation.longbench import evaluate, measure
from sdtp_lib.evaluation.prompts import build_prompt, encode_answer
from sdtp_lib.scorers.token_pruner import TokenPruner

SCHEDULE = PruningSchedule(layers=(2, 4), keep_ratio=0.7, min_local_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a `chat` and a `plain` model, and `data`."""
    root = tmp_path_factory.mktemp("chat")
    for name, tokenizer in (("chat", chat_tokenizer()), ("plain", small_tokenizer())):
        small_model().save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    write_records(root / "data")
    return root


@pytest.fixture
def pruner(tmp_path):
    """Saves a pruner with a record, and names its folder."""

    def save(**record):
        torch.manual_seed(1)
        TokenPruner(32, (1, 2, 3, 4, 5), record).save_pretrained(tmp_path / "pruner")
        return tmp_path / "pruner"

    return save


@pytest.mark.parametrize("switch", [None, True, False])
def test_prompts_go_into_the_template_but_for_few_shot_and_code(monkeypatch, switch):
    model, tokenizer, records, asked = small_model(), chat_tokenizer(), small_records(), set()
    generate = model.generate

    def remember(input_ids, attention_mask, **options):
        asked.update(tuple(ids[m.bool()].tolist()) for ids, m in zip(input_ids, attention_mask, strict=True))
        return generate(input_ids=input_ids, attention_mask=attention_mask, **options)

    monkeypatch.setattr(model, "generate", remember)
    score_records(model, tokenizer, records, chat_template=switch)
    for record in records:
        text = build_prompt(record)
        turn, options = [{"role": "user", "content": text}], {"add_generation_prompt": True, "return_dict": False}
        plain = switch is False or record["dataset"] in ("few_shot", "code_completion")
        ids = tokenizer(text)["input_ids"] if plain else tokenizer.apply_chat_template(turn, **options)
        assert tuple(ids) in asked


def test_the_oracle_is_shown_the_answer_as_the_template_puts_it():
    tokenizer, record = chat_tokenizer(), small_records()[0]
    answer = encode_answer(tokenizer, record, build_prompt(record), chat=True)
    assert tokenizer.decode(answer) == record["answers"][0] + tokenizer.eos_token


@pytest.mark.parametrize("trained, switch, warned", [
    ("missing", None, False), ("missing", False, False), ("same", None, False), ("same", True, False),
    ("same", False, True), (None, False, False), (None, None, True), ("0" * 16, None, True),
])  # fmt: skip
def test_the_template_is_recorded_and_another_one_than_the_pruners_warned_of(
    folder, pruner, caplog, trained, switch, warned
):
    digest = template_digest(chat_tokenizer(), True)
    record = {} if trained == "missing" else {"chat_template": digest if trained == "same" else trained}
    found = evaluate(
        "singledoc_qa", "sdtp", SCHEDULE, 1, folder / "chat", pruner(**record), data=folder / "data", dtype="float32",
        device="cpu", chat_template=switch,
    )  # fmt: skip
    assert found["metadata"]["chat_template"] == (None if switch is False else digest)
    assert ["trained on prompts in" in line and "\n" not in line for line in caplog.messages] == [True] * warned


@pytest.mark.parametrize("tasks, used", [
    ("few_shot", False), ("code_completion, few_shot", False), ("few_shot, singledoc_qa", True),
])  # fmt: skip
def test_tasks_that_take_no_template_neither_record_it_nor_warn_of_it(folder, pruner, caplog, tasks, used):
    digest = template_digest(chat_tokenizer(), True)
    options = dict(limit=1, model=folder / "chat", data=folder / "data", dtype="float32", device="cpu")
    assert evaluate(tasks, "full", **options)["metadata"]["chat_template"] == (digest if used else None)
    for trained in (digest, None):
        caplog.clear()
        evaluate(tasks, "sdtp", SCHEDULE, pruner=pruner(chat_template=trained), **options)
        assert len(caplog.messages) == (used != (trained == digest))


def test_without_a_template_there_is_nothing_to_record_and_nothing_to_switch_on(folder, pruner, caplog):
    options = dict(tasks="singledoc_qa", limit=1, data=folder / "data", dtype="float32", device="cpu")
    folder_of = pruner(chat_template=None)
    found = evaluate(method="sdtp", schedule=SCHEDULE, model=folder / "plain", pruner=folder_of, **options)
    assert found["metadata"]["chat_template"] is None and not caplog.messages
    with pytest.raises(ValueError, match="tokenizer of .*plain has no chat template"):
        evaluate(method="full", model=folder / "plain", chat_template=True, **options)


def test_samples_of_another_template_are_not_gone_on_with(tmp_path):
    model, tokenizer, records = small_model(), chat_tokenizer(), small_records(1)
    options = dict(method="random", schedule=SCHEDULE, folder=tmp_path)
    whole = measure(model, tokenizer, records, **options)
    assert measure(model, tokenizer, records, **options) == whole
    with pytest.raises(ValueError, match="cannot resume: .* record .* with another prompt"):
        measure(model, tokenizer, records, chat_template=False, **options)


def test_samples_that_no_template_goes_around_are_gone_on_with_under_any(tmp_path):
    model, tokenizer, records = small_model(), chat_tokenizer(), small_records(1)
    options = dict(method="random", schedule=SCHEDULE)
    whole = measure(model, tokenizer, records, **options)
    plain = [record for record in records if not takes_template(record["dataset"])]
    measure(model, tokenizer, plain, chat_template=False, folder=tmp_path, **options)
    assert measure(model, tokenizer, records, folder=tmp_path, **options) == whole


def test_the_command_has_the_switch(folder, tmp_path, capsys):
    command = (
        f"evaluate --tasks singledoc_qa --method full --limit 1 --model {folder}/chat --data {folder}/data".split()
    )
    for number, (switch, used) in enumerate([([], True), (["--chat-template"], True), (["--no-chat-template"], False)]):
        output = tmp_path / f"{number}.json"
        assert cli.main([*command, *switch, "--output", str(output)]) == 0
        assert (json.loads(output.read_text())["metadata"]["chat_template"] is not None) == used
    capsys.readouterr()
    assert cli.main([*command, "--model", f"{folder}/plain", "--chat-template"]) == 2
    assert "has no chat template" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("switch", [[], ["--apply_chat_template"]])
def test_the_harness_puts_prompts_into_it_where_it_is_told_to(folder, pruner, tmp_path, monkeypatch, caplog, switch):
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    model = f"pretrained={folder}/chat,pruner={pruner(chat_template=None)},dtype=float32,device=cpu"
    command = ["lm-eval", "--model", "sdtp", "--model_args", model, "--tasks", "longbench_mini_singledoc_qa"]
    output = ["--limit", "1", "--output_path", f"{tmp_path}/out", "--log_samples", *switch]
    assert cli.main([*command, "--metadata", f"data={folder}/data", *output]) == 0
    (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
    prompt = json.loads(samples.read_text().splitlines()[0])["arguments"]["gen_args_0"]["arg_0"]
    assert prompt.endswith("[assistant]\n") == bool(switch)
    warned = [line for line in caplog.messages if "trained on prompts in" in line]
    assert ["in no chat template and is used on prompts in chat" in line for line in warned] == [True] * bool(switch)
