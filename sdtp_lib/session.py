"""The hooks of one pruning context: what happens before and after the decoder, and before each of its cut layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from .adapters import ModelAdapter
from .conversation import Conversation, ForwardPass
from .masks import ABSENT, attention_mask, take_tokens, visible_keys
from .scorers import ScoringContext
from .selection import select, select_ragged
from .trace import Prefill, PruningTrace, Stage, append_log

if TYPE_CHECKING:
    from .pruning import TokenPruning


class Session:
    """The hooks of one `with` block and what they remember."""

    def __init__(self, pruning: TokenPruning, adapter: ModelAdapter):
        self.pruning, self.adapter, self.trace = pruning, adapter, PruningTrace()
        self.conversations: WeakKeyDictionary[Any, Conversation] = WeakKeyDictionary()
        self.forward: ForwardPass | None = None

    def begin(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Before the decoder runs: find out what kind of pass this is, refuse what cannot be right."""
        if len(args) > 1:
            raise ValueError("pass everything but input_ids by keyword while pruning")
        inputs = args[0] if args else kwargs.get("input_ids")
        inputs = kwargs.get("inputs_embeds") if inputs is None else inputs
        batch, tokens = inputs.shape[:2]
        if batch == 0 or tokens == 0:
            raise ValueError(f"empty prompt: input of shape {tuple(inputs.shape[:2])}")
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        if cache is not None and type(cache) is not DynamicCache:
            raise ValueError(f"{type(cache).__name__} is not supported while pruning; use a DynamicCache")
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise ValueError(
                "pruning needs the plain 2-D attention mask (batch, tokens); custom masks are not supported"
            )
        start = cache.get_seq_length() if cache is not None else 0
        conversation = self.conversations.get(cache) if start else None
        known = conversation is not None
        if start and not known and len(self.adapter.full_lengths(cache)) > 1:
            raise ValueError("this cache was pruned elsewhere (or copied); run its prompt inside this context")
        conversation = conversation or Conversation(total=start, dense_from=start)
        if conversation.total != start:
            raise ValueError(
                f"the cache holds {start} tokens but was given {conversation.total}: it was cropped or compressed, as "
                "assisted decoding and prompt lookup do, which is not supported while pruning"
            )
        prunes = start == 0 or (self.pruning.prune == "every" and tokens > 1)
        self.forward = ForwardPass(conversation, start, tokens, batch, mask, prunes)
        if conversation.real is not None or (start and tokens > 1):
            self.forward.read_padding(known)

    def enter_layer(self, layer: int, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Before a decoder layer runs: cut if it is a stage, then give it positions and mask of what it holds."""
        forward = self.forward
        hidden, *rest = args
        if forward.prunes and layer in self.pruning.schedule.layers:
            hidden = self.cut(layer, module, hidden, kwargs)
        if forward.index is None and layer not in forward.conversation.kept:
            return None  # nothing is missing at this layer: stock behaviour, bit for bit
        past = self.adapter.cached_keys(kwargs.get("past_key_values"), layer)
        key = past, self.adapter.window(layer), id(forward.conversation.kept.get(layer))
        if key not in forward.shared:
            forward.shared[key] = self.layer_inputs(layer, past, hidden, kwargs)
        return (hidden, *rest), {**kwargs, **forward.shared[key]}

    def cut(self, layer: int, module: nn.Module, hidden: Tensor, kwargs: dict) -> Tensor:
        """Score the tokens present and keep the best; returns their hidden states (batch, kept, hidden)."""
        forward, schedule, sinks = self.forward, self.pruning.schedule, self.forward.start == 0
        if forward.present is None:
            if kwargs.get("attention_mask") is None:  # the stock mask already says that there are no pads
                forward.present = forward.prompt = [forward.tokens] * forward.batch
            else:
                forward.read_padding()
        present = forward.present
        forced = [schedule.forced(n, sinks) for n in present]
        wanted = [schedule.keep(n, sinks) for n in present]
        short = [n < self.pruning.min_prompt_tokens for n in forward.prompt]
        keep = [n if skip else k for n, k, skip in zip(present, wanted, short, strict=True)]
        offered, width = hidden.shape[1], max(keep)

        columns = forward.present_columns(hidden.device)
        position_ids, embeddings = self.positions_of(layer, hidden, kwargs)
        local = max(amount for _, amount in forced)
        here = columns != ABSENT
        context = ScoringContext(module, here, position_ids, embeddings, local, self.pruning.generator)
        scores = self.pruning.scorer.score(layer, hidden, context).detach().float()
        if scores.shape != columns.shape:
            raise ValueError(
                f"scorer gave shape {tuple(scores.shape)} at layer {layer}, expected {tuple(columns.shape)}"
            )
        scores = scores.masked_fill(~here, 0.0)
        forward.finite.append(torch.isfinite(scores).all())

        if keep == present:
            kept = columns
        else:
            if min(present) == offered and min(keep) == width:
                chosen = select(scores, width, *forced[0])
                kept = columns.gather(1, chosen)
            else:
                numbers = torch.tensor([present, keep, *zip(*forced, strict=True)], device=hidden.device)
                chosen, filled = select_ragged(scores, *numbers, width)
                kept = columns.gather(1, chosen).masked_fill(~filled, ABSENT)
            hidden = take_tokens(hidden, chosen)
            forward.index = chosen if forward.index is None else forward.index.gather(1, chosen)
            forward.columns, forward.present = kept, keep
            forward.shared.clear()
        counts = [(n, k, got, *ends) for n, k, got, ends in zip(present, wanted, keep, forced, strict=True)]
        forward.stages.append(Stage(layer, columns, scores, kept, counts))
        return hidden

    def layer_inputs(self, layer: int, past: int, hidden: Tensor, kwargs: dict) -> dict[str, Any]:
        """The keyword arguments of a cut layer that differ from what the model's loop hands to every layer."""
        forward, window = self.forward, self.adapter.window(layer)
        tokens, total = hidden.shape[1], forward.start + forward.tokens
        implementation = self.adapter.implementation
        position_ids, embeddings = self.positions_of(layer, hidden, kwargs)
        changed = {"position_ids": position_ids, "position_embeddings": embeddings, "attention_mask": None}
        if kwargs.get("cache_position") is not None:  # sliced, not gathered: caches read its length alone
            changed["cache_position"] = kwargs["cache_position"][:tokens]
        outside = window is not None and total > window
        if outside and implementation == "flash_attention_2":
            raise ValueError(f"FlashAttention cannot apply the window of layer {layer} to original positions; use sdpa")
        causal_by_itself = implementation == "flash_attention_2" or (implementation == "sdpa" and past == 0)
        absent = forward.conversation.absent or (forward.present and min(forward.present) < tokens)
        if absent or outside or not (tokens == 1 or causal_by_itself):
            visible = visible_keys(*self.columns_of(layer, past, hidden.device), window)
            changed["attention_mask"] = attention_mask(visible, implementation, hidden.dtype)
        return changed

    def columns_of(self, layer: int, past: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Columns of the queries (batch, queries), and of the cached keys and the queries (batch, past + queries)."""
        forward, window = self.forward, self.adapter.window(layer)
        queries = forward.present_columns(device)
        before = forward.conversation.given(layer, forward.start, forward.batch, device)
        if past != (before.shape[1] if window is None else min(before.shape[1], window - 1)):
            if forward.conversation.absent:
                raise ValueError(
                    f"the cache of layer {layer} was compressed further, which padded batches do not support"
                )
            before = before[:, :1].expand(-1, past)  # which keys are left is unknown, but all of them are past
        return queries, torch.cat([before[:, before.shape[1] - past :], queries], dim=1)

    def positions_of(self, layer: int, hidden: Tensor, kwargs: dict) -> tuple[Tensor, Any]:
        """(position_ids, position_embeddings) of the tokens present at this layer, original or renumbered."""
        forward = self.forward
        if self.pruning.positions == "compact" and (forward.index is not None or layer in forward.conversation.kept):
            before = forward.conversation.given(layer, forward.start, forward.batch, hidden.device)
            columns = torch.cat([before, forward.present_columns(hidden.device)], dim=1)
            position_ids = ((columns != ABSENT).cumsum(1) - 1).clamp(min=0)[:, before.shape[1] :]
            return position_ids, self.adapter.positions(hidden, position_ids)
        position_ids, embeddings = kwargs["position_ids"], kwargs["position_embeddings"]
        if forward.index is None:
            return position_ids, embeddings
        return take_tokens(position_ids, forward.index), tuple(take_tokens(part, forward.index) for part in embeddings)

    def end(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """After the decoder ran: check the scores, remember what the cache holds, write trace and log."""
        forward, self.forward = self.forward, None
        if forward.finite:
            finite = torch.stack([flag.to(forward.finite[0].device) for flag in forward.finite]).tolist()
            if not all(finite):
                raise ValueError(f"scores at layer {forward.stages[finite.index(False)].layer} are NaN or infinite")
        cache, layers = getattr(output, "past_key_values", kwargs.get("past_key_values")), len(self.adapter.layers)
        if cache is not None:
            self.conversations[cache] = forward.remember(layers)
        if forward.prunes:
            kept = {stage.layer: stage.kept for stage in forward.stages}
            lengths = [self.adapter.cached_keys(cache, layer) for layer in range(layers)] if cache is not None else []
            self.trace.prefills.append(Prefill(forward.tokens, kept, lengths, self.reason(forward)))
            if self.pruning.log is not None:
                append_log(self.pruning.log, forward.stages)

    def reason(self, forward: ForwardPass) -> str | None:
        """Why this prefill cut nothing, or None if it cut something."""
        if any(kept < present for stage in forward.stages for present, _, kept, *_ in stage.counts):
            return None
        if not forward.stages:
            return "the schedule has no stages"
        if max(forward.prompt) < self.pruning.min_prompt_tokens:
            return f"prompt shorter than min_prompt_tokens={self.pruning.min_prompt_tokens}"
        if self.pruning.schedule.keep_ratio == 1.0:
            return "keep_ratio is 1"
        return "prompt too short: all of its tokens are forced to stay"
