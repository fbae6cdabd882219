"""Which values the keys of `--model_args`, `--gen_kwargs` and `--metadata` may have."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

SOFTMAX_DTYPES = ("float64", "float32", "bfloat16", "float16")
Rule = tuple[Callable[[Any], bool], str]  # whether a value fits, and what fits in words


def whole(value: Any, least: int = 0, below: float = math.inf) -> bool:
    """Whether a value is a whole number of `least` or more, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < below


def number(value: Any, least: float, most: float = math.inf) -> bool:
    """Whether a value is a finite number from `least` to `most`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return is_number and least <= value <= most


def _word(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and bool(str(value).strip())


def _texts(value: Any) -> bool:
    return isinstance(value, str) or isinstance(value, list | tuple) and all(isinstance(x, str) for x in value)


POSITIVE: Rule = (lambda x: whole(x, 1), "a whole number, 1 or more")
WORD: Rule = (_word, "a word")
TRUTH: Rule = (lambda x: isinstance(x, bool), "True or False")
TOKENS: Rule = (lambda x: whole(x) or isinstance(x, list) and all(map(whole, x)), "a token's number, or a list of them")
COUNT: Rule = (whole, "a whole number, 0 or more")
SHARE: Rule = (lambda x: number(x, 0, 1), "a number from 0 to 1")

# What each of `evaluation.harness.arguments.load` and of its OPTIONS may be; `load` itself looks the names up.
MODEL_VALUES: dict[str, Rule] = {
    "pretrained": (lambda x: x is not None and not isinstance(x, bool) and str(x) != "", "a model's name or folder"),
    "pruner": (lambda x: x is None or _word(x), "a folder"),
    "schedule": (lambda x: x is None or _word(x) or number(x, 1), "a schedule's name"),
    "method": WORD, "dtype": WORD, "positions": (lambda x: x in ("original", "compact"), "'original' or 'compact'"),
    "seed": (lambda x: whole(x, 0, 2**63), "a whole number, 0 or more"),
    "batch_size": (lambda x: str(x).isdecimal() and int(x) > 0, "a whole number, 1 or more"),
    "cache": (lambda x: x is None or _word(x), "a file's name"),
    "max_length": (lambda x: x is None or whole(x, 2), "a whole number of tokens, 2 or more"),
    "add_bos_token": (lambda x: x is None or isinstance(x, bool), "True or False"),
    "prefix_token_id": (lambda x: x is None or whole(x), "a token's number, 0 or more"),
    "softmax_dtype": (
        lambda x: x is None or str(x).removeprefix("torch.") in SOFTMAX_DTYPES, f"one of {', '.join(SOFTMAX_DTYPES)}"
    ),
    "think_end_token": (lambda x: x is None or whole(x) or _word(x), "a token or its number"),
    "enable_thinking": (lambda x: x is None or isinstance(x, bool), "True or False"),
    "chat_template": (lambda x: x is None or isinstance(x, bool), "True or False"),
    "chat_template_args": (lambda x: x is None or isinstance(x, dict), "an object of template arguments"),
}  # fmt: skip

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")  # greedy decoding passes over these
# The settings of `generate` that the harness can hand on: others are its own, or change the shape of what comes back.
GENERATION_VALUES: dict[str, Rule] = {
    **dict.fromkeys(LENGTHS, POSITIVE), "until": (_texts, "a text or a list of texts"), "do_sample": TRUTH,
    "temperature": (lambda x: number(x, 0), "a number, 0 or more"), "top_k": COUNT,
    "top_p": SHARE, "min_p": SHARE, "typical_p": SHARE,
    "num_beams": POSITIVE, "early_stopping": TRUTH, "length_penalty": (lambda x: number(x, -math.inf), "a number"),
    "repetition_penalty": (lambda x: number(x, 0) and x > 0, "a number above 0"), "no_repeat_ngram_size": COUNT,
    "min_new_tokens": COUNT, "renormalize_logits": TRUTH, "eos_token_id": TOKENS, "suppress_tokens": TOKENS,
}  # fmt: skip

# What `--metadata`, or a YAML file, may say to this project's tasks, besides NOTES on the file itself.
TASK_VALUES: dict[str, Rule] = {
    "data": (lambda x: x is None or _word(x), "a folder of JSONL files, or a dataset's name on the Hub"),
    "records": (lambda x: x is None or whole(x, 1), "a whole number, 1 or more"),
}
NOTES = ("version", "description")


def check_values(where: str, given: Mapping[str, Any], rules: Mapping[str, Rule], also: tuple[str, ...] = ()) -> None:
    """Refuse a key that has no rule, and a value that breaks its rule.

    Args:
        where: what the keys are, as the message begins.
        also: keys that may have any value.

    Raises:
        ValueError: naming the first such key, and what is known or fits.
    """
    known = [*rules, *(name for name in also if name not in rules)]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"unknown {where} {unknown[0]!r}; known: {', '.join(known)}")
    for name, value in given.items():
        fits, words = rules.get(name, (None, ""))
        if fits is not None and not fits(value):
            raise ValueError(f"{where} {name} must be {words}, got {value!r}")
