"""The hooks of one pruning context: what happens before and after the decoder, and before each of its layers."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from .attention_masks import ABSENT, take_tokens
from .block import NAME, Block
from .cache_record import Conversation
from .decoder_pass import ForwardPass
from .families import ModelAdapter
from .guarded_cache import GuardedCache, guard
from .layer_inputs import alibi_of, layer_kwargs, positions_of
from .scoring import ScoringContext, looks_at_positions, reads_ids
from .selection import select, select_ragged
from .settings import PruningSettings
from .trace import PruningTrace, Stage
from .trace_entry import enter
from .versions import find_cache, given_cache, output_cache, unseen_cache

STEP = "a pass that continues a cache came as a prompt without one"


class Session:
    """The hooks of one `with` block and, for each thread that runs the model, the forward pass under way."""

    def __init__(self, pruning: PruningSettings, adapter: ModelAdapter):
        self.pruning, self.adapter, self.trace, self.block = pruning, adapter, PruningTrace(), Block()
        self.running = threading.local()
        windows = [adapter.window(layer) for layer in range(len(adapter.layers))]
        cut = [window for window in windows[min(pruning.schedule.layers, default=len(windows)) :] if window is not None]
        self.smallest_window = min((window for window in windows if window is not None), default=None)
        self.flash_window = min(cut, default=None) if adapter.implementation == "flash_attention_2" else None
        self.parameters = inspect.signature(adapter.decoder.forward).parameters

    def begin(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Before the decoder runs: find out what kind of pass this is, refuse what cannot be right."""
        self.block.check()
        if torch.compiler.is_compiling():
            raise ValueError("torch.compile is not supported while pruning; run the model uncompiled")
        if len(args) > 1:
            raise ValueError("pass everything but input_ids by keyword while pruning")
        ids = args[0] if args else kwargs.get("input_ids")
        inputs = kwargs.get("inputs_embeds") if ids is None else ids
        batch, tokens = (0, 0) if inputs is None else inputs.shape[:2]
        if batch == 0 or tokens == 0:
            raise ValueError("empty prompt: no input_ids or inputs_embeds, or none of the tokens")
        mask, cache = kwargs.get("attention_mask"), given_cache(kwargs)
        self.check(module, mask, cache, kwargs.get("position_ids"))
        conversation = Conversation.of(cache, batch, self.pruning.positions, self.adapter)
        start = conversation.total
        if self.flash_window is not None and start + tokens > self.flash_window:
            raise ValueError("FlashAttention cannot apply a window to original positions in a cut layer; use sdpa")
        prunes = start == 0 or (self.pruning.prune == "every" and tokens > 1)
        forward = ForwardPass(conversation, tokens, mask, prunes, cache, ids)
        if prunes:
            forward.named = self.pruning.keep.of_pass(start, tokens, forward.prompt, self.pruning.prune == "every")
        forward.stock, forward.counted = self.needs_nothing(forward), kwargs.get("position_ids") is None
        if hasattr(cache, NAME):
            guard(cache, self.block)  # it goes on in this block, whichever cut it
        self.running.forward = forward
        if not start or cache.get_seq_length() == start:
            return None
        # Layer 0 was compressed, and the model would count its positions from what is left there.
        positions = torch.arange(start, start + tokens, device=inputs.device)
        counted = {"cache_position": positions, "position_ids": positions[None]}
        missing = {
            name: value for name, value in counted.items() if name in self.parameters and kwargs.get(name) is None
        }
        return args, {**kwargs, **missing}

    @contextmanager
    def a_pass(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Around the decoder's own `forward`, however it ends."""
        if getattr(self.running, "forward", None) is None:
            raise ValueError("call the model, not its forward method: pruning works in the hooks of a call")
        try:
            with self.block.a_pass():
                yield
        except BaseException:
            self.running.forward = None
            raise

    def check(self, module: nn.Module, mask: Any, cache: Any, position_ids: Tensor | None) -> None:
        """Refuse inputs that the engine cannot follow."""
        if cache is not None and type(cache) not in (DynamicCache, GuardedCache):
            raise ValueError(f"{type(cache).__name__} is not supported while pruning; use a DynamicCache")
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise ValueError(
                "pruning needs the plain 2-D attention mask (batch, tokens); custom masks are not supported"
            )
        parts = (module, *self.adapter.layers)
        if any(part.training and getattr(part, "gradient_checkpointing", False) for part in parts):
            raise ValueError("gradient checkpointing runs layers twice, which is not supported while pruning")
        packed = mask is None and cache is None and position_ids is not None  # as transformers recognises packed rows
        if packed and bool((position_ids.diff(dim=-1) <= 0).any()):
            raise ValueError("several prompts packed into one row are not supported while pruning; use a batch")

    def needs_nothing(self, forward: ForwardPass) -> bool:
        """Whether this pass is a token that sees all of every layer's cache at its stock position: a decode step."""
        adapter, conversation = self.adapter, forward.conversation
        plain = forward.start > 0 and forward.tokens == 1 and not conversation.absent
        counted = self.pruning.positions == "original" and adapter.rotary is not None
        near = self.smallest_window is None or conversation.total < self.smallest_window
        return plain and counted and near

    def enter_layer(self, layer: int, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Before a decoder layer runs: cut if it is a stage, then tell it what it holds."""
        forward = getattr(self.running, "forward", None)
        if forward is None:
            return None  # a layer called by itself, not by the decoder
        if not args:
            raise unseen_cache("layers get their hidden states by keyword")
        conversation, (hidden, *rest) = forward.conversation, args
        self.look_at_cache(forward, layer, args, kwargs)
        if forward.prunes and layer in self.pruning.schedule.layers:
            hidden = self.cut(forward, layer, module, hidden, kwargs)
        if forward.stock and kwargs.get("attention_mask") is None:
            return None
        # Once one cache is compressed, the loop's masks, sized from the first layer of a kind, may fit no other layer.
        if forward.index is None and layer not in conversation.kept and not conversation.compressed:
            return None  # nothing is missing at this layer: stock behaviour, bit for bit
        return (hidden, *rest), {**kwargs, **self.tell(forward, layer, hidden, kwargs)}

    def look_at_cache(self, forward: ForwardPass, layer: int, args: tuple, kwargs: dict) -> None:
        """Find the cache that a layer gets; ValueError if it, or what came with it, is not that of this pass."""
        seen, forward.layers = find_cache((*args, *kwargs.values())), forward.layers + 1
        if forward.cache is None and layer == 0:
            forward.cache = seen  # the decoder made one
            mask, alibi, ids = (kwargs.get(name) for name in ("attention_mask", "alibi", "position_ids"))
            widths = [part.shape[-1] for part in (mask, alibi) if isinstance(part, Tensor)]
            if self.adapter.cached_keys(seen, 0) or any(width > forward.tokens for width in widths):
                raise unseen_cache(STEP)
            if forward.counted and ids is not None:  # made by the decoder from what it takes to be cached
                forward.checks.append(((ids[..., 0] == 0).all(), str(unseen_cache(STEP))))
        elif seen is not forward.cache:
            raise unseen_cache(f"layer {layer} got another cache than the decoder")

    def tell(self, forward: ForwardPass, layer: int, hidden: Tensor, kwargs: dict) -> dict[str, Any]:
        """The keyword arguments of a layer that holds only some tokens; layers between two cuts share them."""
        past = self.adapter.cached_keys(forward.cache, layer)
        given = id(forward.conversation.kept.get(layer)), layer in forward.conversation.compressed
        key = past, given, self.adapter.layer_type(layer), hidden.device
        if key not in forward.shared:
            compact = self.pruning.positions == "compact"
            forward.shared[key] = layer_kwargs(self.adapter, forward, compact, layer, hidden, kwargs)
        return forward.shared[key]

    def cut(self, forward: ForwardPass, layer: int, module: nn.Module, hidden: Tensor, kwargs: dict) -> Tensor:
        """Score the tokens present and keep the best; returns their hidden states (batch, kept, hidden)."""
        schedule, sinks = self.pruning.schedule, forward.start == 0
        present = forward.present
        forced = [schedule.forced(n, sinks) for n in present]
        beside = forward.named.beside(forced)
        wanted = [schedule.keep(n, sinks, layer, named) for n, named in zip(present, beside, strict=True)]
        short = [n < self.pruning.min_prompt_tokens for n in forward.prompt]
        keep = [n if skip else k for n, k, skip in zip(present, wanted, short, strict=True)]
        counts = [(n, k, got, *ends) for n, k, got, ends in zip(present, wanted, keep, forced, strict=True)]
        columns = forward.present_columns(hidden.device)
        if keep == present:  # nothing to choose, so nothing is scored
            forward.stages.append(Stage(layer, columns, None, columns, counts))
            return hidden

        local = max(amount for _, amount in forced)
        scores = self.scores(forward, layer, module, hidden, columns, local, kwargs)
        named = forward.named.among(columns)
        ranked = scores if named is None else scores.masked_fill(named, torch.inf)
        chosen, kept = self.choose(ranked, columns, present, keep, forced)
        forward.index = chosen if forward.index is None else forward.index.to(chosen.device).gather(1, chosen)
        forward.columns, forward.present = kept, keep
        forward.shared.clear()
        if forward.cache is not None:
            guard(forward.cache, self.block)
        forward.stages.append(Stage(layer, columns, scores, kept, counts, named))
        return take_tokens(hidden, chosen)

    @staticmethod
    def choose(
        scores: Tensor, columns: Tensor, present: list[int], keep: list[int], forced: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Places among those present, and their columns, both (batch, kept): the best of (batch, present) `scores`."""
        offered, width = scores.shape[1], max(keep)
        if min(present) == offered and min(keep) == width:
            chosen = select(scores, width, *forced[0])
            return chosen, columns.gather(1, chosen)
        numbers = torch.tensor([present, keep, *zip(*forced, strict=True)], device=scores.device)
        chosen, filled = select_ragged(scores, *numbers, width)
        return chosen, columns.gather(1, chosen).masked_fill(~filled, ABSENT)

    def scores(
        self,
        forward: ForwardPass,
        layer: int,
        module: nn.Module,
        hidden: Tensor,
        columns: Tensor,
        local: int,
        kwargs: dict,
    ) -> Tensor:
        """The scorer's (batch, present) scores, 0 where no token is; whether all are finite is looked at later."""
        here, positions = columns != ABSENT, (None, None)
        if self.adapter.rotary is not None and looks_at_positions(self.pruning.scorer):
            compact = self.pruning.positions == "compact"
            positions = positions_of(self.adapter, forward, compact, layer, hidden, kwargs)
        alibi = None if kwargs.get("alibi") is None else alibi_of(kwargs["alibi"].to(hidden.device), columns)
        ids = forward.ids_of(columns) if reads_ids(self.pruning.scorer) else None
        context = ScoringContext(module, here, *positions, local, self.pruning.generator, alibi, columns, ids)
        self.running.forward = None  # a scorer may run layers of the model itself
        scores = self.pruning.scorer.score(layer, hidden, context).detach().float()
        self.running.forward = forward
        if scores.shape != columns.shape:
            raise ValueError(
                f"scorer gave shape {tuple(scores.shape)} at layer {layer}, expected {tuple(columns.shape)}"
            )
        scores = scores.to(hidden.device).masked_fill(~here, 0.0)
        forward.checks.append((torch.isfinite(scores).all(), f"scores at layer {layer} are NaN or infinite"))
        return scores

    def end(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """After the decoder ran: check the scores, remember what the cache holds, write trace and log."""
        forward, self.running.forward = self.running.forward, None
        if forward.layers != len(self.adapter.layers):
            raise unseen_cache(f"{forward.layers} of {len(self.adapter.layers)} layers ran where pruning saw them")
        checks = [check for check in forward.checks if not check[0].is_meta]  # on the meta device there are no values
        if checks:
            good = torch.stack([flag.to(checks[0][0].device) for flag, _ in checks]).tolist()
            if not all(good):
                raise ValueError(checks[good.index(False)][1])
        cache, found = forward.cache, output_cache(output)
        asked = kwargs.get("use_cache")
        caching = getattr(module.config, "use_cache", None) if asked is None else asked
        if found is not cache if found is not None else caching:
            raise unseen_cache("the decoder used a cache that its layers were not seen to get")
        if cache is not None:
            forward.remember(cache, self.adapter)
        enter(self.trace, forward, self.adapter, self.pruning)
