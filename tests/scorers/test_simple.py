"""Every baseline: row-wise, deterministic, and each for the reason in its name."""

import pytest
import torch
from helpers import FAMILIES, random_prompts, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from small_records import small_tokenizer

from sdtp_lib.evaluation.methods import BASELINES, METHODS, make_scorer
from sdtp_lib.evaluation.oracle import OracleScorer
from sdtp_lib.pruning.context import TokenPruning
from sdtp_lib.pruning.families import ModelAdapter
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.pruning.scoring import ScoringContext
from sdtp_lib.scorers.attention import CumulativeAttentionScorer, LastWindowAttentionScorer
from sdtp_lib.scorers.simple import RandomScorer, token_rank

LAYER = 2


@pytest.fixture(scope="module")
def words():
    return small_tokenizer()


def layer_input(model, ids, mask, layer=LAYER):
    """(hidden states, ScoringContext) at the input of a layer of the stock model."""
    seen = {}

    def hook(module, args, kwargs):
        seen.update(kwargs, hidden=args[0])

    module = ModelAdapter.of(model).layers[layer]
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, output_attentions=True, use_cache=False)
    handle.remove()
    given = [seen.get(name) for name in ("position_ids", "position_embeddings", "alibi")]
    context = ScoringContext(module, mask.bool(), *given[:2], 16, alibi=given[2], ids=ids)
    return seen["hidden"], context, out.attentions[layer]


@pytest.mark.parametrize("name", BASELINES)
def test_a_padded_row_scores_like_the_row_alone(name, words):
    model, lengths = tiny_model(attention="eager"), [40, 9, 23]
    ids, mask = random_prompts(lengths)
    hidden, context, _ = layer_input(model, ids, mask)
    scorer = make_scorer(name, tokenizer=words)
    together = scorer.score(LAYER, hidden, context)
    assert together.shape == mask.shape and torch.isfinite(together[mask.bool()]).all()
    for row, length in enumerate(lengths):
        hidden, context, _ = layer_input(model, ids[row : row + 1, -length:], mask[row : row + 1, -length:])
        alone = scorer.score(LAYER, hidden, context)
        torch.testing.assert_close(together[row, -length:], alone[0], atol=1e-5, rtol=1e-4)


def mask_context(mask, generator=None):
    return ScoringContext(torch.nn.Identity(), mask, None, None, 16, generator)


def noise(length, layer=1, seed=0, generator=None):
    mask = torch.ones(1, length, dtype=torch.bool)
    return RandomScorer(seed).score(layer, torch.zeros(1, length, 4), mask_context(mask, generator))[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 80), st.integers(2000, 4000))
def test_random_noise_is_uniform_and_uncorrelated(seed, layer, length):
    scores = noise(length, layer, seed)
    assert 0 <= scores.min() and scores.max() < 1
    counts = torch.histc(scores, bins=10, min=0, max=1) / length
    assert (counts - 0.1).abs().max() < 0.045  # about five standard errors at 2,000 tokens
    others = [noise(length, layer + 1, seed), noise(length, layer, seed + 1), noise(length + 1, layer, seed)[:-1]]
    others += [scores.roll(1), torch.arange(length).float()]
    for other in others:
        assert torch.corrcoef(torch.stack([scores, other]))[0, 1].abs() < 0.13


def test_random_noise_is_fixed_by_its_seed_or_the_generator():
    assert torch.equal(noise(50, seed=3), noise(50, seed=3))
    assert not torch.equal(noise(50, seed=3), noise(50, seed=4))
    first, second = (noise(50, generator=torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first, second)
    generator = torch.Generator().manual_seed(9)
    assert not torch.equal(noise(50, generator=generator), noise(50, generator=generator))


def test_recency_and_norm_rank_as_they_say():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]).bool()
    assert token_rank(mask).tolist() == [[-1, -1, 0, 1, 2], [0, 1, 2, 3, 4]]
    hidden = torch.arange(10.0).reshape(2, 5, 1) * torch.tensor([3.0, -4.0])
    assert make_scorer("recency").score(1, hidden, mask_context(mask))[0, 2:].tolist() == [0, 1, 2]
    norm = make_scorer("norm").score(1, hidden, mask_context(mask))
    torch.testing.assert_close(norm, 5 * torch.arange(10.0).reshape(2, 5))


@pytest.mark.parametrize("family", FAMILIES)
def test_window_attention_scores_are_those_of_the_model(family):
    layer = 3  # sees everything in every family but those whose layers all have a window
    model = tiny_model(family, attention="eager")
    if family.endswith("-window"):
        pytest.skip("attention scores look beyond a layer's window on purpose")
    ids, mask = random_prompts([30, 18])
    hidden, context, attention = layer_input(model, ids, mask, layer)
    scores = LastWindowAttentionScorer(window=5).score(layer, hidden, context)
    wanted = attention[:, :, -5:].mean(dim=(1, 2))[..., :30]  # gpt-oss appends its sinks
    torch.testing.assert_close(scores[mask.bool()], wanted[mask.bool()], atol=1e-5, rtol=1e-4)
    if family != "gpt_oss":
        torch.testing.assert_close((scores * mask).sum(1), torch.ones(2))


