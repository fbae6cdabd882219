"""Tiny random models, and the reference that the engine is held to: the full model under explicit masks."""

from __future__ import annotations

import math
from contextlib import ExitStack

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from sdtp_lib.scorers import ScoringContext, TokenPruner

VOCABULARY, HIDDEN = 97, 32
SHARED = dict(
    vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=4096, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=None,
)  # fmt: skip
LOCAL_WINDOW = 8


def tiny_model(family="llama", attention="sdpa", layers=6, seed=0, dtype=torch.float32):
    """A random model of a few thousand weights; `demo` is a Qwen2 with sliding-window layers below layer 2."""
    torch.manual_seed(seed)
    shared = {**SHARED, "num_hidden_layers": layers}
    if family == "demo":
        types = ["sliding_attention"] * 2 + ["full_attention"] * (layers - 2)
        config = Qwen2Config(**shared, use_sliding_window=True, sliding_window=LOCAL_WINDOW, layer_types=types)
    elif family == "mistral-window":
        config = MistralConfig(**shared, sliding_window=LOCAL_WINDOW)
    else:
        config_class = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}[family]
        config = config_class(**shared, **({"sliding_window": None} if family == "mistral" else {}))
    model_class = {LlamaConfig: LlamaForCausalLM, MistralConfig: MistralForCausalLM, Qwen2Config: Qwen2ForCausalLM}
    model = model_class[type(config)](config).to(dtype).eval().requires_grad_(False)
    model.set_attn_implementation(attention)
    return model


def tiny_pruner(layers, seed=1, hidden=HIDDEN):
    """A random pruner for `layers`."""
    torch.manual_seed(seed)
    return TokenPruner(hidden, layers).requires_grad_(False).eval()


def random_prompts(lengths, seed=2):
    """Left-padded (input_ids, attention_mask) of rows with these lengths."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.randint(2, VOCABULARY, (len(lengths), width), generator=generator)
    mask = torch.stack([torch.arange(width) >= width - n for n in lengths]).long()
    return ids * mask, mask


def naive_choice(scores, present, schedule, first_prompt=True):
    """The rule of the design page, token by token: which of the `present` columns stay."""
    n = len(present)
    local = min(n, max(schedule.min_local_tokens, math.floor(schedule.local_ratio * n), 1))
    sinks = schedule.sink_tokens if first_prompt else 0
    forced = [i for i in range(n) if i < sinks or i >= n - local]
    k = max(math.floor(schedule.keep_ratio * n), len(forced))
    others = sorted((i for i in range(n) if i not in forced), key=lambda i: (scores[i], i), reverse=True)
    return [present[i] for i in sorted(forced + others[: k - len(forced)])]


class Reference:
    """Runs the FULL model on one prompt plus continuation, hiding from each cut on every token cut there.

    Shares no code with the engine but the scorer: it chooses by `naive_choice` and masks by Python sets.
    """

    def __init__(self, model, schedule, scorer, positions="original"):
        self.model, self.schedule, self.scorer, self.positions = model, schedule, scorer, positions

    def run(self, ids, prompt):
        """(logits (tokens, vocabulary), {layer: kept columns}) for ids (tokens,), of which `prompt` are the prompt."""
        total, kept = len(ids), {}
        present = list(range(prompt))
        decoder = self.model.model
        eager = self.model.config._attn_implementation == "eager"

        def hook_of(layer):
            def hook(module, args, kwargs):
                nonlocal present
                hidden = args[0]
                if layer in self.schedule.layers:
                    mine = hidden[:, present]
                    context = ScoringContext(module, torch.ones(1, len(present), dtype=torch.bool), None, None, 0)
                    scores = self.scorer.score(layer, mine, context)[0].float().tolist()
                    present = naive_choice(scores, present, self.schedule)
                    kept[layer] = present
                here = set(present) | set(range(prompt, total))
                window = getattr(module.self_attn, "sliding_window", None)
                if window is None and self.model.config.model_type == "mistral":
                    window = self.model.config.sliding_window
                visible = torch.tensor([
                    [k == q or (k < q and k in here and (window is None or q - k < window)) for k in range(total)]
                    for q in range(total)
                ])  # fmt: skip
                mask = (
                    torch.zeros(total, total).masked_fill(~visible, torch.finfo(torch.float32).min)
                    if eager
                    else visible
                )
                changed = {"attention_mask": mask[None, None]}
                if self.positions == "compact":
                    ids = torch.tensor([[max(0, sum(c <= q for c in here) - 1) for q in range(total)]])
                    changed["position_embeddings"] = decoder.rotary_emb(hidden, ids)
                return args, {**kwargs, **changed}

            return hook

        with ExitStack() as stack, torch.no_grad():
            for layer, module in enumerate(decoder.layers):
                stack.callback(module.register_forward_pre_hook(hook_of(layer), with_kwargs=True).remove)
            logits = self.model(input_ids=ids[None], use_cache=False).logits[0]
        return logits, kept
