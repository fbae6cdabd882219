"""Tiny random models, and the reference that the engine is held to: the full model under explicit masks."""

from __future__ import annotations

import inspect
import math
from contextlib import ExitStack
from itertools import cycle, islice

import torch
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from sdtp_lib import PruningSchedule, TokenPruning
from sdtp_lib.pruning.scoring import ScoringContext
from sdtp_lib.scorers.token_pruner import TokenPruner

VOCABULARY, HIDDEN = 97, 32
SHARED = dict(
    vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=4096, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=None,
)  # fmt: skip
LOCAL_WINDOW = 8
TOLERANCE = 2e-4  # relative, float32

WINDOW = dict(sliding_window=LOCAL_WINDOW)
QWEN_WINDOW = dict(use_sliding_window=True, **WINDOW)
GEMMA = dict(head_dim=8, query_pre_attn_scalar=8)
GPT_OSS = dict(head_dim=8, num_local_experts=4, num_experts_per_tok=2)
MIXTRAL = dict(num_local_experts=4, num_experts_per_tok=2)
QWEN_MOE = dict(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
# Config class, model class, options; `pattern` is repeated over the layers: s slides over the window, f sees all.
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM, dict()),
    "mistral": (MistralConfig, MistralForCausalLM, dict(sliding_window=None)),
    "mistral-window": (MistralConfig, MistralForCausalLM, WINDOW),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, dict()),
    "demo": (Qwen2Config, Qwen2ForCausalLM, dict(**QWEN_WINDOW, pattern="ss" + 62 * "f")),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, dict(head_dim=8)),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, dict(**GEMMA, **WINDOW, pattern="sf")),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, dict(**GEMMA, **WINDOW, pattern="sssf")),
    "phi3": (Phi3Config, Phi3ForCausalLM, dict()),
    "phi3-window": (Phi3Config, Phi3ForCausalLM, WINDOW),
    "bloom": (BloomConfig, BloomForCausalLM, dict()),
    "gpt_oss": (GptOssConfig, GptOssForCausalLM, dict(**GPT_OSS, **WINDOW, pattern="sf")),
    "mixtral": (MixtralConfig, MixtralForCausalLM, MIXTRAL),
    "qwen3_moe": (Qwen3MoeConfig, Qwen3MoeForCausalLM, QWEN_MOE),
}
LAYER_TYPES = {"s": "sliding_attention", "f": "full_attention"}


def tiny_model(family="llama", attention="sdpa", layers=6, seed=0, dtype=torch.float32, **changes):
    """A random model of a few thousand weights; `attention` None is what its class chooses by itself.

    Args:
        changes: to the configuration.

    Raises:
        ValueError: if the architecture does not know this attention.
    """
    torch.manual_seed(seed)
    config_class, model_class, options = FAMILIES[family]
    options = {**SHARED, **options, **changes, "num_hidden_layers": layers}
    if pattern := options.pop("pattern", None):
        options["layer_types"] = [LAYER_TYPES[letter] for letter in islice(cycle(pattern), layers)]
    model = model_class(config_class(**options))
    for weights in model.parameters():
        if not weights.any():  # a bias of zero would hide that it is lost
            nn.init.normal_(weights, std=SHARED["initializer_range"])
    model = model.to(dtype).eval().requires_grad_(False)
    if attention is not None:
        model.set_attn_implementation(attention)
        if model.config._attn_implementation != attention:  # BLOOM warns and stays as it is
            raise ValueError(f"{model_class.__name__} does not support {attention}")
    return model


def tiny_pruner(layers, seed=1, hidden=HIDDEN):
    """A random pruner for `layers`."""
    torch.manual_seed(seed)
    return TokenPruner(hidden, layers).requires_grad_(False).eval()


def schedule_of(keep=0.7, layers=(2, 3, 5), **options):
    """A schedule for short prompts."""
    return PruningSchedule(layers=layers, keep_ratio=keep, **{"min_local_tokens": 3, "sink_tokens": 2, **options})


