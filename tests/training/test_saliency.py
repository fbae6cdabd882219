"""Stage 1: the numbers are gradient times input, and marks on disk cannot be mixed up."""

import json

import pytest
import torch
from helpers import VOCABULARY, random_prompts, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sdtp_lib.data.samples import Batch, Sample, encode_pairs
from sdtp_lib.paper import SALIENT_THRESHOLD
from sdtp_lib.training import saliency
from sdtp_lib.training.marks import MANIFEST_FILE, MarksWriter, load_marks
from sdtp_lib.training.saliency import mark, salient_share, token_saliency

FAMILIES = ("llama", "mistral", "qwen2", "demo")


class WordTokenizer:
    """Token ids are the words themselves."""

    chat_template = None

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [int(word) for word in text.split()]}

    def get_vocab(self):
        return {str(i): i for i in range(VOCABULARY)}


def random_pairs(count, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def text(low, high):
        length = int(torch.randint(low, high, (), generator=generator))
        return " ".join(str(int(x)) for x in torch.randint(2, VOCABULARY, (length,), generator=generator))

    return [{"id": f"s{i}", "prompt": text(5, 30), "answer": text(1, 4), "dataset": "toy"} for i in range(count)]


def answers_at_end(mask, length=2):
    columns = torch.arange(mask.shape[1])
    return (mask.bool() & (columns >= mask.shape[1] - length)).long()


@pytest.fixture
def toy(monkeypatch):
    """`mark` on a tiny model and random token ids."""
    model = tiny_model("llama")
    model.name_or_path = "toy"
    monkeypatch.setattr(saliency, "load_model", lambda *args, **options: (model, WordTokenizer()))
    monkeypatch.setattr(saliency, "training_pairs", lambda data, count, seed: random_pairs(count, seed))
    monkeypatch.setattr(saliency, "SHARD_SIZE", 4)
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("target", ["answer", "all"])
def test_is_the_derivative_along_the_hidden_state(family, attention, target):
    """d/dt of the log-likelihood when one token's hidden state is scaled by 1 + t, by central differences."""
    model = tiny_model(family, attention, layers=4, dtype=torch.float64)
    ids, mask = random_prompts([11])
    answer = answers_at_end(mask)
    layers = [0, 3, 2]
    found = token_saliency(model, ids, mask, answer, layers, target)[0]

    def likelihoods(layer, t):
        """Row i scales token i."""

        def scale(module, args):
            hidden = args[0].clone()
            hidden[range(11), range(11)] *= 1 + t
            return (hidden, *args[1:])

        handle = model.model.layers[layer].register_forward_pre_hook(scale)
        with torch.no_grad():
            logs = model(ids.expand(11, -1)).logits.log_softmax(-1)
        handle.remove()
        first = 9 if target == "answer" else 1
        return sum(logs[:, i - 1, ids[0, i]] for i in range(first, 11))

    step = 3e-3  # norms run in float32 whatever the model's dtype, so smaller steps see their rounding
    for row, layer in enumerate(layers):
        expected = (likelihoods(layer, step) - likelihoods(layer, -step)).abs() / (2 * step)
        torch.testing.assert_close(found[row], expected.float(), rtol=1e-2, atol=2e-3)
    assert found[:, :-3].max() > 0.1
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["answer", "all"])
def test_padded_rows_equal_rows_alone_and_pads_get_nothing(family, target):
    model, lengths, layers = tiny_model(family), [9, 20, 14], [1, 4]
    ids, mask = random_prompts(lengths)
    together = token_saliency(model, ids, mask, answers_at_end(mask), layers, target)
    for row, n in enumerate(lengths):
        own = mask[row : row + 1, -n:]
        alone = token_saliency(model, ids[row : row + 1, -n:], own, answers_at_end(own), layers, target)
        torch.testing.assert_close(together[row, :, -n:], alone[0], rtol=1e-3, atol=1e-5)
        assert (together[row, :, :-n] == 0).all()


def test_last_answer_token_does_not_matter_to_itself():
    model = tiny_model("qwen2")
    ids, mask = random_prompts([12])
    assert (token_saliency(model, ids, mask, answers_at_end(mask), [1, 5])[..., -1] == 0).all()


