"""README and docs: every link leads somewhere, every command is one that the parser takes, and short ones run."""

import ast
import json
import re
import subprocess
from urllib.parse import unquote

import pytest
import yaml
from pages import (
    STORED,
    TOLD,
    anchors,
    blocks,
    commands,
    lines,
    links,
    numbers,
    parsers,
    sdtp_arguments,
    shell_blocks,
    spans,
    stored,
    text_of,
)

from sdtp_lib import cli, paths

MAKEFILE = (paths.ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", MAKEFILE, re.MULTILINE))
every_page = pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)


@pytest.mark.parametrize("page", TOLD + STORED, ids=lambda page: str(page.relative_to(paths.ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    missing = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@every_page
def test_every_command_of_a_block_is_understood(page):
    for program, words in commands(page):
        if program == "make":
            assert {word for word in words if "=" not in word} <= TARGETS, words
            assert all(f"$({word.partition('=')[0]})" in MAKEFILE for word in words if "=" in word), words
        if (arguments := sdtp_arguments(program, words)) is not None and "--help" not in arguments:
            check_names(cli.build_parser().parse_args(arguments))


def check_names(options):
    """What argparse leaves to the command: names of tasks, methods, notebooks and models."""
    from sdtp_lib.data.tasks import expand_tasks
    from sdtp_lib.evaluation.methods import check_names
    from sdtp_lib.models.packages import PACKAGES
    from sdtp_lib.runner.reproduce import plan

    given = vars(options)
    if "tasks" in given:
        assert expand_tasks(options.tasks)
        check_names(options.method, options.schedule, None)
    elif "only" in given:
        assert plan(options.profile, options.only)
    elif given.get("name"):
        assert options.name in PACKAGES


@every_page
def test_every_command_named_in_a_line_has_the_options_named_with_it(page):
    for span in spans(page):
        words = span.split()
        if words[:1] == ["make"] and len(words) > 1 and "=" not in words[1]:
            assert words[1] in TARGETS, span
        if words[:1] == ["sdtp"] and len(words) > 1 and words[1] != "COMMAND":
            known = parsers()[words[1]]._option_string_actions
            assert words[1] == "lm-eval" or {word for word in words if word.startswith("--")} <= known.keys(), span
            if words[1] == "reproduce" and "NAME" not in words:
                check_names(cli.build_parser().parse_args(words[1:]))


@every_page
def test_blocks_of_other_languages_are_well_formed(page):
    for block in blocks(page, "python"):
        imports = [part for part in ast.parse(block).body if isinstance(part, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page.name, "exec"), {})  # every name is there
    for block in blocks(page, "yaml"):
        assert yaml.safe_load(block)
    for block in shell_blocks(page):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


VERSIONED = ("Python", "torch", "transformers", "Apache", "Llama", "Qwen", "Coder-", "BY-SA", "CUDA", "before", "below")


@every_page
def test_numbers_are_those_of_the_stored_files(page):
    """Those that the page's comment `numbers` lists: every number with a decimal point, but for versions."""
    found, text, documents = list(numbers(page)), text_of(page), {}
    for number, file, key in found:
        documents[file] = documents.get(file) or json.loads(file.read_text())
        digits = len(number.partition(".")[2])
        value = round(stored(documents[file], key), digits) + 0.0  # never -0.00
        assert f"{value:.{digits}f}" == number, (number, file.name, key)
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d]|[.,]\d)", text), f"{number} is not on the page"
    plain = re.sub(rf"(?:{'|'.join(VERSIONED)}) ?[\d., and]+", "", text)
    told = re.findall(r"(?<![\d.])\d{1,3}\.\d+(?![\d.])", plain)  # the paper's own number on arXiv has four digits
    assert {*told} <= {number.removeprefix("-") for number, *_ in found}


def test_commands_are_found_at_all():
    """Or nothing above would be held to anything."""
    found = [words for page in TOLD for program, words in commands(page) if program == "sdtp"]
    assert len(found) >= 10
    launched = [words for page in TOLD for program, words in commands(page) if program in ("torchrun", "accelerate")]
    assert len(launched) >= 5 and all(sdtp_arguments("torchrun", words) for words in launched)


SMALL = {  # added to a command, whose own values it takes the place of
    "demo": ["--repeats", "1", "--new-tokens", "2"],
    "mark": ["--num-samples", "4"],
    "train": ["--epochs", "1"],
    "evaluate": ["--limit", "1"],
    "lm-eval": ["--limit", "1"],
    "profile": ["--mode", "prefill", "--lengths", "64", "--repeats", "1"],
    "explore": ["--new-tokens", "2"],
    "report": [],
}
PLACES = {"FOLDER": "demo", "FILE.jsonl": "own.jsonl", "FILE": "prompt.txt", "needle": "longbench_mini"}
NEEDS_MORE = ("smollm2-135m", "--device-map", "--tensor-parallel", "--points")  # a network, GPUs, or a sweep


@pytest.mark.slow
def test_the_readmes_commands_run_one_after_the_other(tmp_path, monkeypatch):
    """In small, in the order in which they stand, each on what those before it wrote."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.jsonl").write_text('{"prompt": "The key of Anna is", "answer": " red."}\n' * 4)
    (tmp_path / "prompt.txt").write_text("The key of Anna is red. " * 20)
    ran = set()
    for block in shell_blocks(paths.ROOT / "README.md"):
        for program, *words in lines(block):
            if program == "sdtp" and words[0] in SMALL and not {*words} & {*NEEDS_MORE}:
                small = [] if "--help" in words else SMALL[words[0]]
                words = [PLACES.get(word, word) for word in words]
                try:
                    assert cli.main([*words, *small]) == 0, words
                except SystemExit as stopped:  # --help
                    assert not stopped.code, words
                ran.add(words[0])
    assert {"demo", "mark", "train", "evaluate"} <= ran
