"""Pruning a model's prompt while it is prefilled, and decoding on what is left.

`TokenPruning` puts forward pre-hooks on a model's decoder and its layers. At the input of a stage's layer the hidden
states of the tokens to drop are cut out; the layers above run, and fill their caches, on the rest. What the model's
loop hands every layer alike (positions, masks) is replaced by what fits the tokens that layer really has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import nn

from .families import ModelAdapter
from .hooks import Session
from .model_guards import Hook, guarded_generate, replaced
from .refusals import check_call, check_model
from .scoring import check_scorer
from .settings import PruningSettings
from .trace import PruningTrace


class TokenPruning(PruningSettings):
    """The context manager: `with TokenPruning(schedule, pruner)(model) as trace: model.generate(...)`.

    Logits exist for the tokens that are kept: `logits_to_keep=n` gives those of the last n of them, and a call without
    it those of `trace.kept_positions` of the last stage. Generation needs the last token's alone, which is never cut.

    Args:
        schedule: which layers cut and how much.
        scorer: a `TokenPruner` or any other scorer; may be None only if the schedule cuts nowhere.
        positions: "original" keeps every token's position, decode goes on at the prompt's length; "compact" renumbers
            the kept tokens 0, 1, ... at every stage, decode goes on at each layer's own count.
        prune: "first" cuts only a prefill on an empty cache; "every" cuts later prompts on the same cache too.
        min_prompt_tokens: shorter prompts pass untouched; 0 means that every prompt is cut. Below some length, which
            `break_even` reads from a latency sweep of a machine, pruning costs more than it saves; on two CPU cores and
            the scaled Mistral shape the prefill gained from 64 tokens on, the shortest timed, and the whole, with 128
            new tokens, little up to 2,048 and 1.5 times at 4,096.
        log: a JSONL file that gets one row per stage and prompt.
        generator: handed to scorers that draw at random.
        keep: tokens that no stage cuts, such as a chat's system prompt (`sdtp_lib.data.role_positions`). Positions and
            slices, `[0, 7, slice(20, 40)]`, count columns from the start of the conversation and go for every row; rows
            that differ in length need a (batch, tokens) bool mask, a row for each that the model gets (beams are rows).
            They count within a stage's budget, as the first and the last tokens do: it keeps more than its ratio only
            where all of these are more. Under prune="every" columns of prompts to come may be named, and a mask may be
            wider or, after the first prompt, narrower than what is there.

    Raises:
        ValueError: for an unknown option; on entering, for a model, scorer and schedule that do not fit each other; in
            the block, for a call that pruning could not answer rightly, before the model runs. What only the run can
            tell, such as scores that are no numbers or a press that does not fit, is refused right after the prefill.
    """

    session_of = staticmethod(Session)  # what makes the hooks; `experiments.costs.hook_costs` times those

    @contextmanager
    def __call__(self, model: nn.Module) -> Iterator[PruningTrace]:
        """Prune `model` inside the `with` block; leaving it, also by an exception, leaves nothing on the model."""
        adapter = ModelAdapter.of(model)
        self.schedule.check_model(len(adapter.layers))
        check_scorer(self.scorer, adapter.hidden_size, self.schedule.layers)
        check_model(model, adapter, self.positions == "compact")
        hooks = adapter.decoder._forward_pre_hooks.values()
        if any(isinstance(hook, Hook) for hook in hooks):
            raise ValueError("this model is already inside a TokenPruning context; contexts do not nest")
        session, decoder = self.session_of(self, adapter), adapter.decoder
        with ExitStack() as stack:
            keep = stack.callback
            if self.schedule.layers and model is not decoder:
                keep(model.register_forward_pre_hook(Hook(_check_call), with_kwargs=True).remove)
                stack.enter_context(guarded_generate(model, session.block))
            keep(decoder.register_forward_pre_hook(Hook(session.begin), with_kwargs=True).remove)
            keep(decoder.register_forward_hook(Hook(session.end), with_kwargs=True).remove)
            stack.enter_context(replaced(decoder, forward=session.a_pass))
            for index, layer in enumerate(adapter.layers):
                hook = Hook(partial(session.enter_layer, index))
                keep(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
            keep(session.block.close)  # first of all
            yield session.trace


def _check_call(module: nn.Module, args: tuple, kwargs: dict) -> None:
    check_call(kwargs, module.config)