def test_bad_requests_are_named():
    model = tiny_model("llama")
    ids, mask = random_prompts([8])
    answer = answers_at_end(mask)
    with pytest.raises(ValueError, match="no layer 6: the model has layers 0 to 5"):
        token_saliency(model, ids, mask, answer, [1, 6])
    with pytest.raises(ValueError, match="empty or repeated"):
        token_saliency(model, ids, mask, answer, [])
    with pytest.raises(ValueError, match="unknown saliency target 'logits'"):
        token_saliency(model, ids, mask, answer, [1], "logits")
    with pytest.raises(ValueError, match="no tokens whose likelihood"):
        token_saliency(model, ids, mask, torch.zeros_like(answer), [1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=20))
def test_salient_share(values):
    layer = torch.tensor([values])
    top = max(values)
    wanted = sum(value > torch.tensor(top) * SALIENT_THRESHOLD for value in layer[0]) / len(values)
    assert salient_share(layer).item() == pytest.approx(float(wanted))


def test_salient_share_needs_tokens():
    with pytest.raises(ValueError, match="no tokens"):
        salient_share(torch.ones(1, 0))


def test_marks_hold_every_samples_own_saliency(toy, tmp_path):
    marks = mark(num_samples=10, output=tmp_path / "marks", layers=[1, 4], batch_size=3)
    assert marks.layers == [1, 4] and [s.id for s in marks.samples] == [f"s{i}" for i in range(10)]
    assert not list(tmp_path.rglob("*.partial"))
    for pair, sample in zip(random_pairs(10), marks.samples, strict=True):
        assert [str(i) for i in sample.input_ids.tolist()] == f"{pair['prompt']} {pair['answer']}".split()
        ids = sample.input_ids[None]
        answer = torch.arange(ids.shape[1])[None] >= sample.prompt_tokens
        alone = token_saliency(toy, ids, torch.ones_like(ids), answer, [1, 4])[0, :, : sample.prompt_tokens]
        torch.testing.assert_close(sample.saliency, alone, rtol=1e-3, atol=1e-5)


def test_all_layers_and_schedules(toy, tmp_path):
    assert mark(num_samples=2, output=tmp_path / "all", layers="all").layers == [0, 1, 2, 3, 4, 5]
    assert mark(num_samples=2, output=tmp_path / "paper").layers == [4, 5]


def test_interrupted_marking_goes_on_to_the_same_marks(toy, tmp_path, monkeypatch):
    whole = mark(num_samples=10, output=tmp_path / "whole", layers=[2])
    write, calls = MarksWriter.write, []

    def write_once(self, *args):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        write(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MarksWriter, "write", write_once)
        mark(num_samples=10, output=tmp_path / "parts", layers=[2])
    with pytest.raises(ValueError, match="holds 4 of 10 samples; marking was not finished"):
        load_marks(tmp_path / "parts")
    first = tmp_path / "parts" / "shard-00000.safetensors"
    before = first.stat().st_mtime_ns
    resumed = mark(num_samples=10, output=tmp_path / "parts", layers=[2])
    assert first.stat().st_mtime_ns == before
    assert resumed.digest == whole.digest
    for a, b in zip(whole.samples, resumed.samples, strict=True):
        assert torch.equal(a.saliency, b.saliency)
    first.write_bytes(b"broken")  # a damaged shard is made again
    assert mark(num_samples=10, output=tmp_path / "parts", layers=[2]).digest == whole.digest


