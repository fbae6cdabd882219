"""What differs between model families: where the decoder layers are, and how their places become positions.

A family is one entry of `FAMILIES`; all else (hooks, masks, cache bookkeeping) is shared by every family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import Cache


@dataclass(frozen=True)
class Family:
    """Names inside the decoder (the module below the language-model head).

    Attributes:
        layers: attribute that holds the decoder layers.
        rotary: attribute that makes (cos, sin) of positions; None for ALiBi, whose layers get biases per key instead.
        slides: whether layers heed `config.sliding_window`; a converted checkpoint may carry one that means nothing.
    """

    layers: str = "layers"
    rotary: str | None = "rotary_emb"
    slides: bool = True


ROPE = Family()
FAMILIES = {
    "llama": Family(slides=False),
    "mistral": ROPE,
    "qwen2": ROPE,
    "qwen3": ROPE,
    "gemma2": ROPE,
    "gemma3_text": ROPE,
    "phi3": ROPE,
    "gpt_oss": ROPE,
    "mixtral": ROPE,
    "qwen3_moe": ROPE,
    "bloom": Family(layers="h", rotary=None, slides=False),
}


@dataclass(frozen=True)
class ModelAdapter:
    """A model seen through its family's entry.

    Attributes:
        decoder: the module that loops over the layers and gets `input_ids` and the cache.
        layers: its decoder layers.
        rotary: the module that turns (hidden, position_ids) into (cos, sin); None for ALiBi.
        hidden_size: width of the hidden states.
        family: its entry.
    """

    decoder: nn.Module
    layers: Sequence[nn.Module]
    rotary: nn.Module | None
    hidden_size: int
    family: Family

    @classmethod
    def of(cls, model: nn.Module) -> ModelAdapter:
        """Adapter of a `transformers` causal language model (or its decoder).

        Raises:
            ValueError: if the model's family is not supported, or it is wrapped; the message names it.
        """
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        if kind not in FAMILIES:
            raise ValueError(f"model family {kind!r} is not supported; supported: {', '.join(FAMILIES)}")
        family, decoder = FAMILIES[kind], getattr(model, "base_model", model)
        missing = [name for name in (family.layers, family.rotary) if name and not hasattr(decoder, name)]
        if missing or not (decoder is model or hasattr(model, "generate")):
            raise ValueError(
                f"{type(model).__name__} is neither a causal language model of family {kind!r} nor its decoder; pass "
                "the model itself (with PEFT: get_base_model())"
            )
        rotary = getattr(decoder, family.rotary) if family.rotary else None
        return cls(decoder, getattr(decoder, family.layers), rotary, model.config.hidden_size, family)

    def layer_type(self, layer: int) -> str | None:
        """The layer's entry in `config.layer_types`, or None if all layers are of one kind."""
        types = getattr(self.decoder.config, "layer_types", None)
        return None if types is None else types[layer]

    def window(self, layer: int) -> int | None:
        """How many positions back a layer attends, itself included, or None if all."""
        if not self.family.slides or self.layer_type(layer) not in (None, "sliding_attention"):
            return None
        return getattr(self.decoder.config, "sliding_window", None)

    @property
    def implementation(self) -> str:
        """Name of the attention function in use: sdpa, eager, ..."""
        return self.decoder.config._attn_implementation

    @property
    def length_dependent_rope(self) -> bool:
        """Whether the rotary frequencies change with the number of tokens (dynamic NTK, LongRoPE)."""
        kinds = getattr(self.rotary, "rope_type", None)
        return bool({"dynamic", "longrope"} & set(kinds.values() if isinstance(kinds, dict) else [kinds]))

    @staticmethod
    def cached_keys(cache: Cache | None, layer: int) -> int:
        """Keys that a layer's cache really holds."""
        if cache is None or layer >= len(cache.layers) or not cache.layers[layer].is_initialized:
            return 0
        return cache.layers[layer].keys.shape[-2]

    def cache_lengths(self, cache: Cache | None) -> list[int]:
        """Keys that each layer's cache really holds; empty without a cache."""
        return [] if cache is None else [self.cached_keys(cache, layer) for layer in range(len(self.layers))]

    def cache_bytes(self, cache: Cache | None) -> list[int]:
        """Bytes of keys and values in each layer's cache; empty without a cache."""
        if cache is None:
            return []
        held = [part for part in cache.layers[: len(self.layers)] if part.is_initialized]
        return [part.keys.nbytes + part.values.nbytes for part in held]

    @staticmethod
    def expected_keys(cache: Cache, layer: int, given: int) -> int:
        """Keys that a layer's cache holds of the `given` ones unless something else removed some."""
        part = cache.layers[layer]
        return min(given, part.sliding_window - 1) if part.is_sliding else given

    def positions(self, layer: int, hidden_states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), each (batch, tokens, head_dim), of a layer for new position ids (batch, tokens)."""
        if isinstance(getattr(self.rotary, "rope_type", None), dict):  # Gemma 3: frequencies per layer type
            return self.rotary(hidden_states, position_ids, self.layer_type(layer))
        return self.rotary(hidden_states, position_ids)