def random_prompts(lengths, seed=2):
    """Left-padded (input_ids, attention_mask) of rows with these lengths."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.randint(2, VOCABULARY, (len(lengths), width), generator=generator)
    mask = torch.stack([torch.arange(width) >= width - n for n in lengths]).long()
    return ids * mask, mask


def generate(model, ids, mask, steps=4, **options):
    """Greedy: (new tokens (batch, steps), their logits (batch, steps, vocabulary))."""
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=steps, min_new_tokens=steps, do_sample=False,
        return_dict_in_generate=True, output_logits=True, **options,
    )  # fmt: skip
    return out.sequences[:, ids.shape[1] :], torch.stack(out.logits, dim=1)


def assert_rows_keep_what_they_keep_alone(model, pruning, ids, mask):
    """Each row of a left-padded batch, filler apart, keeps at every stage the tokens that it keeps by itself."""
    with pruning(model) as together:
        generate(model, ids, mask, 2)
    for row, count in enumerate(mask.sum(1).tolist()):
        with pruning(model) as alone:
            generate(model, ids[row : row + 1, -count:], mask[row : row + 1, -count:], 2)
        for layer, kept in alone.kept_positions.items():
            shifted = kept[0] + ids.shape[1] - count
            assert shifted.tolist() == [x for x in together.kept_positions[layer][row].tolist() if x >= 0]


def close(ours, reference):
    """Whether the largest difference is within float32 rounding of the largest value."""
    return (ours - reference).abs().max() / reference.abs().max() < TOLERANCE


def naive_choice(scores, present, schedule, ratio, first_prompt=True, keep=(), prompt=None):
    """The rule of the design page, token by token: which of the `present` columns stay.

    Args:
        keep: columns that are never cut; those not among the first and the last tokens of `prompt`, all of it, count.
    """
    n, prompt = len(present), present if prompt is None else prompt
    local = min(n, max(schedule.min_local_tokens, math.floor(schedule.local_ratio * n), 1))
    sinks = min(schedule.sink_tokens if first_prompt else 0, n - local)
    beside = [column for column in prompt[sinks : max(sinks, len(prompt) - local)] if column in keep]
    k = max(math.floor(ratio * n), min(n, sinks + local + len(beside)))
    forced = [i for i in range(n) if i < sinks or i >= n - local or present[i] in keep]
    others = sorted((i for i in range(n) if i not in forced), key=lambda i: (scores[i], i), reverse=True)
    assert len(forced) <= k
    return [present[i] for i in sorted(forced + others[: k - len(forced)])]


class Reference:
    """Runs the FULL model on one prompt plus continuation, hiding from each cut on every token cut there.

    Shares no code with the engine but the scorer: it chooses by `naive_choice`, reads windows from the configuration
    and writes every layer's mask out.
    """

    def __init__(self, model, schedule, scorer, positions="original"):
        self.model, self.schedule, self.scorer, self.positions = model, schedule, scorer, positions
        self.decoder, self.config = model.base_model, model.config
        (self.layers,) = [part for part in self.decoder.children() if isinstance(part, nn.ModuleList)]

    def mask(self, layer, here, dtype):
        """(1, 1, tokens, tokens) as the attention takes it; `here` (tokens,) is True where a token is present."""
        queries, keys = torch.arange(len(here))[:, None], torch.arange(len(here))[None]
        visible = ((keys < queries) & here) | (keys == queries)
        types = getattr(self.config, "layer_types", None)
        if types is None or types[layer] == "sliding_attention":
            window = getattr(self.config, "sliding_window", None)
            visible &= queries - keys < (len(here) if window is None else window)
        if self.config._attn_implementation == "eager":
            visible = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
        return visible[None, None]

    def renumbered(self, layer, here, hidden):
        """(cos, sin) of tokens numbered 0, 1, ... over those present; of the others any will do."""
        rotary, ids = self.decoder.rotary_emb, (here.cumsum(0) - 1).clamp(min=0)[None]
        if "layer_type" in inspect.signature(rotary.forward).parameters:
            return rotary(hidden, ids, self.config.layer_types[layer])
        return rotary(hidden, ids)

    def run(self, ids, prompt, turn=None, keep=()):
        """(logits (tokens, vocabulary), {layer: kept columns}) for ids (tokens,), of which the first `prompt` are cut.

        Args:
            turn: (start, stop) of a later prompt that is cut as well, by the same rule but without sinks.
            keep: columns that are never cut.
        """
        ratios = self.schedule.keep_ratio
        ratios = ratios if isinstance(ratios, tuple) else [ratios] * len(self.schedule.layers)
        prompts = [list(range(prompt)), list(range(*turn or (0, 0)))]
        present, kept = list(prompts), {}

        def hook_of(layer):
            def hook(module, args, kwargs):
                hidden = args[0]
                for place, columns in enumerate(present):
                    if layer in self.schedule.layers and columns:
                        context = ScoringContext(module, torch.ones(1, len(columns), dtype=torch.bool), None, None, 0)
                        ratio = dict(zip(self.schedule.layers, ratios, strict=True))[layer]
                        scores = self.scorer.score(layer, hidden[:, columns], context)[0].float().tolist()
                        rule = self.schedule, ratio, place == 0, keep, prompts[place]
                        present[place] = naive_choice(scores, columns, *rule)
                        kept[layer] = sum(present, [])
                here = torch.ones(len(ids), dtype=torch.bool)
                here[:prompt] = False
                here[slice(*turn or (0, 0))] = False
                here[sum(present, [])] = True
                changed = {"attention_mask": self.mask(layer, here, hidden.dtype)}
                if self.positions == "compact":
                    changed["position_embeddings"] = self.renumbered(layer, here, hidden)
                return args, {**kwargs, **changed}

            return hook

        with ExitStack() as stack, torch.no_grad():
            for layer, module in enumerate(self.layers):
                stack.callback(module.register_forward_pre_hook(hook_of(layer), with_kwargs=True).remove)
            logits = self.model(input_ids=ids[None], use_cache=False).logits[0]
        return logits, kept


def check_against_reference(model, schedule, lengths, positions="original", seed=2, steps=4, scorer=None):
    """Prefill and every decode step of each row of a left-padded batch equal the reference of that row alone."""
    pruner = scorer or tiny_pruner(schedule.layers)
    ids, mask = random_prompts(lengths, seed)
    with TokenPruning(schedule, pruner, positions=positions)(model) as trace:
        new, logits = generate(model, ids, mask, steps)
    for row, length in enumerate(lengths):
        pads = max(lengths) - length
        sequence = torch.cat([ids[row, pads:], new[row]])
        expected, kept = Reference(model, schedule, pruner, positions).run(sequence, length)
        for layer in schedule.layers:
            ours = [c - pads for c in trace.kept_positions[layer][row].tolist() if c >= 0]
            assert ours == kept[layer], f"row {row}, layer {layer}: kept {ours}, reference {kept[layer]}"
        for step, wanted in enumerate(expected[length - 1 : -1]):  # step 0 is the prefill
            assert close(logits[row, step], wanted), f"row {row}, step {step}: logits differ"
            assert wanted.argmax() == new[row, step], f"row {row}, step {step}: next tokens differ"
