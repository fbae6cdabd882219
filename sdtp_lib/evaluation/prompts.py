"""From a record to the token ids that the model continues.

LongBench-mini is asked in the wording that the demo model was trained on. LongBench's records are asked in LongBench's
own wording: a `dataset2prompt.json` (LongBench's own file, {dataset: template with {context} and {input}}) beside the
JSONL files comes first; a Hub copy with `question` and `answer_prefix` has its wording in those fields and in `context`
already; records in the official schema get the templates of lm-evaluation-harness. Those leave out the line end after
"Next line of code:" and one blank line before the question of triviaqa and samsum, which newer official files have.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..data.chat import answer_ids, prompt_ids
from ..data.demo.dense import ALL_TASKS
from ..data.records import TEMPLATES, check
from ..data.tasks import DATASETS
from ..text_files import read_json

TEMPLATE_FILE = "dataset2prompt.json"
PLACES = re.compile(r"\{(context|input)\}")  # all other braces of a template are text, such as those of JSON


def load_templates(source: str | os.PathLike | None) -> dict[str, str]:
    """Templates of `dataset2prompt.json` in a local data folder; empty if there is none.

    Raises:
        ValueError: if the file is damaged, or one of its templates is no text or has no {context}.
    """
    path = Path(source or ".", TEMPLATE_FILE)
    if source is None or not path.is_file():
        return {}
    templates = read_json(path)
    check(templates, TEMPLATES, str(path))
    return templates


def build_prompt(record: dict, templates: dict[str, str] | None = None) -> str:
    """The prompt text of one record; the places {context} and {input} of a template are filled in, once.

    Raises:
        ValueError: for an unknown dataset or an empty prompt; the message names dataset and record.
    """
    name = record["dataset"]
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; known: {', '.join(DATASETS)}")
    if not (record.get("context") or "").strip():
        raise ValueError(f"{name} record {record.get('_id')} has no context: an empty prompt")
    if template := (templates or {}).get(name, DATASETS[name].prompt):
        return PLACES.sub(lambda place: record[place[1]], template)
    if name in ALL_TASKS:
        return ALL_TASKS[name].prompt(record["context"], record["input"])
    if record.get("question") is not None and record.get("answer_prefix") is not None:
        body, prefix = record["context"] + record["question"], record["answer_prefix"]
        has_prefix = body.rstrip().endswith(prefix.strip())  # samsum's question ends with it
        return body if has_prefix else body + prefix
    from lm_eval.utils import apply_template

    # The harness's templates say `question` where the official records say `input`.
    return apply_template(_harness_template(name), {"context": record["context"], "question": record["input"]})


@lru_cache
def _harness_template(dataset: str) -> str:
    """The Jinja template of a LongBench dataset, with {{context}} and {{question}}."""
    import lm_eval.tasks  # seconds to import, and LongBench-mini does not need it
    from lm_eval.tasks._yaml_loader import load_yaml

    file = Path(lm_eval.tasks.__file__).parent / "longbench" / f"{dataset}.yaml"
    return load_yaml(file, resolve_func=False)["doc_to_text"]


def cut_middle(ids: list[int], limit: int) -> list[int]:
    """At most `limit` ids: the first and the last half of them, as LongBench shortens its prompts."""
    return ids if len(ids) <= limit else ids[: limit // 2] + ids[limit // 2 - limit :]


def encode(
    tokenizer: PreTrainedTokenizerBase, prompt: str, limit: int | None, chat: bool = False
) -> tuple[list[int], bool]:
    """Token ids of a prompt, at most `limit`, and whether its middle was cut out (LongBench's way of shortening).

    Args:
        limit: None keeps the prompt whole.
        chat: put it into the tokenizer's chat template, all of which stays whole.

    Raises:
        ValueError: if `limit` leaves no room.
    """
    ids = prompt_ids(tokenizer, prompt, chat)
    if limit is None:
        return ids, False
    around = len(prompt_ids(tokenizer, "", chat))
    if limit < 2 * (around + 1):  # or a half might cut into what stands around the prompt
        raise ValueError(f"the model's {limit} positions leave no room for a prompt")
    return cut_middle(ids, limit), len(ids) > limit


def encode_answer(tokenizer: PreTrainedTokenizerBase, record: dict, prompt: str, chat: bool = False) -> list[int]:
    """Token ids of a record's first answer as the model would go on from `prompt` (its text), at most the dataset's
    answer length.

    LongBench-mini says what stands between prompt and answer; elsewhere that is a space, unless the prompt ends with
    white space or asks for code. In a chat template (`chat`) nothing does but the template.
    """
    spec, name = DATASETS[record["dataset"]], record["dataset"]
    tight = spec.category == "Code" or prompt[-1:].isspace()
    before = ALL_TASKS[name].before if name in ALL_TASKS else "" if tight else " "
    return answer_ids(tokenizer, prompt, before + record["answers"][0], chat)[: spec.max_new_tokens]
