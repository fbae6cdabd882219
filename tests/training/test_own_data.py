"""Lines of one's own through stage 1: the template that they are put in is part of the marks and of the pruner."""

import json

import pytest
from chat_tokenizers import chat_tokenizer
from small_records import small_model, small_tokenizer

from sdtp_lib import PruningSchedule, cli
from sdtp_lib.data.chat import template_digest
from sdtp_lib.scorers.token_pruner import TokenPruner
from sdtp_lib.training.marks import Marks
from sdtp_lib.training.recipe import Recipe
from sdtp_lib.training.saliency import mark
from sdtp_lib.training.trainer import Trainer

PLAIN = {"prompt": "Who did it? It was", "answer": " Paul"}
CHAT = {"messages": [{"role": "user", "content": "Who did it?"}, {"role": "assistant", "content": "Anna"}]}
DIGEST = template_digest(chat_tokenizer(), True)


@pytest.fixture
def options(tmp_path):
    """Of `mark`: a model that chats, and lines of both kinds."""
    small_model().save_pretrained(tmp_path / "model")
    chat_tokenizer().save_pretrained(tmp_path / "model")
    write(tmp_path, PLAIN, CHAT, PLAIN, CHAT)
    return dict(model=tmp_path / "model", data=tmp_path / "own.jsonl", num_samples=4, layers=[2, 4], device="cpu")


def write(folder, *rows):
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def trainer(marks, folder):
    return Trainer(small_model(), marks, PruningSchedule((2, 4)), Recipe(epochs=1), folder)


def test_marks_and_pruner_say_which_template_their_prompts_are_in(options, tmp_path):
    marks = mark(output=tmp_path / "marks", **options)
    assert marks.manifest["chat_template"] == DIGEST
    assert mark(output=tmp_path / "marks", **options).digest == marks.digest  # there was nothing left to do
    trainer(marks, tmp_path / "pruner").run()
    assert TokenPruner.from_pretrained(tmp_path / "pruner").record["chat_template"] == DIGEST


def test_marks_without_the_template_are_others(options, tmp_path):
    write(tmp_path, *[PLAIN] * 4)
    marks = mark(output=tmp_path / "marks", chat_template=False, **options)
    ids = chat_tokenizer()(PLAIN["prompt"])["input_ids"]
    assert marks.samples[0].input_ids[: marks.samples[0].prompt_tokens].tolist() == ids
    assert marks.manifest["chat_template"] is None
    assert trainer(marks, tmp_path / "pruner").settings["chat_template"] is None
    with pytest.raises(ValueError, match="already holds marks whose chat_template differ"):
        mark(output=tmp_path / "marks", **options)


def test_a_pruner_of_marks_that_do_not_say_does_not_say_either(options, tmp_path):
    marks = mark(output=tmp_path / "marks", **options)
    old = Marks({name: value for name, value in marks.manifest.items() if name != "chat_template"}, marks.samples)
    assert "chat_template" not in trainer(old, tmp_path / "pruner").settings


def test_the_command_refuses_chats_in_one_line_before_anything_is_written(options, tmp_path, capsys):
    small_tokenizer().save_pretrained(tmp_path / "plain")
    small_model().save_pretrained(tmp_path / "plain")
    command = ["mark", "--data", str(options["data"]), "--num-samples", "4", "--output", str(tmp_path / "marks")]
    for model, switch, said in (("plain", [], "tokenizer of"), ("model", ["--no-chat-template"], "switched off")):
        capsys.readouterr()
        assert cli.main([*command, "--model", str(tmp_path / model), *switch]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("sdtp: error: ") and "own.jsonl line " in last and said in last
    write(tmp_path, PLAIN, {"prompt": "Who?"})
    assert cli.main(command) == 2
    assert "own.jsonl line 2 has no answer" in capsys.readouterr().err
    assert not (tmp_path / "marks").exists()


def test_the_pruner_of_own_lines_can_be_trained_by_the_commands(options, tmp_path):
    places = {name: str(tmp_path / name) for name in ("model", "own.jsonl", "marks", "pruner")}
    model = ["--model", places["model"], "--device", "cpu"]
    data = ["--data", places["own.jsonl"], "--num-samples", "4"]
    assert cli.main(["mark", *model, *data, "--output", places["marks"]]) == 0
    assert cli.main(["train", *model, "--marks", places["marks"], "--epochs", "1", "--output", places["pruner"]]) == 0
    assert TokenPruner.from_pretrained(places["pruner"]).record["chat_template"] == DIGEST


def test_of_a_file_all_prompts_are_marked_that_fit(tmp_path, caplog):
    lines = [{"prompt": "a green door " * words, "answer": " open"} for words in (2, 3, 200)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = mark("demo", tmp_path / "own.jsonl", output=tmp_path / "marks", max_tokens=100, layers=[4])
    assert len(found.samples) == 2 == found.manifest["num_samples"]
    assert "1 of 3 prompts have, with their answers, more than max_tokens=100 tokens: passed over" in caplog.text
