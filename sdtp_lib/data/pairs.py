"""Training data: prompts with answers from the demo's corpus, SQuAD, Dolly-15k, or lines of one's own of three kinds.

A pair is `{"id", "prompt", "answer", "dataset"}`. Its prompt is text, which the answer follows at once, or the turns of
a chat before the answer; of those `where` says which line they are. `document` names what it is about, where the data
say so: prompts about one document may not be parted between training and tests.
"""

from __future__ import annotations

import os
import random
from typing import Any

from .corpora import check_limit, demo_pairs, rows_of
from .real.passages import SQUAD
from .real.training_pairs import question_pairs
from .records import CHAT_LINE, DOLLY_LINE, PROMPT_LINE, check

CORPORA = ("demo", "demo-dense", "dolly", SQUAD)  # data that need no file
DOLLY, DOLLY_REVISION = "databricks/databricks-dolly-15k", "bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a"


def training_pairs(data: str | os.PathLike, num_samples: int, seed: int) -> list[dict]:
    """Prompts with answers: fresh demo documents, questions on SQuAD's training articles, or other data (see
    `read_pairs`), all in a seeded order."""
    if data in CORPORA[:2]:
        return demo_pairs(num_samples, seed, dense=data == "demo-dense")
    if data == SQUAD:
        return question_pairs(data, num_samples, seed)
    pairs = read_pairs() if data == "dolly" else read_pairs(data)
    random.Random(seed).shuffle(pairs)
    return pairs


def read_pairs(source: str | os.PathLike = DOLLY, revision: str | None = None, limit: int | None = None) -> list[dict]:
    """Prompts with answers from lines of three kinds, which may be mixed.

    A line has `messages`, turns of a chat, of which the assistant's last is the answer and all before it the prompt; or
    `prompt` and `answer`; or Dolly's fields, of which blank instructions and responses are left out.

    Args:
        source: a Hub name, by default Dolly-15k (the paper's training data), a JSONL file, or a folder with one.
        revision: of the Hub's copy; that of Dolly-15k is pinned.
        limit: take the first `limit` pairs; None takes all.

    Raises:
        FileNotFoundError: if the source is not there.
        ValueError: for a limit below 1, no pairs, a damaged line, or one of none of these kinds; names file and line.
    """
    check_limit("limit", limit)
    pinned = DOLLY_REVISION if source == DOLLY else None
    pairs = []
    for index, (where, row) in enumerate(rows_of(source, None, "train", revision or pinned)):
        pair = _pair(row, where)
        if pair["prompt"] is None:
            continue
        pairs.append({"id": f"{pair['dataset']}-{index}", **pair, **_document(row)})
        if len(pairs) == limit:
            break
    if not pairs:
        raise ValueError(f"{source} holds no prompts with answers")
    return pairs


def _document(row: dict[str, Any]) -> dict[str, str]:
    """`document` of a line: its `title`, what its `id` has before its last slash, or Dolly's `context`."""
    named = row.get("title") or str(row.get("id") or "").rpartition("/")[0] or row.get("context")
    return {"document": str(named)} if named else {}


def _pair(row: dict[str, Any], where: str) -> dict[str, Any]:
    """`prompt`, `answer` and `dataset` of one line; a prompt of None if it is to be left out."""
    if "messages" in row:
        return _of_chat(row, where)
    if "prompt" in row or "answer" in row:
        check(row, PROMPT_LINE, where)
        return {"prompt": row["prompt"], "answer": row["answer"], "dataset": "own"}
    if "instruction" in row or "response" in row:
        return _of_dolly(row, where)
    raise ValueError(
        f"{where} has no prompt and answer, no messages, and no instruction and response; it has "
        f"{', '.join(row) or 'nothing'}"
    )


def _of_chat(row: dict[str, Any], where: str) -> dict[str, Any]:
    check(row, CHAT_LINE, where)
    turns = [{name: turn[name] for name in ("role", "content")} for turn in row["messages"]]
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    if not any(turn["role"] == "user" and turn["content"].strip() for turn in turns[:last]):
        raise ValueError(f"{where}, field messages: found no turn of the assistant after one of the user with text")
    if not turns[last]["content"].strip():
        raise ValueError(f"{where}, field messages[{last}].content: found no text in the answer")
    answer = turns[last]["content"]
    return {"prompt": turns[:last], "answer": answer, "dataset": "own", "where": where}  # a template may refuse it yet


def _of_dolly(row: dict[str, Any], where: str) -> dict[str, Any]:
    check(row, DOLLY_LINE, where)
    instruction, response = row["instruction"].strip(), row["response"].strip()
    context = f"Context: {row['context'].strip()}\n\n" if row.get("context") else ""
    prompt = f"Instruction: {instruction}\n\n{context}Response:"
    return {"prompt": prompt if instruction and response else None, "answer": f" {response}", "dataset": "dolly"}
