"""One prefill for many continuations and an answer: each as if the model had been asked it alone."""

from types import SimpleNamespace

import pytest
import torch
from helpers import generate, random_prompts, schedule_of, tiny_model, tiny_pruner

from sdtp_lib import TokenPruning
from sdtp_lib.evaluation.answers import greedy
from sdtp_lib.evaluation.likelihood import Prefilled

LENGTHS, PAD = [40, 23, 31], 0


def asked(seed=5):
    """(prompts, for each row three continuations of different lengths)"""
    ids, mask = random_prompts(LENGTHS)
    generator = torch.Generator().manual_seed(seed)
    texts = [[torch.randint(2, 97, (n + row,), generator=generator).tolist() for n in (1, 4, 2)] for row in range(3)]
    return [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)], texts


def by_hand(model, prompt, text):
    """(log-likelihood, tokens that are likeliest) from one plain pass of the full model."""
    logits = model(input_ids=torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
    target = torch.tensor(text)
    return float(logits.log_softmax(1).gather(1, target[:, None]).sum()), int((logits.argmax(1) == target).sum())


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma2"])
@torch.inference_mode()
def test_likelihoods_are_those_of_whole_passes(family):
    model, (prompts, texts) = tiny_model(family, None), asked()
    greedy = generate(model, *random_prompts(LENGTHS))[0].tolist()
    texts = [[*row, first] for row, first in zip(texts, greedy, strict=True)]
    found = Prefilled(model, prompts, PAD).score(texts)
    for prompt, row, likely in zip(prompts, texts, found, strict=True):
        for text, one in zip(row, likely, strict=True):
            total, best = by_hand(model, prompt, text)
            assert one.total == pytest.approx(total, rel=1e-3) and (one.greedy, one.tokens) == (best, len(text))
    assert all(row[-1].greedy == row[-1].tokens for row in found)


@torch.inference_mode()
def test_what_has_no_likelihood_is_refused():
    model, (prompts, texts) = tiny_model(), asked()
    with pytest.raises(ValueError, match="no tokens"):
        Prefilled(model, prompts, PAD).score([[[]], [[3]], [[4]]])
    with TokenPruning(schedule_of(), tiny_pruner((2, 3, 5)), prune="every")(model):
        with pytest.raises(ValueError, match="continuation was cut.*not 'every'"):
            Prefilled(model, prompts[:1], PAD).score([[texts[0][1] * 8]])


@pytest.mark.parametrize("pruned", [False, True])
@torch.inference_mode()
def test_nothing_asked_before_changes_what_is_asked_next(pruned):
    model, (prompts, texts) = tiny_model(), asked()
    pruning = TokenPruning(schedule_of() if pruned else schedule_of(layers=(), keep=1.0), tiny_pruner((2, 3, 5)))
    with pruning(model) as trace:
        once = Prefilled(model, prompts, PAD)
        answers, again = once.answer(6, set()), once.answer(6, set())
        scored, last = once.score(texts, last=False), once.score(texts)
    assert answers == again and scored == last
    for row, (prompt, own) in enumerate(zip(prompts, texts, strict=True)):
        with pruning(model):
            alone = Prefilled(model, [prompt], PAD)
            assert alone.answer(6, set()) == [answers[row]]
            for one, other in zip(alone.score([own])[0], scored[row], strict=True):
                assert one.total == pytest.approx(other.total, abs=1e-3)
    assert len(trace.prefills) == 1 and trace.prefills[0].pruned == pruned


@torch.inference_mode()
def test_an_answer_is_what_generate_gives():
    model, (prompts, _) = tiny_model(), asked()
    ids, mask = random_prompts(LENGTHS)
    with TokenPruning(schedule_of(), tiny_pruner((2, 3, 5)))(model):
        expected, _ = generate(model, ids, mask, 6)
    with TokenPruning(schedule_of(), tiny_pruner((2, 3, 5)))(model):
        read = Prefilled(model, prompts, PAD)
        assert read.answer(6, set()) == expected.tolist()
        assert read.answer(0, set()) == [[], [], []]
        ends = {expected[0, 2].item()}
        cut = [row[: next((i for i, token in enumerate(row) if token in ends), 6)] for row in expected.tolist()]
        assert read.answer(6, ends) == cut and len(cut[0]) <= 2
        assert read.answer(6, set(), lambda tokens: len(tokens) == 3) == expected[:, :3].tolist()


@torch.inference_mode()
def test_log_probabilities_may_be_finer_than_the_model():
    model, (prompts, texts) = tiny_model(dtype=torch.bfloat16), asked()
    coarse, fine = (Prefilled(model, prompts, PAD, dtype).score(texts)[0][1].total for dtype in (None, torch.float32))
    assert fine != coarse
    assert coarse == pytest.approx(fine, rel=0.05)


@torch.inference_mode()
def test_a_penalty_of_the_checkpoint_changes_no_answer():
    """What `generate` is asked for and the likeliest tokens one by one are the same answer."""
    model, (prompts, _) = tiny_model(), asked()
    expected = Prefilled(model, prompts[:1], PAD).answer(8, set())
    model.generation_config.repetition_penalty, model.generation_config.no_repeat_ngram_size = 1.8, 2
    words = SimpleNamespace(pad_token_id=PAD, eos_token_id=None)
    ids = torch.tensor(prompts[:1])
    assert greedy(model, words, ids, torch.ones_like(ids), 8)[:, ids.shape[1] :].tolist() == expected
