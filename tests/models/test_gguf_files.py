"""Models out of GGUF files: what was written comes back, and what cannot be read rightly is refused by one line."""

import re

import pytest
import torch
from folders import run, save_pruner
from gguf_models import TOKENS, sensible_model, write_gguf
from helpers import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule
from sdtp_lib.models import load_model, load_pruner
from sdtp_lib.models.gguf_files import CHECKED, KNOWN_TEXT, GGUFFile
from sdtp_lib.models.identity import fingerprint
from sdtp_lib.models.loading import DTYPES
from sdtp_lib.models.provenance import metadata
from sdtp_lib.results import read_json

TEXT = "Hello  12345's it\n\n x, and the 中 of Ünï.\r\n\tI'LL"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("gguf")
    for family in CHECKED:
        write_gguf(home / f"{family}.gguf", sensible_model(family))
    return home


@pytest.mark.parametrize("family", CHECKED)
def test_a_file_gives_back_the_model_that_was_written(family, home):
    written, ids = sensible_model(family), torch.arange(40)[None]
    model, tokenizer = load_model(home / f"{family}.gguf", "float32", "cpu")
    torch.testing.assert_close(model(ids).logits, written(ids).logits, rtol=1e-4, atol=1e-3)
    assert not model.training and not any(weights.requires_grad for weights in model.parameters())
    assert tokenizer.decode(tokenizer(TEXT).input_ids) == TEXT
    assert metadata(profile=None, model=model)["model"] == f"{family}.gguf"  # without this machine's folders


@pytest.mark.parametrize("dtype", DTYPES)
def test_its_weights_are_known_in_every_dtype(dtype, home):
    model, _ = load_model(home / "llama.gguf", dtype, "cpu")
    assert model.dtype == DTYPES[dtype] and fingerprint(model) == fingerprint(sensible_model())


def test_it_is_laid_over_devices(home):
    model, _ = load_model(home / "llama.gguf", "float32", device_map="auto")
    assert fingerprint(model) == fingerprint(sensible_model())
    ids = torch.arange(9)[None]
    torch.testing.assert_close(model(ids).logits.cpu(), sensible_model()(ids).logits, rtol=1e-4, atol=1e-3)


def test_its_tokenizer_is_that_of_the_model(home):
    """transformers' converter puts a token before every text, and ends texts with the token that begins them."""
    _, tokenizer = load_model(home / "llama.gguf", "float32", "cpu")
    assert tokenizer("the  12 and<|im_end|>").tokens() == ["th", "e", "Ġ", "Ġ", "1", "2", "Ġand", "<|im_end|>"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    assert len(tokenizer) == len(TOKENS) and tokenizer.padding_side == "left"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "and"}], tokenize=False) == "and"


def test_a_token_that_begins_texts_is_put_there_if_the_file_says_so(tmp_path):
    write_gguf(tmp_path / "model.gguf", sensible_model(), **{"tokenizer.ggml.add_bos_token": True})
    assert GGUFFile(tmp_path / "model.gguf").tokenizer("and").tokens() == ["<|im_start|>", "and"]


def test_the_commands_take_it(home, tmp_path, capsys):
    pruner = save_pruner(tmp_path / "pruner", sensible_model())
    (tmp_path / "prompt.txt").write_text(KNOWN_TEXT)
    given, out = ("--model", home / "qwen2.gguf", "--dtype", "float32", "--device", "cpu"), tmp_path / "latency.json"
    profile = ("profile", "--mode", "prefill", "--config", "keep07", "--lengths", 64, "--repeats", 1, "--output", out)
    assert run(capsys, *profile, *given, "--pruner", save_pruner(tmp_path / "any")) == (0, [])
    assert read_json(out)["metadata"]["model"] == "qwen2.gguf"
    page = ("--output", tmp_path / "page.html", "--new-tokens", 2)
    explore = ("explore", "--prompt-file", tmp_path / "prompt.txt", *page)
    status, said = run(capsys, *explore, *given, "--pruner", pruner)
    assert status == 2 and len(said) == 1 and "--any-model" in said[0]  # it is of the other model
    assert run(capsys, *explore, "--model", home / "llama.gguf", "--pruner", pruner) == (0, [])


def changed(field, value):
    return lambda path: write_gguf(path, sensible_model(), **{field: value})


def lacking(tensor):
    return lambda path: write_gguf(path, sensible_model(), [tensor])


BAD = {
    "family": (changed("general.architecture", "gemma3"), "family 'gemma3'; read"),
    "scaled": (changed("llama.rope.scaling.type", "yarn"), "rotary positions"),
    "experts": (changed("llama.expert_count", 8), "mixture of experts"),
    "other cut": (changed("tokenizer.ggml.pre", "tekken"), "gpt2, tekken"),
    "other kind": (changed("tokenizer.ggml.model", "llama"), "llama, smollm"),
    "no merges": (changed("tokenizer.ggml.merges", None), "lacks.*merges"),
    "wrong merges": (changed("tokenizer.ggml.merges", ["zz zz"]), "cannot be used"),
    "no weight": (lacking("blk.1.attn_q.weight"), "lacks model.layers.1.self_attn.q"),
    "no embedding": (lacking("token_embd.weight"), "cannot be used.*token_embd"),
    "random": (lambda p: write_gguf(p, tiny_model(vocab_size=len(TOKENS))), "no sense of plain English"),
    "no GGUF": (lambda p: p.write_bytes(b"something else" * 20), "damaged or cut short"),
    "empty": (lambda p: p.write_bytes(b""), "damaged or cut short"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_read_rightly_is_one_line(name, tmp_path, capsys):
    make, line = BAD[name]
    model = tmp_path / "model.gguf"
    make(model)
    before = sorted(tmp_path.rglob("*"))
    status, said = run(capsys, "mark", "--model", model, "--output", tmp_path / "marks")
    assert status == 2 and len(said) == 1 and "model.gguf" in said[0] and re.search(line, said[0]), said
    assert sorted(tmp_path.rglob("*")) == before


@settings(max_examples=15)
@given(part=st.floats(0, 0.999))
def test_a_truncated_file_is_refused_wherever_it_was_cut(part, home, tmp_path_factory):
    whole, cut = (home / "llama.gguf").read_bytes(), tmp_path_factory.mktemp("cut") / "model.gguf"
    cut.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match="model.gguf is damaged or cut short"):
        GGUFFile(cut)


def test_a_pruner_is_found_by_the_weights(home, tmp_path, monkeypatch):
    monkeypatch.setattr("sdtp_lib.paths.PRUNERS", tmp_path)
    model, schedule = load_model(home / "llama.gguf", "float32", "cpu")[0], PruningSchedule((2, 4))
    save_pruner(tmp_path / "tiny" / "paper", model)
    save_pruner(tmp_path / "other" / "question_aware", tiny_model(seed=5))
    assert load_pruner(None, model, schedule).origin == "tiny/paper"
    with pytest.raises(ValueError, match="comes with no question-aware pruner"):
        load_pruner("question_aware", model, schedule)
    save_pruner(tmp_path / "tiny" / "question_aware", model, seed=2)
    assert load_pruner(None, model, schedule).origin == "tiny/question_aware"
    assert load_pruner("paper", model, schedule).origin == "tiny/paper"
    other = load_model(home / "qwen2.gguf", "float32", "cpu")[0]
    with pytest.raises(ValueError, match="needs the folder of a pruner, .*; without one go demo, demo-dense, scaled"):
        load_pruner(None, other, schedule)
    with pytest.raises(ValueError, match="--any-model"):
        load_pruner(tmp_path / "tiny" / "paper", other, schedule)
