"""Every kind of record that comes from a file, as JSON Schema, and the one check that all of them pass at the door.

A schema's `description` says what is wanted there; `check` puts it into the error, after what was found. Fields that no
schema names are let through: data sets carry more than is read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator, validators

from ..text_files import shown


def listed(items: Mapping, wanted: str, least: int = 0) -> dict:
    """Schema of a list of at least so many `items`."""
    return {"type": "array", "items": items, "minItems": least, "description": wanted}


def table(required: Mapping[str, Mapping], optional: Mapping[str, Mapping] | None = None) -> dict:
    """Schema of an object; what is optional may be missing, or null, which says the same."""
    optional = {name: or_null(schema) for name, schema in (optional or {}).items()}
    return {
        "type": "object", "required": [*required], "properties": {**required, **optional},
        "description": "a JSON object",
    }  # fmt: skip


def or_null(schema: Mapping) -> dict:
    """Schema of the same, or null."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*kinds, "null"], "description": f"{schema['description']}, or null"}


TEXT = {"type": "string", "pattern": r"\S", "description": "text that is not blank"}
ANY_TEXT = {"type": "string", "description": "text"}
TEXTS = listed(TEXT, 'a list of texts, such as ["Perth"]', 1)
NUMBER = {"type": "number", "description": "a number"}
POSITIVE = {**NUMBER, "exclusiveMinimum": 0, "description": "a number above 0"}
COUNT = {"type": "integer", "minimum": 0, "description": "a whole number, 0 or more"}
FLAG = {"type": "boolean", "description": "true or false"}
OBJECT = {"type": "object", "description": "a JSON object"}
ID = {"type": ["string", "integer"], "pattern": r"\S", "description": "text that is not blank, or a whole number"}

DOLLY_LINE = table({"instruction": ANY_TEXT, "response": ANY_TEXT}, {"context": ANY_TEXT, "category": ANY_TEXT})
PROMPT_LINE = table({"prompt": TEXT, "answer": TEXT})
ROLES = ["system", "user", "assistant"]
TURNS = listed(
    table({"role": {"type": "string", "enum": ROLES, "description": f"one of {', '.join(ROLES)}"},
           "content": ANY_TEXT}),
    'a list of turns, such as {"role": "user", "content": "Who?"}', 1,
)  # fmt: skip
CHAT_LINE = table({"messages": TURNS})
PROMPT = {**TURNS, "type": ["string", "array"], "description": "text, or a list of turns"}
PAIR = table({"id": ID, "prompt": PROMPT, "answer": ANY_TEXT}, {"dataset": ANY_TEXT, "where": ANY_TEXT})

_LONGBENCH = {
    "length": {**NUMBER, "minimum": 0, "description": "a number, 0 or more"}, "dataset": ANY_TEXT, "language": ANY_TEXT,
    "all_classes": listed(TEXT, 'a list of texts, such as ["Perth"]'), "_id": ID,
}  # fmt: skip
LONGBENCH_RECORD = table(
    {"context": TEXT, "answers": TEXTS, "input": ANY_TEXT}, {**_LONGBENCH, "answer_prefix": ANY_TEXT}
)
HUB_RECORD = table(  # the copy with its wording in the records
    {"context": TEXT, "answers": TEXTS, "question": ANY_TEXT, "answer_prefix": ANY_TEXT},
    {**_LONGBENCH, "input": ANY_TEXT},
)
ASKED = table({"dataset": TEXT, "_id": TEXT, "answers": TEXTS}, {"all_classes": _LONGBENCH["all_classes"]})
ASKED_TWICE = table(
    {**ASKED["properties"], "all_classes": or_null(_LONGBENCH["all_classes"]), "context": TEXT, "input": TEXT,
     "second": table({"input": TEXT, "answers": TEXTS})}
)  # fmt: skip
PARAGRAPH = table({"title": TEXT, "context": TEXT, "questions": listed(table({"question": TEXT, "answers": TEXTS}),
                                                                           "a list of questions")})
HUB_QUESTION = table({"title": TEXT, "context": TEXT, "question": TEXT, "answers": table({"text": TEXTS})})
LEVAL_DOCUMENT = table({"input": TEXT, "instructions": TEXTS, "outputs": TEXTS})
TEMPLATES = {
    "type": "object", "description": "a JSON object",
    "additionalProperties": {"type": "string", "pattern": r"\{context\}", "description": "text with {context} in it"},
}  # fmt: skip