@pytest.mark.parametrize("change", [{"target": "all"}, {"layers": [3]}, {"seed": 5}, {"num_samples": 9}])
def test_marks_of_other_settings_are_not_mixed(toy, tmp_path, change):
    options = {"num_samples": 8, "layers": [2], "output": tmp_path / "marks"}
    mark(**options)
    with pytest.raises(ValueError, match=f"already holds marks whose ({next(iter(change))}|samples) differ"):
        mark(**{**options, **change})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_samples": 0}, "num_samples must be"), ({"batch_size": 0}, "batch_size must be"),
        ({"max_tokens": 3}, "fit max_tokens=3"), ({"target": "loss"}, "unknown saliency target 'loss'"),
        ({"layers": [6]}, "no layer 6"), ({"schedule": "tuesday"}, "unknown schedule 'tuesday'"),
        ({"schedule": "none"}, "empty or repeated"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_before_anything_is_written(toy, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        mark(**{"num_samples": 4, "output": tmp_path / "marks", **change})
    assert not (tmp_path / "marks").exists()


def test_saliency_that_is_not_finite_is_refused(toy, tmp_path):
    with torch.no_grad():
        toy.model.layers[3].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="saliency of sample s[0-9] is NaN"):
        mark(num_samples=4, output=tmp_path / "marks", layers=[2])


def reseal(folder, name, tensors):
    """Overwrite a shard and its hash in the manifest, as a forger would."""
    import hashlib

    save_file(tensors, folder / name)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["shards"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def test_damaged_marks_are_refused(toy, tmp_path):
    folder, name = tmp_path / "marks", "shard-00001.safetensors"
    with pytest.raises(FileNotFoundError, match="marks does not exist"):
        load_marks(folder)
    mark(num_samples=8, output=folder, layers=[2])
    good, manifest = load_file(folder / name), (folder / MANIFEST_FILE).read_text()

    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match="00001.safetensors is damaged: its SHA-256"):
        load_marks(folder)
    reseal(folder, name, {**good, "saliency": good["saliency"].index_fill(1, torch.tensor([3]), float("nan"))})
    with pytest.raises(ValueError, match="holds NaN"):
        load_marks(folder)
    reseal(folder, name, {**good, "input_ids": good["input_ids"].flip(0)})
    with pytest.raises(ValueError, match="of sample s4 are not those of the manifest"):
        load_marks(folder)
    reseal(folder, name, {**good, "saliency": good["saliency"][:, :-1].contiguous()})
    with pytest.raises(ValueError, match="of sample s7 are not those of the manifest"):
        load_marks(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match="has no shard-00001"):
        load_marks(folder)
    save_file(good, folder / name)
    newer = manifest.replace('"format_version": 1', '"format_version": 9')
    for text, message in (("{", "is damaged"), ("[]", "is damaged"), (newer, "format version"),
                          (manifest.replace('"digest"', '"hash"'), "is damaged")):  # fmt: skip
        (folder / MANIFEST_FILE).write_text(text)
        with pytest.raises(ValueError, match=message):
            load_marks(folder)


def test_swapped_samples_are_refused(toy, tmp_path):
    mark(num_samples=4, output=tmp_path, layers=[2])
    manifest = json.loads((tmp_path / MANIFEST_FILE).read_text())
    manifest["samples"][0], manifest["samples"][1] = manifest["samples"][1], manifest["samples"][0]
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="of sample s1 are not those"):
        load_marks(tmp_path)


def test_encoding_refuses_empty_and_repeated_samples():
    tokenizer = WordTokenizer()
    with pytest.raises(ValueError, match="sample a has an empty answer"):
        encode_pairs([{"id": "a", "prompt": "1 2", "answer": ""}], tokenizer, None, 1)
    with pytest.raises(ValueError, match="same id"):
        encode_pairs([{"id": "a", "prompt": "1 2", "answer": "3"}] * 2, tokenizer, None, 2)


def test_batch_pads_on_the_left():
    samples = [
        Sample("a", torch.tensor([5, 6, 7]), 2, torch.tensor([[0.1, 0.2], [1.0, 2.0]])),
        Sample("b", torch.tensor([8, 9]), 1, torch.tensor([[0.3], [3.0]])),
    ]
    batch = Batch.of(samples, rows=[1])
    assert batch.input_ids.tolist() == [[5, 6, 7], [0, 8, 9]]
    assert batch.prompt_mask.tolist() == [[True, True, False], [False, True, False]]
    assert batch.answer_mask.tolist() == [[False, False, True], [False, False, True]]
    assert batch.saliency.tolist() == [[[1.0, 2.0, 0.0]], [[0.0, 3.0, 0.0]]]
