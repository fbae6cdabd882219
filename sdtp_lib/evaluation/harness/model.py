"""The model class `sdtp` of lm-evaluation-harness: a Hugging Face model whose prompts are pruned while it is evaluated.

Importing this module imports the harness; `register` in `command` makes the class known there by name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...models.dtypes import dtype_name
from ...models.identity import pruner_record
from ...pruning.context import TokenPruning
from ...pruning.scoring import must_be_shown
from ...pruning.trace import PruningTrace
from ..batches import left_pad, pad_token, tokens_per_layer
from ..likelihood import score_continuations
from ..prompts import cut_middle
from .arguments import check_arguments, load, refuse_oracle
from .bare_tokens import BareTokensLM
from .cache import AnswerCache, answer_settings


class SDTPLM(BareTokensLM):
    """A causal language model as the harness runs it, under `pruning`.

    Generation prunes the prompt. Scoring a continuation prunes its context, which is prefilled once for all the
    continuations that share it; the continuation then attends what is left, and is itself never cut.

    Args:
        model: in eval mode, on its device.
        tokenizer: of the model.
        pruning: None runs the model as it is.
        batch_size: prompts, or contexts with all their continuations, at a time.
        cache: file of answers, see `AnswerCache`; runs of the same settings take them from there.
        options: of `HFLM`, those named in OPTIONS.

    Raises:
        ValueError: for a batch size that is no whole number of 1 or more, an unknown option, a value that an option
            cannot have, or the oracle; for a cache that cannot be written or is another file.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pruning: TokenPruning | None = None,
        *,
        batch_size: int | str = 1,
        cache: str | os.PathLike | None = None,
        **options,
    ):
        check_arguments({"batch_size": batch_size, "cache": cache, **options})
        refuse_oracle(must_be_shown(getattr(pruning, "scorer", None)))
        own = tokenizer if tokenizer.pad_token_id is not None else deepcopy(tokenizer)
        super().__init__(model, tokenizer=own, backend="causal", batch_size=int(batch_size), **options)
        self.tokenizer = tokenizer  # to a copy the harness may have added a pad token that the model does not know
        if (self.custom_prefix_token_id or 0) >= model.config.vocab_size:
            raise ValueError(f"prefix_token_id must be below {model.config.vocab_size}, as many tokens the model has")
        self.pruning, self._cuts_middle = pruning, False
        limits = {"max_length": self.max_length, "chat": self.chat_template_args, **options}
        settings = {} if cache is None else answer_settings(model, tokenizer, pruning, **limits)
        self.cache_hook = self.cache = AnswerCache(cache, settings)
        self.prompts, self.present = 0, np.zeros(model.config.num_hidden_layers)  # sums over all prompts so far

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict, additional_config: dict | None = None) -> SDTPLM:
        """What the harness makes of `--model_args`; see `load`. They win over its own `--device` and `--batch_size`.

        Raises:
            ValueError: for an unknown argument, a value it cannot have, or a model without a tokenizer.
            FileNotFoundError: if the model or the pruner is not there.
        """
        given = {name: value for name, value in (additional_config or {}).items() if value is not None}
        given.pop("max_batch_size", None)  # of automatic batch sizes, which are refused
        arguments, of_load = {**given, **arg_dict}, signature(load).parameters
        check_arguments(arguments)
        options = {name: arguments.pop(name) for name in [*arguments] if name not in of_load}
        return cls(*load(**arguments), **options)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> SDTPLM:
        """The same from "name=value,name=value"."""
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def get_model_info(self) -> dict[str, Any]:
        """What the harness records with its results; the tokens are means over all prompts so far."""
        pruning, name = self.pruning, self.model.name_or_path
        commit = "" if os.path.exists(name) else name.partition("@")[2]  # as `load_model` calls one from the Hub
        layers = (self.present / self.prompts).round(4).tolist() if self.prompts else None
        return {
            "pretrained": name, "model_num_parameters": self.model.num_parameters(),
            "model_dtype": dtype_name(self.model), "model_sha": commit,
            "scorer": type(pruning.scorer).__name__ if pruning else None,
            "pruner": pruner_record(pruning.scorer, self.model) if pruning else None,
            "schedule": asdict(pruning.schedule) if pruning else None,
            "positions": pruning.positions if pruning else None, "tokens_per_layer": layers,
            "compression": round(layers[0] / float(np.mean(layers)), 4) if layers else None,
            "answers_from_cache": self.cache.found,
        }  # fmt: skip

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Refuse the harness's own cache, which gives any model's answers to any other.

        Raises:
            ValueError: names what to use instead.
        """
        if cache_hook.dbdict is not None:
            cache_hook.dbdict.close()
            raise ValueError("use_cache finds answers by their prompts alone; give the model the argument cache=FILE")
        super().set_cache_hook(cache_hook)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers to prompts; too long ones lose their middle in tasks of LongBench, else, as always, their beginning.

        A task is LongBench's if its name says so.
        """
        answers: dict[int, str] = {}
        for middle in (False, True):
            share = [i for i, request in enumerate(requests) if ("longbench" in (request.task_name or "")) == middle]
            if share:
                self._cuts_middle = self.cache.cuts_middle = middle
                ask = partial(super().generate_until, disable_tqdm=disable_tqdm or _quiet())
                found = self.cache.ask("generate_until", [requests[i] for i in share], ask)
                answers.update(zip(share, found, strict=True))
        return [answers[i] for i in range(len(requests))]

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """(input_ids, attention_mask), both (batch, longest), of at most `left_truncate_len` tokens a row."""
        if not self._cuts_middle and self.tokenizer.pad_token_id is not None:
            return super().tok_batch_encode(strings, padding_side, left_truncate_len, truncation)
        prompts = [self.tok_encode(string) for string in strings]
        if self._cuts_middle:
            prompts = [cut_middle(prompt, left_truncate_len) for prompt in prompts]
        elif left_truncate_len:
            prompts = [prompt[-left_truncate_len:] for prompt in prompts]
        return left_pad(prompts, pad_token(self.tokenizer), "cpu")

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **generation_kwargs) -> Tensor:
        if self.model.generation_config.eos_token_id is None:
            generation_kwargs.setdefault("eos_token_id", self.tokenizer.eos_token_id)
        with self._pruned() as trace:
            out = super()._model_generate(context, max_length, stop, **generation_kwargs)
        self._count(trace, generation_kwargs["attention_mask"].sum(1).tolist())
        return out

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, whether it is the greedy choice) of each request's continuation after its context."""
        ask = partial(super().loglikelihood, disable_tqdm=disable_tqdm or _quiet())
        return self.cache.ask("loglikelihood", requests, ask)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihoods of whole texts by the unpruned model.

        Raises:
            ValueError: while pruning, as there is no context to prune; names the tasks.
        """
        if self.pruning:
            tasks = ", ".join(sorted({request.task_name for request in requests if request.task_name}))
            raise ValueError(
                f"loglikelihood_rolling ({tasks}) scores a text without a context, so nothing can be pruned; "
                "use method=full"
            )
        ask = partial(super().loglikelihood_rolling, disable_tqdm=disable_tqdm)
        return self.cache.ask("loglikelihood_rolling", requests, ask)

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """For every (name, context, continuation): (log-likelihood, whether it is the greedy choice).

        Contexts too long for the model lose their beginning.

        Raises:
            ValueError: for a continuation that is empty or does not fit the model.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, (_, context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length:
                raise ValueError(f"a continuation of {len(continuation)} tokens; it must have 1 to {self.max_length}")
            groups.setdefault(tuple(context[len(continuation) - self.max_length - 1 :]), []).append(i)
        contexts, size = sorted(groups, key=len, reverse=True), override_bs or self.batch_size
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests") as bar:
            for start in range(0, len(contexts), size):
                rows = [groups[context] for context in contexts[start : start + size]]
                scored = self._score(contexts[start : start + size], [[requests[i][2] for i in row] for row in rows])
                for i, answer in zip(sum(rows, []), sum(scored, []), strict=True):
                    answers[i] = answer
                    if requests[i][0] is not None:  # windows of rolling likelihoods have no name of their own
                        self.cache_hook.add_partial("loglikelihood", requests[i][0], answer)
                    bar.update()
        return answers

    def _score(
        self, contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[list[int]]]
    ) -> list[list[tuple[float, bool]]]:
        pad, lengths = pad_token(self.tokenizer), [len(context) for context in contexts]
        with self._pruned() as trace:
            answers = score_continuations(self.model, contexts, continuations, pad, self.softmax_dtype)
        self._count(trace, lengths)
        return answers

    def _pruned(self):
        return self.pruning(self.model) if self.pruning else nullcontext()

    def _count(self, trace: PruningTrace | None, lengths: list[int]) -> None:
        present = tokens_per_layer(trace, lengths, len(self.present))
        self.prompts, self.present = self.prompts + len(lengths), self.present + np.sum(present, axis=0)


def _quiet() -> bool:
    """Whether bars are off: the harness switches its own by an argument that overrules tqdm's variable."""
    return os.environ.get("TQDM_DISABLE", "") not in ("", "0")