@pytest.mark.parametrize("family", FAMILIES)
def test_cumulative_attention_is_the_sum_over_the_whole_attention_map(family):
    layer, model = 3, tiny_model(family, attention="eager")
    if family.endswith("-window"):
        pytest.skip("attention scores look beyond a layer's window on purpose")
    ids, mask = random_prompts([30, 18])
    hidden, context, attention = layer_input(model, ids, mask, layer)
    wanted = (attention * mask[:, None, :, None]).sum(dim=2).mean(dim=1)[..., :30]  # without what pads ask
    for chunk in (1, 7, 30, 128):
        scores = CumulativeAttentionScorer(chunk).score(layer, hidden, context)
        torch.testing.assert_close(scores[mask.bool()], wanted[mask.bool()], atol=1e-5, rtol=1e-4)
    if family != "gpt_oss":
        torch.testing.assert_close((scores * mask).sum(1), mask.sum(1).float())  # every query pays 1 in all


def test_cumulative_attention_keeps_no_map_of_all_tokens(monkeypatch):
    ids, mask = random_prompts([300])
    hidden, context, _ = layer_input(tiny_model(attention="eager"), ids, mask)
    largest, softmax = [], torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, **options: largest.append(x.shape) or softmax(x, **options))
    make_scorer("h2o").score(LAYER, hidden, context)
    assert [shape[2:] for shape in largest] == [(128, 300), (128, 300), (44, 300)]


def test_the_attention_window_may_follow_the_schedule():
    ids, mask = random_prompts([30])
    hidden, context, _ = layer_input(tiny_model(attention="eager"), ids, mask)
    followed, sixteen = (LastWindowAttentionScorer(window).score(LAYER, hidden, context) for window in (None, 16))
    assert torch.equal(followed, sixteen)  # the context has 16 local tokens
    assert not torch.equal(followed, LastWindowAttentionScorer(4).score(LAYER, hidden, context))


@pytest.mark.parametrize("name", ["attention", "h2o"])
def test_attention_refuses_a_layer_without_projections(name):
    with pytest.raises(ValueError, match="projections.*Identity"):
        make_scorer(name).score(1, torch.zeros(1, 3, 4), mask_context(torch.ones(1, 3).bool()))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_runs_through_the_engine(name, words):
    ids, mask = random_prompts([60, 45])
    schedule = PruningSchedule(layers=(2, 4), keep_ratio=0.5, min_local_tokens=4)
    model = tiny_model()
    with TokenPruning(schedule, make_scorer(name, tokenizer=words))(model) as trace:
        model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=2, do_sample=False)
    assert (trace.kept_positions[4] >= 0).sum(1).tolist() == [15, 11]


def test_make_scorer_knows_its_methods():
    pruner = object()
    assert make_scorer("full") is None and make_scorer("sdtp", pruner) is pruner
    assert make_scorer("random", seed=5) == RandomScorer(5)
    assert ("full", "sdtp", *BASELINES, "oracle") == METHODS  # those that options name, and the scorers there are
    assert make_scorer("oracle") == OracleScorer() and make_scorer("oracle") is not make_scorer("oracle")
    with pytest.raises(ValueError, match="unknown method 'best'; known: full, sdtp, random"):
        make_scorer("best")
    with pytest.raises(ValueError, match="needs a trained pruner"):
        make_scorer("sdtp")
    with pytest.raises(ValueError, match="'bm25' needs the model's tokenizer"):
        make_scorer("bm25")


def test_the_window_of_last_tokens_is_an_option_of_those_that_ask():
    assert [make_scorer(name, window=7).window for name in ("attention", "strongest")] == [7, 7]
    with pytest.raises(ValueError, match="'random' asks with no window"):
        make_scorer("random", window=7)
    with pytest.raises(ValueError, match="window must be a whole number, 1 or more, got 0"):
        make_scorer("attention", window=0)


@pytest.mark.parametrize("name", ["attention", "strongest", "h2o"])
def test_attention_of_large_keys_fits_float16(name):
    """Biases of queries and keys may be large where float16 holds the scaled product alone."""
    model, (ids, _) = tiny_model("qwen2", "sdpa").half(), random_prompts([60])
    for layer in model.model.layers:
        layer.self_attn.q_proj.bias.data.fill_(180.0)
        layer.self_attn.k_proj.bias.data.fill_(180.0)
    schedule = PruningSchedule(layers=(2,), keep_ratio=0.5, min_local_tokens=4)
    with TokenPruning(schedule, make_scorer(name))(model), torch.no_grad():
        assert model(ids).logits.isfinite().all()


@pytest.mark.parametrize("make", [lambda: LastWindowAttentionScorer(-3), lambda: CumulativeAttentionScorer(0)])
def test_attention_asked_by_no_token_is_refused(make):
    with pytest.raises(ValueError, match="must be a whole number, 1 or more"):
        make()
