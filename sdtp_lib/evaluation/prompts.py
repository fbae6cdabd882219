"""From a record to the token ids that the model continues.

LongBench-mini is asked in the wording that the demo model was trained on. LongBench's records are asked in LongBench's
own wording where the data bring it: Hub copies with `question` and `answer_prefix`, or a `dataset2prompt.json`
(LongBench's own file, {dataset: template with {context} and {input}}) beside the JSONL files. Otherwise a plain wording
of this project stands in, and scores are then not comparable with published ones.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..demo.corpus import TASKS
from .metrics import DATASETS

TEMPLATE_FILE = "dataset2prompt.json"
QUESTION = "{context}\n\nAnswer from the text above in as few words as possible.\nQuestion: {input}\nAnswer:"
PLAIN = {
    "SingleDoc": QUESTION,
    "MultiDoc": QUESTION,
    "Summ": "{context}\n\nSummarise the text above. {input}\nSummary:",
    "FewShot": "{context}\n{input}",
    "Code": "{context}{input}",
}


def load_templates(source: str | os.PathLike | None) -> dict[str, str]:
    """Templates of `dataset2prompt.json` in a local data folder; empty if there is none.

    Raises:
        ValueError: if the file is damaged, or one of its templates has no {context}.
    """
    path = Path(source or ".", TEMPLATE_FILE)
    if source is None or not path.is_file():
        return {}
    try:
        templates = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is not a JSON object of templates") from None
    for name, template in templates.items():
        if "{context}" not in str(template):
            raise ValueError(f"{path}: the template of {name} has no {{context}}")
    return templates


def build_prompt(record: dict, templates: dict[str, str] | None = None) -> str:
    """The prompt text of one record.

    Raises:
        ValueError: for an unknown dataset or an empty prompt; the message names dataset and record.
    """
    name = record["dataset"]
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; known: {', '.join(DATASETS)}")
    if not (record.get("context") or "").strip():
        raise ValueError(f"{name} record {record.get('_id')} has no context: an empty prompt")
    if templates and name in templates:
        return templates[name].format(context=record["context"], input=record["input"])
    if name in TASKS:
        return TASKS[name].prompt(record["context"], record["input"])
    if record.get("question") is not None and record.get("answer_prefix") is not None:
        body, prefix = record["context"] + record["question"], record["answer_prefix"]
        has_prefix = body.rstrip().endswith(prefix.strip())  # samsum's question ends with it
        return body if has_prefix else body + prefix
    return PLAIN[DATASETS[name].category].format(context=record["context"], input=record["input"])


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, limit: int, chat: bool = False) -> tuple[list[int], bool]:
    """Token ids of a prompt, at most `limit`, and whether its middle was cut out (LongBench's way of shortening).

    Args:
        chat: put the tokenizer's chat template, if it has one, around the (shortened) prompt.

    Raises:
        ValueError: if `limit` leaves no room.
    """
    chat = chat and bool(tokenizer.chat_template)
    ids = tokenizer(prompt, add_special_tokens=not chat)["input_ids"]
    room = limit - (len(_wrap(tokenizer, "")) if chat else 0)
    if room < 2:
        raise ValueError(f"the model's {limit} positions leave no room for a prompt")
    truncated = len(ids) > room
    if truncated:
        ids = ids[: room // 2] + ids[room // 2 - room :]
    if chat:
        ids = _wrap(tokenizer, tokenizer.decode(ids) if truncated else prompt)
    return ids, truncated


def _wrap(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    turn = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]
