"""The pruner: what is saved comes back bit for bit, and its MLPs go where the hidden states are."""

import pytest
import torch
from helpers import HIDDEN, tiny_pruner
from torch import nn

from sdtp_lib import TokenPruner, paths

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_round_trip(tmp_path):
    ours = tiny_pruner((2, 5))
    ours.record = {"epochs": 2, "layers": (2, 5), 3: "three"}
    ours.save_pretrained(tmp_path / "new" / "pruner")
    loaded = TokenPruner.from_pretrained(str(tmp_path / "new" / "pruner"))
    hidden = torch.randn(2, 7, HIDDEN)
    for layer in (2, 5):
        scores = loaded(layer, hidden)
        assert scores.shape == (2, 7)
        assert torch.equal(scores, ours(layer, hidden))
    assert loaded.record == {"epochs": 2, "layers": [2, 5], "3": "three"} and loaded.layers == (2, 5)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype):
    ours = tiny_pruner((2, 5)).to(dtype)
    ours.mlps["2"][0].bias[:2] = torch.tensor([-0.0, torch.finfo(dtype).smallest_normal / 2])
    ours.save_pretrained(tmp_path)
    loaded = TokenPruner.from_pretrained(tmp_path).state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {dtype}
    for name, tensor in ours.state_dict().items():
        assert torch.equal(loaded[name].view(torch.uint8), tensor.view(torch.uint8)), name


def test_weights_that_share_memory_or_are_no_block_of_it_are_saved(tmp_path):
    ours = tiny_pruner((2, 5))
    ours.mlps["5"][0].bias = ours.mlps["2"][0].bias
    ours.mlps["5"][0].weight.data = torch.randn(HIDDEN, HIDDEN // 4).T
    ours.save_pretrained(tmp_path)
    loaded = TokenPruner.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in ours.state_dict().items())


def test_loading_draws_no_random_numbers(tmp_path):
    tiny_pruner((2,)).save_pretrained(tmp_path)
    before = torch.get_rng_state()
    TokenPruner.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_shipped_pruner_loads():
    pruner = TokenPruner.from_pretrained(paths.DEMO_PRUNER)
    assert pruner.record["model"] == "demo" and pruner.record["schedule"]["layers"] == list(pruner.layers)


@pytest.mark.parametrize("sizes", [(0, (2,)), (-8, (2,)), (8, (2, 2)), (8, (5, 2)), (8, (-1, 2))])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="no such pruner"):
        TokenPruner(*sizes)


def test_meta_hidden_states_get_meta_scores_and_leave_the_weights(tmp_path):
    pruner, hidden = tiny_pruner((2,)), torch.randn(2, 7, HIDDEN)
    before = pruner(2, hidden)
    on_meta = pruner.score(2, hidden.to("meta", torch.bfloat16), None)
    assert on_meta.is_meta and on_meta.shape == (2, 7)
    assert torch.equal(pruner(2, hidden), before)


def test_an_mlp_moves_once_to_the_device_of_its_hidden_states(monkeypatch):
    moved = []

    def to(mlp, device):
        moved.append(str(device))
        return mlp.to_empty(device=device)

    monkeypatch.setattr(nn.Sequential, "to", to)
    pruner = tiny_pruner((2, 5)).to("meta")  # the only two devices on every machine
    with torch.inference_mode():
        scores = [pruner.score(2, torch.randn(1, 7, HIDDEN), None) for _ in range(2)]
    assert moved == ["cpu"] and all(s.device.type == "cpu" for s in scores)
    assert [p.device.type for p in pruner.parameters()] == 4 * ["cpu"] + 4 * ["meta"]
    assert not any(p.is_inference() for p in pruner.parameters())


@needs_gpu
def test_one_pruner_on_two_devices(tmp_path):
    pruner, hidden = tiny_pruner((2, 5)), torch.randn(2, 7, HIDDEN)
    expected, parameters = pruner(2, hidden), list(pruner.parameters())
    torch.testing.assert_close(pruner(2, hidden.cuda()).cpu(), expected, atol=1e-3, rtol=1e-3)
    assert [p.device.type for p in pruner.parameters()] == 4 * ["cuda"] + 4 * ["cpu"]
    assert all(a is b for a, b in zip(pruner.parameters(), parameters, strict=True))  # an optimizer holds on to them
    pruner.save_pretrained(tmp_path)
    assert torch.equal(TokenPruner.from_pretrained(tmp_path)(2, hidden), expected)


def test_states_too_large_for_the_weights_dtype_are_scaled_first():
    pruner = TokenPruner(16, (1,))
    states = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0)) * 1e5
    with torch.no_grad():
        expected = pruner(1, states)
        half = pruner.half()(1, states.bfloat16())
    assert half.isfinite().all()
    torch.testing.assert_close(half.float(), expected, atol=0.02, rtol=0.02)
