"""The pruner that reads the question: what it looks at, what it costs, and that the engine prunes by it rightly."""

import pytest
import torch
from helpers import HIDDEN, check_against_reference, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from sdtp_lib import PruningSchedule, TokenPruner, TokenPruning
from sdtp_lib.latency.flops import LAYOUTS, layer_flops
from sdtp_lib.models.shapes import shape_config
from sdtp_lib.pruning.scoring import ScoringContext
from sdtp_lib.scorers.question_aware import POOLS, QuestionAwarePruner, last_places

LAYERS = (2, 3, 5)


def question_pruner(seed=1, **options):
    torch.manual_seed(seed)
    options = {"window": 5, "rank": 4, "heads": 3, **options}
    return QuestionAwarePruner(HIDDEN, LAYERS, **options).requires_grad_(False).eval()


def by_hand(pruner, layer, hidden, prompt):
    """Keep logits of one row, token by token."""
    unit = [h * HIDDEN**0.5 / h.norm() for h in hidden]
    mlp, match = pruner.mlps[str(layer)], pruner.matches[str(layer)]
    asking = [unit[i] for i in range(len(unit)) if prompt[i]][-pruner.window :]
    scores = []
    for token in unit:
        score = mlp(token)[0] if pruner.width else mlp[-1].bias[0]
        for head in range(pruner.heads):
            rows = slice(head * pruner.rank, (head + 1) * pruner.rank)
            answer = match.answer[rows] @ token
            products = [(match.ask[rows] @ q) @ answer / pruner.rank**0.5 for q in asking]
            products = torch.stack(products) * match.log_temperature[head].exp()
            pooled = {"mean": products.mean(), "max": products.max(), "lse": products.exp().mean().log()}
            score = score + match.weight[head] * pooled[pruner.pool]
        scores.append(score)
    return torch.stack(scores)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("width", [None, 3, 0])
def test_scores_are_those_worked_out_token_by_token(pool, width):
    pruner = question_pruner(pool=pool, width=width)
    for match in pruner.matches.values():
        match.log_temperature[:] = torch.tensor([0.5, -0.5, 0.1])
    hidden = torch.randn(3, 11, HIDDEN, generator=torch.Generator().manual_seed(3))
    prompt = torch.ones(3, 11, dtype=torch.bool)
    prompt[0, :4] = False  # pads
    prompt[1, 8:] = False  # an answer
    prompt[2, :8] = False  # shorter than the window
    scores = pruner(3, hidden, prompt)
    for row in range(3):
        torch.testing.assert_close(scores[row], by_hand(pruner, 3, hidden[row], prompt[row]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pruner(3, hidden)[1], by_hand(pruner, 3, hidden[1], torch.ones(11, dtype=torch.bool)))


def test_only_the_window_asks():
    pruner, hidden = question_pruner(), torch.randn(1, 12, HIDDEN)
    before = pruner(2, hidden)
    changed = hidden.clone()
    changed[:, 6] += 1
    torch.testing.assert_close(pruner(2, changed)[:, :6], before[:, :6])
    changed = hidden.clone()
    changed[:, 7] += 1
    assert not torch.isclose(pruner(2, changed)[:, :6], before[:, :6]).any()


@settings(max_examples=50)
@given(st.integers(0, 6), st.integers(1, 12), st.integers(0, 5), st.integers(1, 9))
def test_last_places(pads, prompt, answer, window):
    mask = torch.tensor([[False] * pads + [True] * prompt + [False] * answer])
    places, real = last_places(torch.zeros(1, mask.shape[1], 2), mask, window)
    expected = list(range(pads + prompt))[-min(window, prompt) :]
    assert places[0][real[0]].tolist() == expected and places.shape == (1, window)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "demo", "gemma3"])
@pytest.mark.parametrize("positions", ["original", "compact"])
def test_pruning_by_it_equals_the_masked_full_model(family, attention, positions):
    schedule = schedule_of(layers=LAYERS, keep=(0.5, 0.9, 0.7))
    check_against_reference(tiny_model(family, attention), schedule, [40, 23, 9], positions, scorer=question_pruner())


