"""Ways of running a model that cannot be right while its prompt is pruned: named before the model runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .attention_masks import GROUPED, IMPLEMENTATIONS
from .families import ModelAdapter

# Argument of `generate` (or entry of its GenerationConfig) -> what it switches on.
DECODERS = {
    "assistant_model": "assisted decoding",
    "assistant_early_exit": "self-speculative decoding",
    "prompt_lookup_num_tokens": "prompt lookup decoding",
    "use_mtp": "multi-token prediction",
    "penalty_alpha": "contrastive search",
    "dola_layers": "DoLa decoding",
}
# "hybrid" stands in the files of published Gemma models; transformers 5 takes it for no setting at all.
CACHES = (None, "dynamic", "dynamic_full", "offloaded", "hybrid")


def check_model(model: nn.Module, adapter: ModelAdapter, compact: bool) -> None:
    """Refuse a model whose attention or compilation the engine cannot follow.

    Raises:
        ValueError: for another attention function, a compiled module, or compact positions where they make no sense.
    """
    if adapter.implementation not in (*IMPLEMENTATIONS, GROUPED):
        raise ValueError(
            f"attention {adapter.implementation!r} is not supported; use one of {', '.join(IMPLEMENTATIONS)}"
        )
    compiled = any(part._compiled_call_impl is not None or hasattr(part, "_orig_mod") for part in model.modules())
    if compiled or hasattr(model.forward, "_torchdynamo_orig_callable"):
        raise ValueError("torch.compile is not supported while pruning; pass the uncompiled model")
    if getattr(model.config, "use_bidirectional_attention", False) or getattr(model.config, "is_causal", True) is False:
        raise ValueError("this model's attention is not causal, which pruning relies on")
    if compact and adapter.rotary is None:
        raise ValueError("positions='compact' needs RoPE; ALiBi models keep their original positions")
    if compact and adapter.length_dependent_rope:
        raise ValueError("positions='compact' is not supported for RoPE that changes with the length of the prompt")


def check_generation(arguments: dict[str, Any], default: Any) -> None:
    """Refuse a `generate` call whose decoding goes back on what is in the cache, or whose cache cannot be cut.

    Args:
        arguments: those of `generate`, by name.
        default: the model's own GenerationConfig.

    Raises:
        ValueError: naming the setting.
    """
    places = [vars(place) for place in (arguments.get("generation_config"), default) if place is not None]

    def setting(name: str) -> Any:
        return next((place[name] for place in (arguments, *places) if place.get(name) is not None), None)

    for name, what in DECODERS.items():
        if setting(name):
            raise ValueError(f"{what} ({name}) is not supported while pruning; use greedy, sampling or beam search")
    if setting("guidance_scale") not in (None, 1):  # 1 switches it off
        raise ValueError("guidance_scale runs a second prompt beside this one, which is not supported while pruning")
    if setting("cache_implementation") not in CACHES:
        raise ValueError(
            f"cache_implementation={setting('cache_implementation')!r} is not supported while pruning; use 'dynamic'"
        )
    if setting("use_cache") is False:
        raise ValueError("generate(use_cache=False) would prune the prompt anew for every token; leave the cache on")


def check_call(arguments: dict[str, Any], config: Any) -> None:
    """Refuse a call of the language model whose arguments point at tokens that pruning may have removed.

    Args:
        config: the model's, whose settings hold where an argument does not say otherwise.

    Raises:
        ValueError: naming the argument.
    """
    if arguments.get("labels") is not None:
        raise ValueError("labels are not supported while pruning: logits exist only for the tokens that are kept")
    if isinstance(arguments.get("logits_to_keep"), Tensor):
        raise ValueError("logits_to_keep must be a number while pruning: the last tokens that are kept")
    if arguments.get("output_router_logits", getattr(config, "output_router_logits", False)):
        raise ValueError("output_router_logits is not supported while pruning: layers route different tokens")
