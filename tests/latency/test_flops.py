"""FLOPs and bytes against PyTorch's counter, real caches and real weights, over every family."""

import pytest
import torch
from helpers import FAMILIES, HIDDEN, LOCAL_WINDOW, VOCABULARY, random_prompts, schedule_of, tiny_model, tiny_pruner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, LlamaConfig, MistralConfig, Qwen2Config, Qwen3MoeConfig, Qwen3MoeForCausalLM

from sdtp_lib.latency import flops
from sdtp_lib.models.shapes import shape_config
from sdtp_lib.paper import TABLE2
from sdtp_lib.pruning import families as adapters
from sdtp_lib.pruning.context import TokenPruning
from sdtp_lib.pruning.schedule import PruningSchedule

LAYERS, TOKENS, NEW = 6, 60, 5
SCHEDULES = {"full": PruningSchedule(()), "pruned": schedule_of()}
MISTRAL_7B = shape_config()
SIZES = dict(
    hidden_size=64, intermediate_size=112, num_hidden_layers=LAYERS, num_attention_heads=8, num_key_value_heads=2,
)  # fmt: skip


def countable(model):
    """The model, its experts a loop of plain products: the counter does not know the default, grouped ones."""
    if flops.LAYOUTS[model.config.model_type].experts:
        model.set_experts_implementation("eager")
    return model


