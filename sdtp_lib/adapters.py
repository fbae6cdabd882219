"""What differs between model families: where the decoder layers are and where positions come from.

A family is one entry of `FAMILIES`; all else (hooks, masks, cache bookkeeping) is shared by every family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from torch import Tensor, nn
from transformers import Cache


@dataclass(frozen=True)
class Family:
    """Attribute paths inside the decoder (the module below the language-model head)."""

    layers: str = "layers"
    rotary: str = "rotary_emb"


FAMILIES = {"llama": Family(), "mistral": Family(), "qwen2": Family()}


@dataclass(frozen=True)
class ModelAdapter:
    """A model seen through its family's entry.

    Attributes:
        decoder: the module that loops over the layers and gets `input_ids` and `past_key_values`.
        layers: its decoder layers.
        rotary: the module that turns (hidden, position_ids) into (cos, sin).
        hidden_size: width of the hidden states.
    """

    decoder: nn.Module
    layers: Sequence[nn.Module]
    rotary: nn.Module
    hidden_size: int

    @classmethod
    def of(cls, model: nn.Module) -> ModelAdapter:
        """Adapter of a `transformers` causal language model (or its decoder).

        Raises:
            ValueError: if the model's family is not supported; the message names it.
        """
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        if kind not in FAMILIES:
            raise ValueError(f"model family {kind!r} is not supported; supported: {', '.join(FAMILIES)}")
        family, decoder = FAMILIES[kind], model.get_decoder() if hasattr(model, "lm_head") else model
        return cls(
            decoder, attrgetter(family.layers)(decoder), attrgetter(family.rotary)(decoder), model.config.hidden_size
        )

    def window(self, layer: int) -> int | None:
        """How many positions back a layer attends, or None if all."""
        attention = self.layers[layer].self_attn
        if getattr(attention, "sliding_window", None) is not None:
            return attention.sliding_window
        types = getattr(self.decoder.config, "layer_types", None)  # Mistral keeps the window in the config alone
        everywhere = types is None or types[layer] == "sliding_attention"
        return getattr(self.decoder.config, "sliding_window", None) if everywhere else None

    @property
    def implementation(self) -> str:
        """Name of the attention function in use: sdpa, eager, ..."""
        return self.decoder.config._attn_implementation

    @staticmethod
    def cached_keys(cache: Cache | None, layer: int) -> int:
        """Keys that a layer's cache really holds; on a sliding-window layer at most window - 1."""
        if cache is None or layer >= len(cache.layers) or not cache.layers[layer].is_initialized:
            return 0
        return cache.layers[layer].keys.shape[-2]

    def full_lengths(self, cache: Cache) -> set[int]:
        """The different numbers of keys that the layers without a window hold; one number unless some were cut."""
        return {self.cached_keys(cache, layer) for layer in range(len(self.layers)) if self.window(layer) is None}

    def positions(self, hidden_states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(cos, sin), each (batch, tokens, head_dim), for new position ids (batch, tokens)."""
        return self.rotary(hidden_states, position_ids)