def test_keep_1_is_bit_equal_to_the_stock_model():
    model, (ids, mask) = tiny_model("llama"), random_prompts([30, 21])
    _, stock = generate(model, ids, mask)
    with TokenPruning(schedule_of(1.0, LAYERS), question_pruner())(model):
        _, ours = generate(model, ids, mask)
    assert torch.equal(ours, stock)


@pytest.mark.parametrize(
    "options", [{}, {"pool": "mean", "width": 0}, {"heads": 1, "rank": 7, "window": 2, "width": 9}]
)
def test_a_saved_one_comes_back_and_knows_what_it_is(tmp_path, options):
    ours = question_pruner(**options)
    ours.save_pretrained(tmp_path)
    loaded = TokenPruner.from_pretrained(tmp_path)
    hidden = torch.randn(2, 9, HIDDEN)
    assert type(loaded) is QuestionAwarePruner and loaded.options == ours.options
    assert torch.equal(loaded(5, hidden), ours(5, hidden))
    assert type(QuestionAwarePruner.from_pretrained(tmp_path)) is QuestionAwarePruner
    tiny_pruner(LAYERS).save_pretrained(tmp_path / "mlp")
    with pytest.raises(ValueError, match="holds a TokenPruner, which is no QuestionAwarePruner"):
        QuestionAwarePruner.from_pretrained(tmp_path / "mlp")


@pytest.mark.parametrize("options, message", [
    ({"pool": "sum"}, "unknown pool 'sum'; known: lse"), ({"window": 0}, "window must be"),
    ({"rank": 1.5}, "rank must"), ({"heads": True}, "heads must"), ({"width": -1}, "width must"),
])  # fmt: skip
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        QuestionAwarePruner(HIDDEN, LAYERS, **options)


@pytest.mark.parametrize("make", [lambda: tiny_pruner(LAYERS), question_pruner, lambda: question_pruner(width=0)])
def test_flops_are_those_that_torch_counts(make):
    pruner, hidden = make(), torch.randn(1, 50, HIDDEN)
    context = ScoringContext(torch.nn.Identity(), torch.ones(1, 50, dtype=torch.bool), None, None, 5)
    with FlopCounterMode(display=False) as counter:
        pruner.score(3, hidden, context)
    assert pruner.flops(50) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_it_costs_under_one_percent_of_a_7b_prefill():
    config, tokens = shape_config(), 4096
    assert config.model_type in LAYOUTS
    schedule = PruningSchedule.preset("paper", 32)
    with torch.device("meta"):
        pruner = QuestionAwarePruner(config.hidden_size, schedule.layers)
        paper = TokenPruner(config.hidden_size, schedule.layers)
    lengths = schedule.lengths(tokens, 32)
    layers = layer_flops(config, lengths, scored=schedule.layers)
    assert sum(row["pruner"] for row in layers) == sum(paper.flops(lengths[i - 1]) for i in schedule.layers)
    model = sum(sum(row.values()) - row["pruner"] for row in layers)
    cost = sum(pruner.flops(lengths[layer - 1]) for layer in schedule.layers)
    assert 0.001 < cost / model < 0.01


def test_bfloat16_scores_stay_close_to_float32():
    pruner, hidden = question_pruner(), torch.randn(2, 30, HIDDEN, generator=torch.Generator().manual_seed(0))
    expected = pruner(2, hidden)
    low = pruner.bfloat16()(2, hidden.bfloat16())
    assert (low.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_no_matrix_of_tokens_by_tokens_is_formed():
    pruner, seen = question_pruner(), []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            seen.extend(t.numel() for t in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(t))
            return out

    with Watch():
        pruner(2, torch.randn(1, 2000, HIDDEN))
    assert max(seen) <= 2000 * HIDDEN