def counted(run):
    """PyTorch's count, which takes attention as dense whatever its mask, and on a CPU only in its plain kernel."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter


def of_layers(counter):
    """FLOPs of each decoder layer, its pruner included."""
    parts = {}
    for name, ops in counter.get_flop_counts().items():
        head, _, last = name.rpartition(".")
        if last.isdigit() and head.endswith((".layers", ".h")):
            parts[int(last)] = sum(ops.values())
    return [parts[layer] for layer in sorted(parts)]


def test_every_supported_family_is_counted():
    assert set(flops.LAYOUTS) == set(adapters.FAMILIES)
    assert {tiny_model(family, None).config.model_type for family in FAMILIES} == set(flops.LAYOUTS)


@pytest.mark.parametrize("side", SCHEDULES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_agrees_with_the_flop_counter_and_the_cache(family, side):
    schedule, model = SCHEDULES[side], countable(tiny_model(family, None, LAYERS))
    config, cache, ids = model.config, DynamicCache(config=model.config), random_prompts([TOKENS])[0]
    lengths = schedule.lengths(TOKENS, LAYERS)

    def decode():
        for step in range(NEW - 1):
            model(ids[:, step : step + 1], past_key_values=cache, logits_to_keep=1)

    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model) as trace:
        prefill = counted(lambda: model(ids, past_key_values=cache, logits_to_keep=1))
        steps = counted(decode)

    layers = flops.layer_flops(config, lengths, causal=False, scored=schedule.layers)
    assert [sum(layer.values()) for layer in layers] == of_layers(prefill)
    ours = flops.prefill_flops(config, lengths, causal=False, scored=schedule.layers)
    assert ours == pytest.approx(prefill.get_total_flops(), rel=1e-3)  # some versions count the rotary embedding
    for kept in (lengths, trace.kv_lengths):  # a sliding layer may be given by its tokens or by what its cache holds
        assert flops.decode_flops(config, kept, NEW) == pytest.approx(steps.get_total_flops(), rel=1e-3)
    both = flops.schedule_flops(config, schedule, TOKENS, NEW, causal=False)
    assert both == ours + flops.decode_flops(config, lengths, NEW)

    held = sum(part.keys.nbytes + part.values.nbytes for part in cache.layers)
    assert flops.kv_bytes(config, [n + NEW - 1 for n in lengths], torch.float32) == held


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decode_step_reads_the_weights_it_meets(family):
    model = tiny_model(family, None, LAYERS, dtype=torch.bfloat16)
    config, read = model.config, 0
    for name, weights in model.named_parameters():
        if weights.dim() < 2 or "bias" in name or ("embed" in name and not config.tie_word_embeddings):
            continue
        share = config.num_experts_per_tok / len(weights) if weights.dim() == 3 else 1
        read += share * weights.nbytes
    assert flops.decode_bytes(config, [30] * LAYERS, 2, torch.bfloat16)[0] == read


def test_a_decode_step_reads_the_cache_it_meets():
    config = MistralConfig(sliding_window=None, **SIZES)
    a_token = 2 * 2 * 8 * 2  # keys and values, 2 heads of 8, 2 bytes
    _, cache = flops.decode_bytes(config, [30, 30, 20, 20, 10, 10], 3, torch.bfloat16)
    assert cache == a_token * (31 + 31 + 21 + 21 + 11 + 11 + 32 + 32 + 22 + 22 + 12 + 12)
    assert flops.decode_bytes(config, [30] * LAYERS, 1, torch.bfloat16) == (0, 0)


def test_qwen3_moe_mixes_dense_and_sparse_layers():
    options = dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=16, decoder_sparse_step=2)
    config = Qwen3MoeConfig(head_dim=8, vocab_size=VOCABULARY, mlp_only_layers=[1], **options, **SIZES)
    model = countable(Qwen3MoeForCausalLM(config).eval())
    layers = flops.layer_flops(config, [TOKENS] * LAYERS, causal=False)
    ids = random_prompts([TOKENS])[0]
    assert [sum(layer.values()) for layer in layers] == of_layers(counted(lambda: model(ids)))
    sparse = 2 * 64 * (3 * 3 * 16 + 8) * TOKENS
    assert [layer["mlp"] == sparse for layer in layers] == [False, False, False, True, False, True]


def test_every_logit_costs_a_head_and_a_prefill_has_one():
    model, ids = tiny_model("mistral"), random_prompts([TOKENS])[0]
    one, all_of_them = (counted(lambda n=n: model(ids, logits_to_keep=n)).get_total_flops() for n in (1, TOKENS))
    assert flops.prefill_flops(model.config, [TOKENS] * LAYERS, False) == pytest.approx(one, rel=1e-3)
    assert all_of_them - one == 2 * HIDDEN * VOCABULARY * (TOKENS - 1)


def test_a_stage_that_cuts_nothing_scores_nothing():
    model, schedule = tiny_model("llama"), schedule_of(min_local_tokens=TOKENS)
    ids, bare = random_prompts([TOKENS])[0], flops.prefill_flops(model.config, [TOKENS] * LAYERS)
    assert flops.schedule_flops(model.config, schedule, TOKENS) == bare
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model):
        counter = counted(lambda: model(ids, logits_to_keep=1))
    dense = flops.schedule_flops(model.config, schedule, TOKENS, causal=False)
    assert dense == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_mistral_7b_per_token_and_per_pair():
    one, two = (
        sum(sum(layer.values()) for layer in flops.layer_flops(MISTRAL_7B, [n] * 32, causal=False)) for n in (1, 2)
    )
    square = 4 * 4096 * 32  # 4 d L
    assert (two - 2 * one) == 2 * square
    assert (one - square) / 1e9 == pytest.approx(13.96, abs=0.005)
    head = flops.prefill_flops(MISTRAL_7B, [1] * 32, causal=False) - one
    assert head / 1e9 == pytest.approx(0.26, abs=0.005)


def test_pruner_is_under_one_percent():
    schedule = PruningSchedule.preset("paper", 32)
    layers = flops.layer_flops(MISTRAL_7B, schedule.lengths(4096, 32), scored=schedule.layers)
    assert [layer for layer, parts in enumerate(layers) if parts["pruner"]] == list(schedule.layers)
    whole, pruner = (sum(sum(parts[name] for name in names) for parts in layers) for names in (layers[0], ["pruner"]))
    assert 0 < pruner / (whole - pruner) < 0.01


@pytest.mark.parametrize("tokens", TABLE2)
def test_paper_formula_recomputes_the_full_column_of_table_2(tokens):
    for part, new in (("prefill", 0), ("end2end", 128)):
        assert flops.paper_flops(tokens, new) / 1e12 == pytest.approx(TABLE2[tokens][f"{part} TFLOPs full"], rel=1e-4)


@given(tokens=st.integers(1, 40), window=st.integers(1, 45), new=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_causal_pairs_under_a_sliding_window(tokens, window, new):
    config, bare = (MistralConfig(sliding_window=each, **SIZES) for each in (window, None))
    per_pair = 4 * 64 * LAYERS
    places = torch.arange(tokens + new - 1)
    back = places[:, None] - places
    seen = ((back >= 0) & (back < window)).sum(1)
    difference = flops.prefill_flops(bare, [tokens] * LAYERS) - flops.prefill_flops(config, [tokens] * LAYERS)
    assert difference == per_pair * (tokens * (tokens + 1) // 2 - int(seen[:tokens].sum()))
    difference = flops.decode_flops(bare, [tokens] * LAYERS, new) - flops.decode_flops(config, [tokens] * LAYERS, new)
    assert difference == per_pair * (int((places[tokens:] + 1).sum()) - int(seen[tokens:].sum()))


def test_windows_are_read_per_layer():
    types = ["sliding_attention", "full_attention"] * 3
    config = Qwen2Config(use_sliding_window=True, sliding_window=LOCAL_WINDOW, layer_types=types, **SIZES)
    lengths = [50] * LAYERS
    saved = flops.prefill_flops(Qwen2Config(**SIZES), lengths) - flops.prefill_flops(config, lengths)
    assert saved == 3 * 4 * 64 * (50 * 51 // 2 - (8 * 9 // 2 + 42 * 8))
    assert flops.kv_bytes(config, lengths, torch.bfloat16) == 3 * 2 * 2 * 8 * 2 * (50 + LOCAL_WINDOW - 1)


def test_a_window_that_the_family_does_not_heed_counts_nothing():
    lengths = [50] * LAYERS
    carried = LlamaConfig(**SIZES, sliding_window=8)  # as a conversion leaves it
    assert flops.prefill_flops(carried, lengths) == flops.prefill_flops(LlamaConfig(**SIZES), lengths)


def test_what_cannot_be_counted_is_refused_by_name():
    config = LlamaConfig(**SIZES)
    with pytest.raises(ValueError, match="5 lengths for a model of 6 layers"):
        flops.prefill_flops(config, [8] * 5)
    with pytest.raises(ValueError, match="never grow"):
        flops.prefill_flops(config, [8, 8, 8, 9, 8, 8])
    with pytest.raises(ValueError, match="1 or more"):
        flops.kv_bytes(config, [8, 8, 8, 8, 8, 0], torch.float32)
    with pytest.raises(ValueError, match=r"scored layers must lie in 1 to 5, got \[0\]"):
        flops.layer_flops(config, [8] * LAYERS, scored=[0])
    with pytest.raises(ValueError, match="new_tokens"):
        flops.decode_flops(config, [8] * LAYERS, 0)
    config.model_type = "gpt2"
    with pytest.raises(ValueError, match="'gpt2'"):
        flops.kv_bytes(config, [8] * LAYERS, torch.float32)
