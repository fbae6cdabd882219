"""Whatever comes in: a right answer or a named ValueError, the same one every time, and a clean model afterwards."""

import threading
from functools import lru_cache

import pytest
import torch
from helpers import (
    FAMILIES,
    HIDDEN,
    check_against_reference,
    close,
    generate,
    random_prompts,
    schedule_of,
    tiny_model,
    tiny_pruner,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForSequenceClassification

from sdtp_lib import PruningSchedule, TokenPruner, TokenPruning

cached_model = lru_cache(maxsize=None)(tiny_model)

schedules = st.builds(
    PruningSchedule,
    layers=st.sets(st.integers(1, 5), min_size=1, max_size=5).map(lambda s: tuple(sorted(s))),
    keep_ratio=st.sampled_from([0.01, 0.1, 0.5, 0.7, 0.9, 1.0]),
    sink_tokens=st.integers(0, 5),
    local_ratio=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    min_local_tokens=st.integers(0, 20),
)


@settings(max_examples=60, deadline=None)
@given(
    schedule=schedules,
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    family=st.sampled_from(list(FAMILIES)),
    positions=st.sampled_from(["original", "compact"]),
)
def test_any_schedule_equals_masked_full_model(schedule, lengths, family, positions):
    model = cached_model(family, "eager")
    positions = positions if hasattr(model.base_model, "rotary_emb") else "original"
    check_against_reference(model, schedule, lengths, positions)


class Pattern:
    """Scores that ignore the hidden states: all equal, all zero, extreme, or with one bad value."""

    def __init__(self, name):
        self.name = name

    def score(self, layer, hidden_states, context):
        tokens = torch.arange(hidden_states.shape[1], dtype=torch.float32)
        scores = {
            "equal": torch.full_like(tokens, 0.3),
            "zero": torch.zeros_like(tokens),
            "extreme": torch.where(tokens % 2 == 0, 3e38, -3e38),
            "tiny": tokens.neg() * 1e-42,
            "nan": tokens.masked_fill(tokens == len(tokens) // 2, torch.nan),
            "infinite": tokens.masked_fill(tokens == len(tokens) // 2, torch.inf),
        }[self.name]
        return scores.expand(hidden_states.shape[:2])


@settings(max_examples=80, deadline=None)
@given(
    schedule=schedules,
    lengths=st.one_of(
        st.lists(st.integers(1, 300), min_size=1, max_size=4), st.lists(st.integers(1, 2000), min_size=1, max_size=2)
    ),
    pattern=st.sampled_from(["equal", "zero", "extreme", "tiny", "nan", "infinite"]),
    prune=st.sampled_from(["first", "every"]),
)
def test_any_prompt_gives_an_answer_or_a_named_error(schedule, lengths, pattern, prune):
    model, (ids, mask) = cached_model("gemma3"), random_prompts(lengths)
    pruning = TokenPruning(schedule, Pattern(pattern), prune=prune)
    runs = []
    for _ in range(2):
        try:
            with pruning(model) as trace, torch.no_grad():
                output = model(ids, attention_mask=mask)
                longer = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                model(ids[:, :1], attention_mask=longer, past_key_values=output.past_key_values)
        except ValueError as error:
            assert pattern in ("nan", "infinite") and "NaN or infinite" in str(error)
            assert all(hooks == 0 for hooks in hooks_of(model))
            return
        runs.append((output.logits, trace.kept_positions))
        assert all(columns.shape[1] > 0 for columns in trace.kept_positions.values())
        for layer, row in ((layer, row) for layer in schedule.layers for row in range(len(lengths))):
            kept = trace.kept_positions[layer][row]
            assert (kept >= 0).sum() == schedule.lengths(lengths[row], 6)[layer]
            assert kept[-1] == max(lengths) - 1
    (logits, kept), (again, same) = runs
    assert torch.equal(logits, again) and all(torch.equal(kept[layer], same[layer]) for layer in kept)
    if pattern in ("nan", "infinite"):  # then nothing was cut and no score was looked at
        assert not trace.pruned


def hooks_of(model):
    return [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("inside", [False, True], ids=["between-passes", "inside-a-layer"])
def test_leaving_by_an_exception_leaves_nothing_behind(error, inside):
    model, schedule = tiny_model(), schedule_of()
    ids, mask = random_prompts([40])
    before = generate(model, ids, mask)[1]
    attributes = [set(vars(m)) for m in model.modules()]

    def fail(*args):
        raise error

    handle = model.model.layers[4].mlp.register_forward_hook(fail) if inside else None
    with pytest.raises(error), TokenPruning(schedule, tiny_pruner(schedule.layers))(model):
        assert sum(hooks_of(model)) > 0
        if inside:
            model(ids)
        raise error
    if inside:
        handle.remove()
    assert sum(hooks_of(model)) == 0
    assert [set(vars(m)) for m in model.modules()] == attributes
    assert torch.equal(generate(model, ids, mask)[1], before)


def test_a_failed_pass_does_not_disturb_the_next_one_in_the_same_context():
    model, schedule = tiny_model(), schedule_of()
    ids, mask = random_prompts([40])
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model) as trace:
        expected = generate(model, ids, mask)[1]
        with pytest.raises(ValueError, match="left padding"):
            model(ids, attention_mask=torch.zeros_like(mask).index_fill(1, torch.arange(5), 1))
        again = generate(model, ids, mask)[1]
    assert torch.equal(expected, again) and len(trace.prefills) == 2


def run_in_threads(*jobs):
    results = [None] * len(jobs)

    def run(place, job):
        results[place] = [job() for _ in range(5)]

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_two_models_in_two_threads_do_not_mix():
    schedule = schedule_of()
    pruner, models = tiny_pruner(schedule.layers), [tiny_model("llama"), tiny_model("gemma3", seed=3)]
    prompts = [random_prompts([60, 41], seed=5), random_prompts([50], seed=6)]

    def job(model, prompt):
        with TokenPruning(schedule, pruner)(model):
            return generate(model, *prompt)[1]

    alone = [job(*pair) for pair in zip(models, prompts, strict=True)]
    together = run_in_threads(*[lambda pair=pair: job(*pair) for pair in zip(models, prompts, strict=True)])
    for expected, results in zip(alone, together, strict=True):
        assert all(close(logits, expected) for logits in results)


def test_one_context_serves_several_threads():
    model, schedule = tiny_model("qwen3"), schedule_of()
    prompts = [random_prompts([60, 41], seed=5), random_prompts([50], seed=6)]
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model) as trace:
        alone = [generate(model, *prompt)[1] for prompt in prompts]
        together = run_in_threads(*[lambda prompt=prompt: generate(model, *prompt)[1] for prompt in prompts])
    assert len(trace.prefills) == 12
    for expected, results in zip(alone, together, strict=True):
        assert all(close(logits, expected) for logits in results)


def test_bad_requests_are_refused_by_name():
    model, schedule = tiny_model(), schedule_of()
    pruner = tiny_pruner(schedule.layers)
    with pytest.raises(ValueError, match="layer 9"), TokenPruning(schedule_of(layers=(9,)), pruner)(model):
        pass
    with pytest.raises(ValueError, match="hidden size 8"), TokenPruning(schedule, TokenPruner(8, (2, 3, 5)))(model):
        pass
    with pytest.raises(ValueError, match=r"layers \[5\]"), TokenPruning(schedule, TokenPruner(HIDDEN, (2, 3)))(model):
        pass
    with pytest.raises(ValueError, match="needs a scorer"):
        TokenPruning(schedule)
    with pytest.raises(ValueError, match="positions"):
        TokenPruning(schedule, pruner, positions="other")
    with pytest.raises(ValueError, match="prune must"):
        TokenPruning(schedule, pruner, prune="never")
    with pytest.raises(ValueError, match="family 'Linear'"), TokenPruning(schedule, pruner)(torch.nn.Linear(2, 2)):
        pass
    model.config._attn_implementation = "flash_attention_3"
    with pytest.raises(ValueError, match="flash_attention_3"), TokenPruning(schedule, pruner)(model):
        pass


def test_bad_inputs_are_refused_by_name():
    model, schedule = tiny_model(), schedule_of()
    ids, mask = random_prompts([40, 30])
    for message, inputs in {
        "left padding": {"input_ids": ids, "attention_mask": mask.flip(1)},
        "row 1 of the batch is an empty prompt": {"input_ids": ids, "attention_mask": mask * torch.tensor([[1], [0]])},
        "empty prompt": {"input_ids": ids[:, :0]},
        "mask of shape": {"input_ids": ids, "attention_mask": mask[:, :1]},
        r"expected \(2, 40\)": {"input_ids": ids, "attention_mask": mask[:1]},
        "2-D attention mask": {"input_ids": ids, "attention_mask": mask[:, None, None]},
    }.items():
        with pytest.raises(ValueError, match=message), TokenPruning(schedule, tiny_pruner(schedule.layers))(model):
            model(**inputs)
    with pytest.raises(ValueError, match="expected"), TokenPruning(schedule, WrongShape())(model):
        model(ids[:1])


class Wrapper(torch.nn.Module):
    """As PEFT does it: the model's configuration on a module that is not the model."""

    def __init__(self, model):
        super().__init__()
        self.config, self.base_model = model.config, model


def test_models_that_are_no_causal_language_model_are_refused_by_name():
    schedule, llama = schedule_of(), tiny_model()
    pruning = TokenPruning(schedule, tiny_pruner(schedule.layers))
    bidirectional = tiny_model("gemma3")
    bidirectional.config.use_bidirectional_attention = True
    for model, message in (
        (Wrapper(llama), "Wrapper is neither .* get_base_model"),
        (LlamaForSequenceClassification(llama.config), "LlamaForSequenceClassification is neither"),
        (bidirectional, "not causal"),
    ):
        with pytest.raises(ValueError, match=message), pruning(model):
            pass
        assert all(hooks == 0 for hooks in hooks_of(model))


def test_several_prompts_in_one_row_are_refused():
    model, schedule, ids = tiny_model(), schedule_of(), random_prompts([40])[0]
    packed = torch.arange(20).repeat(2)[None]
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model), pytest.raises(ValueError, match="packed"):
        model(ids, position_ids=packed, use_cache=False)


def test_gradient_checkpointing_is_refused():
    model, schedule, ids = tiny_model().train(), schedule_of(), random_prompts([40])[0]
    model.gradient_checkpointing_enable()
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model), pytest.raises(ValueError, match="checkpointing"):
        model(ids)


