"""Answers that a run of the harness leaves on disk, and everything that they depend on.

The harness's own cache (`CachingLM`) finds answers by their prompts alone, so that a pruned model got a full one's.
Here the key holds the model and its weights, the tokenizer, the schedule, the scorer and its weights, positions,
limits of length, code and versions, the kind of request, the request itself, and how a prompt that is too long is cut.
The file holds JSON, where the harness's holds pickles.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.models.utils import normalize_gen_kwargs
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...errors import Failed
from ...models.code_version import code_digest
from ...models.identity import all_weights, describe
from ...models.provenance import environment_record
from ...pruning.context import TokenPruning
from ...results import append_jsonl, check_output


class AnswerCache(CacheHook):
    """One line of JSON for each answer, written as soon as it is there; several runs may share the file.

    Answers that are drawn at random or are no finite numbers are neither kept nor found.

    Args:
        path: the file, made if missing; None keeps nothing. A line torn by a kill is passed over.
        settings: plain JSON values that all answers depend on.

    Raises:
        ValueError: if nothing can be written there, or the file is none of these.
    """

    def __init__(self, path: str | os.PathLike | None, settings: Mapping[str, Any]):
        super().__init__(None)
        self.path, self.found = path, 0
        self.cuts_middle = False  # what a prompt that is too long loses now, if not its beginning
        self._settings = _digest(settings)
        self._answers = {} if path is None else read_answers(Path(path))
        if self._answers and not Path(path).read_bytes().endswith(b"\n"):
            with open(path, "ab") as file:
                file.write(b"\n")  # or the next answer would go on in the torn line

    def ask(self, kind: str, requests: list[Instance], ask: Callable[[list[Instance]], list]) -> list:
        """Answers in order: those that are known from here, the others by `ask`.

        Args:
            kind: the method of the harness's model classes that answers.
        """
        known = [None if _drawn(kind, request.args) else self._answers.get(self._key(kind, request.args))
                 for request in requests]  # fmt: skip
        missing = [request for request, answer in zip(requests, known, strict=True) if answer is None]
        self.found += len(requests) - len(missing)
        asked = iter(ask(missing) if missing else [])
        return [next(asked) if x is None else tuple(x) if isinstance(x, list) else x for x in known]

    def add_partial(self, attr: str, req: tuple, res: Any) -> None:
        """Keep one answer: the harness's model classes call this as soon as they have it.

        Raises:
            Failed: if it cannot be written.
        """
        numbers = [x for x in (res if isinstance(res, tuple) else [res]) if isinstance(x, float)]
        if self.path is not None and not _drawn(attr, req) and all(map(math.isfinite, numbers)):
            key = self._key(attr, req)
            try:
                append_jsonl(self.path, [{"key": key, "answer": res}])
            except OSError as error:  # no fault of what was asked, as OSError says before work begins
                raise Failed(f"an answer could not be written to {self.path}: {error.strerror}") from error
            self._answers[key] = res

    def _key(self, kind: str, request: tuple) -> str:
        return _digest([self._settings, kind, self.cuts_middle, list(request)])


def read_answers(path: Path) -> dict[str, Any]:
    """Key -> answer, as an `AnswerCache` finds them in its file.

    Raises:
        ValueError: if nothing can be written there, or the file is none of these.
    """
    check_output(path)
    lines = path.read_bytes().splitlines() if path.exists() else []
    answers = {}
    for line in lines:
        try:
            row = json.loads(line)
            if isinstance(row["answer"], str | float | list):
                answers[row["key"]] = row["answer"]
        except (ValueError, TypeError, KeyError):
            continue
    if lines and not answers:
        raise ValueError(f"{path} is no file of answers that sdtp wrote; name another one, or delete it")
    return answers


def answer_settings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pruning: TokenPruning | None, **limits
) -> dict[str, Any]:
    """What decides a model's answers, as plain JSON values.

    Args:
        limits: further settings, such as the longest prompt.

    Raises:
        ValueError: for a scorer that cannot be told from another one.
    """
    pruned = pruning and {name: describe(value) for name, value in vars(pruning).items() if name != "log"}
    return {
        "model": [type(model).__name__, all_weights(model), str(model.dtype), model.config._attn_implementation],
        "config": [json.loads(each.to_json_string(use_diff=False)) for each in (model.config, model.generation_config)],
        "tokenizer": _tokenizer(tokenizer), "pruning": pruned, "limits": describe(limits),
        "versions": [torch.__version__, version("transformers"), version("lm_eval"), code_digest()],
        "device": environment_record(model)["device"],
    }  # fmt: skip


def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> list:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    texts = fast.to_str() if fast is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return [type(tokenizer).__name__, _digest(texts), tokenizer.chat_template, repr(tokenizer.special_tokens_map),
            repr(sorted(tokenizer.init_kwargs.items(), key=str))]  # fmt: skip


def _drawn(kind: str, request: tuple) -> bool:
    return kind == "generate_until" and bool(normalize_gen_kwargs(request[1])["do_sample"])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()
