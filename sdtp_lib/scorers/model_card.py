"""The model card of a pruner's folder: what the Hugging Face Hub shows of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from ..results import markdown_table
from .tuned_card import PARTS, tuned_section
from .use import own_schedules

CARD = """---
{front}
---
# Token pruner for {model}

Scores the prompt tokens of {model} (hidden size {hidden_size}) at {stages} of its layers, so that the least salient
ones can be dropped while the prompt is read: *Saliency-driven Dynamic Token Pruning for Large Language Models*,
[arXiv 2504.04514](https://arxiv.org/abs/2504.04514).

```python
from huggingface_hub import snapshot_download
from sdtp_lib import TokenPruning, load_model, load_pruner, resolve_schedule

folder = snapshot_download("owner/name")  # or where this folder lies
model, tokenizer = load_model("the model's folder or name")
schedule = resolve_schedule("{schedule}", model, folder)
with TokenPruning(schedule, load_pruner(folder, model, schedule))(model) as trace:
    ...  # model.generate(...)
```

{tuned}## Training record

{table}
"""


def model_card(config: Mapping[str, Any]) -> str:
    """Front matter for the Hub, how to load the pruner, and its record as a table.

    Args:
        config: what `pruner_config.json` holds; of its record, `model` becomes the card's base model if that is a name
            on the Hub.
    """
    record = config["record"]
    model = str(record.get("model", "")).partition("@")[0]  # a Hub name is recorded with its revision
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None
    front = {"library_name": "sdtp", "tags": ["sdtp", "token-pruning"], **({"base_model": model} if on_hub else {})}
    rows = {"layers": config["layers"]}
    for key, value in record.items():
        if key in PARTS:
            continue
        rows.update({f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value})
    return CARD.format(
        front=yaml.safe_dump(front, sort_keys=False).strip(),
        model=f"`{model}`" if re.fullmatch(r"[\w./-]+", model) else "a language model",
        hidden_size=config["hidden_size"],
        stages=len(config["layers"]),
        schedule=next(iter(own_schedules(record)), "paper"),
        tuned=section.lstrip("\n") + "\n" if (section := tuned_section(record)) else "",
        table=markdown_table([{"setting": _cell(key), "value": _cell(value)} for key, value in rows.items()]),
    )


def _cell(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split()).encode(errors="replace").decode()
    return text if len(text) <= 200 else "long: see the configuration"
