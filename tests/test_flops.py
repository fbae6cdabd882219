import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, MistralConfig, Qwen2Config

from sdtp_lib import flops
from sdtp_lib.pruning import TokenPruning
from sdtp_lib.schedule import PruningSchedule
from sdtp_lib.scorers import TokenPruner

SIZES = dict(hidden_size=64, intermediate_size=112, num_hidden_layers=6, num_attention_heads=8, vocab_size=96)
CONFIGS = {
    "llama": LlamaConfig(num_key_value_heads=8, **SIZES),
    "mistral": MistralConfig(num_key_value_heads=2, sliding_window=None, **SIZES),
    "qwen2": Qwen2Config(num_key_value_heads=4, **SIZES),
}
# The paper's Mistral-7B: 32 layers of 4,096, grouped-query attention with 8 of 32 heads.
MISTRAL_7B = MistralConfig(
    hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
    vocab_size=32000, sliding_window=None,
)  # fmt: skip
TABLE_2 = {  # tokens: TFLOPs of the full model, prefill and with 128 new tokens
    4096: (72.51, 74.78), 8192: (158.22, 160.70), 16384: (369.22, 372.11), 32768: (949.54, 953.25),
    65536: (2743.46, 2748.83), 131072: (8864.49, 8873.15),
}  # fmt: skip


def tiny(family):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[family], attn_implementation="sdpa").eval()


def counted(run):
    """What PyTorch counts: attention as dense whatever its mask, and on a CPU only in its plain kernel."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        result = run()
    return counter.get_total_flops(), result


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("schedule", [PruningSchedule(()), PruningSchedule((2, 4), 0.7)], ids=["full", "pruned"])
def test_prefill_and_decode_agree_with_the_flop_counter(family, schedule):
    model, tokens, new = tiny(family), 150, 5
    config, ids, cache = model.config, torch.randint(96, (1, 150)), DynamicCache(config=model.config)
    lengths = schedule.lengths(tokens, config.num_hidden_layers)

    def decode():
        for step in range(new - 1):
            model(ids[:, step : step + 1], past_key_values=cache, logits_to_keep=1)

    with TokenPruning(schedule, TokenPruner(64, schedule.layers))(model):
        prefill, _ = counted(lambda: model(ids, past_key_values=cache, logits_to_keep=1))
        steps, _ = counted(decode)
    ours = flops.prefill_flops(config, lengths, causal=False, scored=schedule.layers)
    assert ours == pytest.approx(prefill, rel=0.01)
    assert flops.decode_flops(config, lengths, new) == pytest.approx(steps, rel=0.01)
    both = flops.schedule_flops(config, schedule, tokens, new, causal=False)
    assert both == ours + flops.decode_flops(config, lengths, new)


def test_every_logit_costs_a_head():
    model, ids = tiny("mistral"), torch.randint(96, (1, 40))
    total, _ = counted(lambda: model(ids))
    ours = flops.prefill_flops(model.config, [40] * 6, causal=False, head_positions=40)
    assert ours == pytest.approx(total, rel=0.01)
    assert ours != pytest.approx(flops.prefill_flops(model.config, [40] * 6, causal=False), rel=0.01)


def test_mistral_7b_per_token_and_per_pair():
    one, two = (flops.prefill_flops(MISTRAL_7B, [n] * 32, causal=False, head_positions=0) for n in (1, 2))
    square = 4 * 4096 * 32  # 4 d L
    assert (two - 2 * one) == 2 * square
    assert (one - square) / 1e9 == pytest.approx(13.96, abs=0.005)
    head = flops.prefill_flops(MISTRAL_7B, [1] * 32, causal=False) - one
    assert head / 1e9 == pytest.approx(0.26, abs=0.005)


def test_pruner_is_under_one_percent():
    schedule = PruningSchedule.preset("paper", 32)
    lengths = schedule.lengths(4096, 32)
    bare = flops.prefill_flops(MISTRAL_7B, lengths)
    share = flops.prefill_flops(MISTRAL_7B, lengths, scored=schedule.layers) / bare - 1
    assert 0 < share < 0.01


@pytest.mark.parametrize("tokens", TABLE_2)
def test_paper_formula_recomputes_the_full_column_of_table_2(tokens):
    prefill, end_to_end = TABLE_2[tokens]
    assert flops.paper_flops(tokens) / 1e12 == pytest.approx(prefill, rel=5e-4)
    assert flops.paper_flops(tokens, 128) / 1e12 == pytest.approx(end_to_end, rel=5e-4)


@given(tokens=st.integers(1, 40), window=st.integers(1, 45), new=st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_causal_pairs_under_a_sliding_window(tokens, window, new):
    config = MistralConfig(num_key_value_heads=2, sliding_window=window, **SIZES)
    per_pair = 4 * 64 * 6
    places = torch.arange(tokens + new - 1)
    back = places[:, None] - places
    seen = ((back >= 0) & (back < window)).sum(1)
    bare = CONFIGS["mistral"]  # no window: the rest of the count is the same
    difference = flops.prefill_flops(bare, [tokens] * 6) - flops.prefill_flops(config, [tokens] * 6)
    assert difference == per_pair * (tokens * (tokens + 1) // 2 - int(seen[:tokens].sum()))
    difference = flops.decode_flops(bare, [tokens] * 6, new) - flops.decode_flops(config, [tokens] * 6, new)
    assert difference == per_pair * (int((places[tokens:] + 1).sum()) - int(seen[tokens:].sum()))


def test_windows_are_read_per_layer():
    types = ["sliding_attention", "full_attention"] * 3
    config = Qwen2Config(num_key_value_heads=4, use_sliding_window=True, sliding_window=8, layer_types=types, **SIZES)
    saved = flops.prefill_flops(CONFIGS["qwen2"], [50] * 6) - flops.prefill_flops(config, [50] * 6)
    assert saved == 3 * 4 * 64 * (50 * 51 // 2 - (8 * 9 // 2 + 42 * 8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_kv_bytes_is_what_the_cache_holds(dtype):
    model, schedule = tiny("mistral").to(dtype), PruningSchedule((2, 4), 0.5, min_local_tokens=2)
    with torch.no_grad(), TokenPruning(schedule, TokenPruner(64, (2, 4)))(model):
        cache = model(torch.randint(96, (1, 64)), use_cache=True).past_key_values
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert flops.kv_bytes(model.config, schedule.lengths(64, 6), dtype) == held


def test_what_cannot_be_counted_is_refused_by_name():
    config = CONFIGS["llama"]
    with pytest.raises(ValueError, match="5 lengths for a model of 6 layers"):
        flops.prefill_flops(config, [8] * 5)
    with pytest.raises(ValueError, match="never grow"):
        flops.prefill_flops(config, [8, 8, 8, 9, 8, 8])
    with pytest.raises(ValueError, match="new_tokens"):
        flops.decode_flops(config, [8] * 6, 0)
    config = LlamaConfig(**SIZES)
    config.model_type = "bloom"
    with pytest.raises(ValueError, match="'bloom'"):
        flops.kv_bytes(config, [8] * 6, torch.float32)
