"""Chat templates: how a prompt, and an answer after it, become the token ids that a chat model reads.

A template is a model's own text around each turn; it holds the special tokens already, so that its text is tokenised
without further ones. All that asks a model goes through here: marking, evaluation, and the explorer.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from .tasks import DATASETS

Prompt = str | Sequence[Mapping[str, str]]  # plain text, or the turns {"role", "content"} before the answer


def uses_template(tokenizer: PreTrainedTokenizerBase, wanted: bool | None = None) -> bool:
    """Whether prompts go into the tokenizer's chat template: as `wanted`, by default if it has one.

    Raises:
        ValueError: if a template is wanted and there is none.
    """
    has_one = bool(tokenizer.chat_template)
    if wanted and not has_one:
        raise ValueError(f"the tokenizer of {_name(tokenizer)} has no chat template")
    return has_one if wanted is None else wanted


def takes_template(dataset: str | None) -> bool:
    """Whether prompts of a dataset go into a chat template where one is used; those of unknown ones do."""
    return dataset not in DATASETS or DATASETS[dataset].chat


def template_digest(tokenizer: PreTrainedTokenizerBase, chat: bool) -> str | None:
    """Short SHA-256 of the template's text, as it is recorded; None where no template is used."""
    return hashlib.sha256(tokenizer.get_chat_template().encode()).hexdigest()[:16] if chat else None


def prompt_text(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, chat: bool) -> str:
    """A prompt as the model reads it: plain as it is, in the template up to where the answer begins.

    Args:
        chat: put it into the tokenizer's template, plain text as the user's turn; turns need that.

    Raises:
        ValueError: for turns without a template, or that the template refuses.
    """
    if chat:
        return _rendered(tokenizer, _turns(prompt), add_generation_prompt=True)
    if not isinstance(prompt, str):
        lacking = "is switched off" if tokenizer.chat_template else f"the tokenizer of {_name(tokenizer)} does not have"
        raise ValueError(f"messages need a chat template, which {lacking}")
    return prompt


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, chat: bool) -> list[int]:
    """Token ids of `prompt_text`, with the tokenizer's special tokens where no template has put its own."""
    return tokenizer(prompt_text(tokenizer, prompt, chat), add_special_tokens=not chat)["input_ids"]


def answer_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, answer: str, chat: bool) -> list[int]:
    """Token ids of an answer as the model goes on after `prompt_ids`: together they are what it reads.

    Without a template that is the text of the answer, tokenised by itself. In a template it is all that the template
    puts after the prompt, up to the token that ends the turn; where those tokens cannot be told from the prompt's, as
    white space of both became one token, the answer is tokenised by itself as well. An answer to plain text loses the
    white space around it there, which parts it from the text alone.

    Raises:
        ValueError: if the template does not put the answer after the prompt, or refuses the turns.
    """
    if not chat:
        return tokenizer(answer, add_special_tokens=False)["input_ids"]
    before, answer = prompt_text(tokenizer, prompt, chat), answer.strip() if isinstance(prompt, str) else answer
    whole = _rendered(tokenizer, [*_turns(prompt), {"role": "assistant", "content": answer}]).rstrip()
    if not whole.startswith(before):
        raise ValueError("the chat template writes an answered prompt otherwise, so where the answer begins is unknown")
    ids, asked = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (whole, before))
    if ids[: len(asked)] == asked:
        return ids[len(asked) :]
    return tokenizer(whole[len(before) :], add_special_tokens=False)["input_ids"]


def role_positions(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], role: str = "system"
) -> list[int]:
    """Where the messages of a role lie in the ids that `prompt_ids` gives in the chat template, ascending.

    They are the tokens of what each message says, not of the marks that the template puts around it. For
    `TokenPruning(..., keep=role_positions(tokenizer, turns))`.

    Raises:
        ValueError: if no message has this role, the template refuses the turns or leaves such a message out, or the
            tokenizer cannot tell from which letters a token comes (one without a fast version).
    """
    if not any(turn["role"] == role for turn in turns):
        there = ", ".join(dict.fromkeys(turn["role"] for turn in turns))
        raise ValueError(f"no message has the role {role!r}; there are: {there}")
    if not tokenizer.is_fast:
        raise ValueError(f"the tokenizer of {_name(tokenizer)} cannot tell from which letters a token comes")
    text = prompt_text(tokenizer, turns, True)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    found = set()
    for number, turn in enumerate(turns):
        if turn["role"] == role and turn["content"].strip():
            start, stop = _written(tokenizer, text, turns, number)
            found.update(place for place, (first, last) in enumerate(offsets) if first < stop and last > start)
    return sorted(found)


def warn_of_other_template(scorer: Any, digest: str | None) -> None:
    """One line of warning if a pruner was trained on prompts in another template, or in none, than it is used on.

    Args:
        scorer: of a pruner the record says what it was trained on; one without such a record is passed over.
        digest: `template_digest` of the prompts that it is used on.
    """
    scorer = getattr(scorer, "scorer", scorer)  # of a pooled one
    record = getattr(scorer, "record", {})
    if record.get("chat_template", digest) == digest:
        return
    trained, used = (f"in chat template {sha}" if sha else "in no chat template"
                     for sha in (record["chat_template"], digest))  # fmt: skip
    logging.getLogger(__name__).warning(
        "sdtp: warning: pruner %s was trained on prompts %s and is used on prompts %s; it may cut the wrong tokens",
        repr(getattr(scorer, "origin", "")), trained, used,
    )  # fmt: skip


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return tokenizer.name_or_path or "this model"


def _turns(prompt: Prompt) -> list[Mapping[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [*prompt]


def _written(
    tokenizer: PreTrainedTokenizerBase, text: str, turns: Sequence[Mapping[str, str]], number: int
) -> tuple[int, int]:
    """Where in the prompt's `text` a message is written: what changes with it, wherever the template puts it."""
    said = turns[number]["content"].strip()
    other = next(letter for letter in "xyz" if letter not in (said[0], said[-1]))
    changed = [*turns[:number], {**turns[number], "content": other}, *turns[number + 1 :]]
    texts = [text, prompt_text(tokenizer, changed, True)]
    start = len(os.path.commonprefix(texts))
    stop = len(text) - len(os.path.commonprefix([each[start:][::-1] for each in texts]))
    if start >= stop:
        raise ValueError(f"the chat template leaves out message {number}, of the role {turns[number]['role']!r}")
    return start, stop


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], **options) -> str:
    from jinja2 import TemplateError  # transformers imports Jinja2 for templates alone, too

    try:
        return tokenizer.apply_chat_template([*turns], tokenize=False, **options)
    except TemplateError as error:
        raise ValueError(f"the chat template refuses it: {error}") from None
