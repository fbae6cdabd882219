"""The terms of the objective against plain loops, and the mask against what it stands for."""

import math

import pytest
import torch
from helpers import random_prompts, tiny_model, tiny_pruner
from hypothesis import given, settings
from hypothesis import strategies as st

from sdtp_lib import PruningSchedule
from sdtp_lib.training import losses
from sdtp_lib.training.simulated_pruning import SimulatedPruning, gumbel_keep

LAYERS = (2, 3, 5)
SCHEDULE = PruningSchedule(LAYERS, keep_ratio=0.8, sink_tokens=2, min_local_tokens=3)


def left_padded(lengths, stages=2, seed=0):
    """(scores, targets, mask) with numbers on the pads too, which must not count."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = torch.stack([torch.arange(width) >= width - n for n in lengths])
    scores, targets = torch.randn(2, len(lengths), stages, width, generator=generator)
    return scores, targets, mask


lengths = st.lists(st.integers(2, 9), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(lengths, st.integers(0, 100))
def test_ranking_loss_is_equation_6(lengths, seed):
    scores, targets, mask = left_padded(lengths, seed=seed)
    targets = (targets * 2).round()  # with ties
    for stage in range(2):
        rows = []
        for row in range(len(lengths)):
            own = [i for i in range(mask.shape[1]) if mask[row, i]]
            terms = []
            for i in own:
                for j in own:
                    if i < j:
                        sign = float((targets[row, stage, i] - targets[row, stage, j]).sign())
                        ahead = float(scores[row, stage, i] - scores[row, stage, j])
                        terms.append(math.log(1 + math.exp(-ahead * sign)))
            rows.append(sum(terms) / len(terms))
        found = losses.ranking_loss(scores, targets, mask)[stage]
        assert float(found) == pytest.approx(sum(rows) / len(rows), abs=1e-5)


def test_sampled_pairs_estimate_all_pairs():
    scores, targets, mask = left_padded([9, 5, 2])
    pairs = losses.sample_pairs(mask, 20000, torch.Generator().manual_seed(0))
    assert (pairs[..., 0] != pairs[..., 1]).all()
    assert mask.gather(1, pairs.flatten(1)).all()
    for row, n in enumerate([9, 5, 2]):
        assert len(torch.unique(pairs[row], dim=0)) == n * (n - 1)
    sampled = losses.ranking_loss(scores, targets, mask, pairs)
    torch.testing.assert_close(sampled, losses.ranking_loss(scores, targets, mask), atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="two tokens"):
        losses.sample_pairs(mask[:, -1:], 4, torch.Generator())


@settings(max_examples=25, deadline=None)
@given(lengths, st.integers(0, 100))
def test_mse_rate_and_correlation_ignore_pads(lengths, seed):
    scores, targets, mask = left_padded(lengths, seed=seed)
    ratio = torch.full((len(lengths), 2), 0.6)
    mse = torch.zeros(2)
    rate = torch.zeros(2)
    for row, n in enumerate(lengths):
        own, wanted = scores[row, :, -n:], targets[row, :, -n:]
        mse += ((own - wanted) ** 2).mean(1) / len(lengths)
        rate += (own.mean(1) - 0.6) ** 2 / len(lengths)
    torch.testing.assert_close(losses.mse_loss(scores, targets, mask), mse)
    torch.testing.assert_close(losses.rate_loss(scores, mask, ratio), rate)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=12), st.integers(0, 100))
def test_rank_correlation_is_spearmans(values, seed):
    pandas = pytest.importorskip("pandas")
    scores = torch.tensor([[values]], dtype=torch.float32)
    other = torch.randint(0, 5, scores.shape, generator=torch.Generator().manual_seed(seed)).float()
    ranks = [pandas.Series(x.flatten().numpy()).rank() for x in (scores, other)]
    constant = any(rank.nunique() == 1 for rank in ranks)
    expected = 0.0 if constant else ranks[0].corr(ranks[1])
    found = losses.rank_correlation(scores, other, torch.ones(1, len(values), dtype=torch.bool)).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_targets_are_standardised_log_saliency():
    generator = torch.Generator().manual_seed(0)
    _, _, mask = left_padded([9, 4])
    saliency = torch.rand(2, 3, 9, generator=generator).exp() * mask[:, None]
    saliency[0, 1] = 0.0  # a layer that nothing depends on
    saliency[0, 2, 3] = 0.0
    targets = losses.saliency_targets(saliency, mask, 0.9)
    assert torch.isfinite(targets).all() and (targets.masked_select(~mask[:, None].expand_as(targets)) == 0).all()
    for row, stage in ((0, 0), (0, 2), (1, 0), (1, 2)):
        own = targets[row, stage][mask[row]]
        assert own.mean().item() == pytest.approx(math.log(9), abs=1e-4)
        assert own.std(correction=0).item() == pytest.approx(1, abs=1e-4)
        assert (own.argsort() == saliency[row, stage][mask[row]].argsort()).all()
    assert targets[0, 1][mask[0]].tolist() == pytest.approx([math.log(9)] * 9)
    padded = torch.cat([torch.full((2, 3, 5), 7.0), saliency], dim=2)  # numbers on pads change nothing
    wide = torch.cat([torch.zeros(2, 5, dtype=torch.bool), mask], dim=1)
    torch.testing.assert_close(losses.saliency_targets(padded, wide, 0.9)[..., 5:], targets)


def test_distillation_and_answer_loss():
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor([[False, True, True, True], [False, False, False, True]])
    assert losses.distillation_loss(logits, logits, wanted).item() == pytest.approx(0, abs=1e-6)
    assert losses.distillation_loss(logits, logits.flip(-1), wanted) > 0.01
    labels = torch.randint(0, 7, (2, 4))
    expected = [-logits[r, c].log_softmax(-1)[labels[r, c]] for r, c in wanted.nonzero().tolist()]
    torch.testing.assert_close(losses.answer_loss(logits, labels, wanted), torch.stack(expected).mean())


def test_gumbel_mask_keeps_as_often_as_the_sigmoid_says():
    logits = torch.tensor([-2.0, 0.0, 2.2]).repeat(20000, 1).requires_grad_()
    kept = gumbel_keep(logits, torch.Generator().manual_seed(0))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(kept.mean(0), torch.tensor([-2.0, 0.0, 2.2]).sigmoid(), atol=0.01, rtol=0)
    kept.sum().backward()
    assert (logits.grad > 0).all()


def simulated(family, attention, lengths, answers=3):
    model, pruner = tiny_model(family, attention), tiny_pruner(LAYERS).requires_grad_(True)
    ids, mask = random_prompts(lengths)
    real = mask.bool()
    prompt = real & (torch.arange(mask.shape[1]) < mask.shape[1] - answers)
    return model, pruner, ids, real, prompt


def run(model, ids, real):
    positions = (real.long().cumsum(1) - 1).clamp(min=0)
    return model(input_ids=ids, attention_mask=real.long(), position_ids=positions, use_cache=False).logits


@pytest.mark.parametrize("family", ["llama", "mistral", "mistral-window", "qwen2", "demo"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masked_model_hides_dropped_tokens_from_all_others(family, attention):
    """Against the stock model under explicit masks, one row at a time, built here token by token."""
    lengths = [40, 31]
    model, pruner, ids, real, prompt = simulated(family, attention, lengths)
    masked = SimulatedPruning(model, pruner, SCHEDULE, prompt, real, torch.Generator().manual_seed(3))
    with masked.attached():
        logits = run(model, ids, real).detach()
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)
    dropped_ever = torch.zeros(())
    for row, n in enumerate(lengths):
        hidden_at = {layer: alive[row, -n:] == 0 for layer, alive in zip(LAYERS, masked.alive, strict=True)}
        dropped_ever = dropped_ever + hidden_at[5].sum()
        hidden, handles = torch.zeros(n, dtype=torch.bool), []
        for index, layer in enumerate(model.model.layers):
            hidden = hidden_at.get(index, hidden)
            window = getattr(layer.self_attn, "sliding_window", None)
            window = model.config.sliding_window if family == "mistral-window" else window
            visible = torch.tensor([
                [k == q or (k < q and not hidden[k] and (window is None or q - k < window)) for k in range(n)]
                for q in range(n)
            ])  # fmt: skip
            mask = torch.zeros(n, n).masked_fill(~visible, torch.finfo(torch.float32).min)[None, None]

            def hook(module, args, kwargs, mask=mask):
                return args, {**kwargs, "attention_mask": mask}

            handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
        with torch.no_grad():
            expected = model(ids[row : row + 1, -n:], use_cache=False).logits[0]
        [handle.remove() for handle in handles]
        torch.testing.assert_close(logits[row, -n:], expected, rtol=1e-4, atol=1e-4)
    assert dropped_ever > 10


def test_once_dropped_stays_dropped_and_forced_tokens_never_are():
    model, pruner, ids, real, prompt = simulated("llama", "sdpa", [40, 31, 9])
    for mlp in pruner.mlps.values():
        torch.nn.init.constant_(mlp[-1].bias, -1.0)
    masked = SimulatedPruning(model, pruner, SCHEDULE, prompt, real, torch.Generator().manual_seed(0))
    with masked.attached(), torch.no_grad():
        run(model, ids, real)
    alive = torch.stack(masked.alive)
    assert (alive[1:] <= alive[:-1]).all() and alive[-1].mean() < alive[0].mean() < 1
    assert (alive[:, ~prompt] == 1).all()
    for row, n in enumerate([37, 28, 6]):
        first = ids.shape[1] - 3 - n
        assert (alive[:, row, first : first + 2] == 1).all() and (alive[:, row, first + n - 3 : first + n] == 1).all()
    present = [37, 28, 6]
    for stage in range(3):
        present = [SCHEDULE.keep(n) for n in present]
        expected = torch.tensor(present) / torch.tensor([37, 28, 6])
        torch.testing.assert_close(masked.ratios()[:, stage], expected)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "demo"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("term", ["cls", "distill", "mse", "rank", "rate"])
def test_every_stage_gets_a_finite_gradient_from_every_term(family, attention, dtype, term):
    model, pruner, ids, real, prompt = simulated(family, attention, [40, 31])
    model.to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masked = SimulatedPruning(model, pruner, SCHEDULE, prompt, real, torch.Generator().manual_seed(0))
    with masked.attached():
        logits = run(model, ids, real)
    scores, alive = torch.stack(masked.scores, 1), torch.stack(masked.alive, 1)
    targets = losses.saliency_targets(torch.rand(scores.shape) + 0.1, prompt, 0.8)
    answer = (real & ~prompt)[:, 1:]
    value = {
        "cls": lambda: losses.answer_loss(logits[:, :-1], ids[:, 1:], answer),
        "distill": lambda: losses.distillation_loss(logits[:, :-1], run(model, ids, real)[:, :-1], answer),
        "mse": lambda: losses.mse_loss(scores, targets, prompt).sum(),
        "rank": lambda: losses.ranking_loss(scores, targets, prompt).sum(),
        "rate": lambda: losses.rate_loss(alive, prompt, masked.ratios()).sum(),
    }[term]()
    value.backward()
    for layer in LAYERS:
        for name, parameter in pruner.mlps[str(layer)].named_parameters():
            if not (term == "rank" and name == "2.bias"):  # pairs do not see a common shift
                assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 1e-7, (layer, name)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_dropped_tokens_get_the_gradient_of_multiplied_attention():
    """The mask is a factor of exp(logit): its gradient is the loss's slope in that factor, at a dropped token too."""
    model, pruner, ids, real, prompt = simulated("llama", "eager", [30])
    model.double()
    masked = SimulatedPruning(model, pruner, SCHEDULE, prompt, real, torch.Generator().manual_seed(0))

    def loss(weight):
        masked.alive, masked.masks = [weight], {}
        masked.decide = lambda layer, hidden: None
        with masked.attached():
            logits = run(model, ids, real)
        return losses.answer_loss(logits[:, :-1].double(), ids[:, 1:], (real & ~prompt)[:, 1:])

    weight = torch.ones(1, 30, dtype=torch.float64)
    weight[0, 12] = 0.0
    weight.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(weight), weight)
    for token in (7, 12):
        shift = 0.01 * torch.nn.functional.one_hot(torch.tensor([token]), 30)
        below = 0.0 if token == 12 else 1.0  # a weight cannot fall below 0
        with torch.no_grad():
            difference = (loss(weight + shift) - loss(weight - below * shift)) / (0.01 * (1 + below))
        assert gradient[0, token].item() == pytest.approx(difference.item(), rel=0.05)
        assert abs(gradient[0, token]) > 1e-3


def test_other_attention_and_float16_are_refused():
    model, pruner, ids, real, prompt = simulated("llama", "sdpa", [20])
    with pytest.raises(ValueError, match="float16"):
        with SimulatedPruning(model.half(), pruner, SCHEDULE, prompt, real, torch.Generator()).attached():
            pass
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="flash_attention_2"):
        with SimulatedPruning(model, pruner, SCHEDULE, prompt, real, torch.Generator()).attached():
            pass