_SCORED = {
    "prediction": ANY_TEXT, "answers": TEXTS,
    "score": {"type": "number", "minimum": 0, "maximum": 1, "description": "a number from 0 to 1"},
}  # fmt: skip
SAMPLES_HEADER = table({"settings": OBJECT})
SAMPLE = table(
    {"dataset": TEXT, "_id": TEXT, "digest": TEXT, "prompt_tokens": COUNT, **_SCORED},
    {"truncated": FLAG, "tokens_per_layer": listed(COUNT, "a list of whole numbers", 1), "second": table(_SCORED)},
)

MARKS = table({
    "format_version": COUNT, "model": TEXT, "fingerprint": TEXT, "layers": listed(COUNT, "a list of whole numbers", 1),
    "samples": listed(
        table({"id": TEXT, "digest": TEXT, "tokens": COUNT, "prompt_tokens": COUNT}), "a list of samples", 1
    ),
    "shards": {**OBJECT, "additionalProperties": TEXT},
}, {"chat_template": TEXT})  # fmt: skip
CHECKPOINT = table({"settings": OBJECT, "history": listed(OBJECT, "a list of steps")})

_SIDE = table(
    {"prefill_latency_seconds": POSITIVE},
    {"decode_latency_seconds": POSITIVE, "total_latency_seconds": POSITIVE, "memory_gb": POSITIVE,
     "spread": {**OBJECT, "additionalProperties": or_null(
         {**listed(POSITIVE, "two numbers, the fastest and the slowest", 2), "maxItems": 2})}},
)  # fmt: skip
_NUMBERS = {**OBJECT, "additionalProperties": or_null(NUMBER)}
_GAINS = {**OBJECT, "additionalProperties": or_null(POSITIVE)}
LATENCY = table({
    "metadata": table({}, {"config": TEXT, "mode": TEXT, "model": TEXT, "dtype": TEXT, "device": TEXT}),
    "results": {
        **OBJECT, "minProperties": 1, "description": "a JSON object of at least one length",
        "propertyNames": {"pattern": r"^[1-9][0-9]*$", "description": 'a length in tokens, such as "4096"'},
        "additionalProperties": {
            **OBJECT,
            "if": {"required": ["error"]},
            "then": table({"error": TEXT}),
            "else": table(
                {"baseline": _SIDE},
                {"sdtp": _SIDE, "speedup": _GAINS, "limit": _GAINS, "share_of_limit": _NUMBERS, "flops": _GAINS,
                 "flops_end2end": _GAINS, "kv_reduction": NUMBER},
            ),
        },
    },
})  # fmt: skip

_VALIDATOR = validators.extend(Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many({
    "integer": lambda _, value: type(value) is int,  # 3.0 cannot be an index
    "number": lambda _, value: type(value) is int or (type(value) is float and math.isfinite(value)),  # JSON has no NaN
}))  # fmt: skip


def check(record: Any, schema: Mapping, where: str) -> None:
    """Raise ValueError unless a record fits its schema.

    The message names the place, the field, what was found there, and what is wanted.

    Args:
        where: names the record in the message, such as `data/qasper.jsonl line 3`.
    """
    error = next(_VALIDATOR(schema).iter_errors(record), None)
    if error is None:
        return
    path = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path]
    field = "".join(path).removeprefix(".")  # such as answers[1]
    if error.validator == "required":
        inside = f" in {field}" if field else ""
        missing = " and ".join(name for name in error.validator_value if name not in error.instance)
        raise ValueError(f"{where} has no {missing}{inside}; it has {', '.join(map(str, error.instance)) or 'nothing'}")
    name = f" has no {field}" if len(path) == 1 and _blank(error.instance) else f", field {field}" if field else ""
    raise ValueError(f"{where}{name}: found {shown(error.instance)}, wanted {error.schema['description']}")


def check_new(name: str, seen: dict[str, str], where: str) -> None:
    """Raise ValueError if an identifier came before; else enter it into `seen`, which says where each one is.

    Samples are looked up by it: of two with one name, a run that is resumed would take the wrong one.
    """
    if name in seen:
        raise ValueError(f"{where} has the same id {name!r} as {seen[name]}; give each its own")
    seen[name] = where


def check_asked(records: Any, schema: Mapping = ASKED) -> None:
    """Raise ValueError unless records, loaded or made in Python, can be scored, each under a name of its own."""
    seen: dict[str, str] = {}
    for number, record in enumerate(records, 1):
        check(record, schema, f"{record.get('dataset')} record {record.get('_id')}")
        check_new(f"{record['dataset']} {record['_id']}", seen, f"record {number}")


def _blank(value: Any) -> bool:
    return value is None or value == [] or value == {} or (isinstance(value, str) and not value.strip())