def test_gradient_checkpointing_of_the_layers_alone_is_refused():
    model, schedule, ids = tiny_model(), schedule_of(), random_prompts([40])[0]
    model.gradient_checkpointing_enable()
    model.eval().model.layers.train()  # it is the layers that run twice
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model), pytest.raises(ValueError, match="checkpointing"):
        model(ids)


@pytest.mark.parametrize("least", [-1, 2.5, float("nan"), True])
def test_a_shortest_prompt_that_is_no_whole_number_is_refused(least):
    with pytest.raises(ValueError, match="min_prompt_tokens must be a whole number"):
        TokenPruning(schedule_of(), tiny_pruner((2, 3, 5)), min_prompt_tokens=least)


def test_a_window_that_a_family_does_not_heed_changes_nothing():
    """Checkpoints converted to Llama keep the window of what they came from in their configuration."""
    model = tiny_model()
    model.config.sliding_window = 8
    schedule, (ids, _) = schedule_of(), random_prompts([40])
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model), torch.no_grad():
        ours = model(ids, use_cache=False).logits
    plain = tiny_model()
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(plain), torch.no_grad():
        assert torch.equal(ours, plain(ids, use_cache=False).logits)


class RunsItsLayer:
    """A scorer that looks at what the layer makes of the tokens."""

    def score(self, layer, hidden_states, context):
        output = context.module(hidden_states, position_embeddings=context.position_embeddings)
        return (output[0] if isinstance(output, tuple) else output).norm(dim=-1)


def test_a_scorer_may_run_its_layer_and_others_may_too():
    model, schedule, ids = tiny_model(), schedule_of(), random_prompts([40])[0]
    with TokenPruning(schedule, RunsItsLayer())(model) as trace, torch.no_grad():
        model(ids)
        hidden = model.get_input_embeddings()(ids)
        cos_sin = model.model.rotary_emb(hidden, torch.arange(40)[None])
        alone = model.model.layers[3](hidden, position_embeddings=cos_sin)
    assert trace.pruned and torch.equal(alone, model.model.layers[3](hidden, position_embeddings=cos_sin))


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma3"])
def test_padded_batches_pass_where_no_stage_is(family):
    model, prompt = tiny_model(family, None), random_prompts([40, 23])
    stock = generate(model, *prompt)[1]
    with TokenPruning(PruningSchedule.preset("none", 6))(model):
        assert torch.equal(generate(model, *prompt)[1], stock)


class WrongShape:
    """A scorer that answers with one score too few."""

    def score(self, layer, hidden_states, context):
        return torch.zeros(hidden_states.shape[0], hidden_states.shape[1] - 1)
