"""LongBench, LongBench-mini and the multiple-choice tasks as the harness runs them, on this project's data and scores.

`--metadata data=FOLDER` takes the records from a local folder in LongBench's own schema, and their templates if it has
a `dataset2prompt.json`; LongBench comes from the Hub otherwise, at the revision that `data` pins. `--metadata
records=N` makes N records of a mini task instead of 100.

The harness's own `longbench_*` tasks are not used: they put their instructions around the Hub copy's `context`, which
has them already, stop few-shot answers at the first line end, and cannot read local files.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

from ..data import MINI_SEED, MINI_SIZE, longbench_records
from ..demo.corpus import TASKS
from ..demo.questions import mini_choice
from .longbench import source_of
from .metrics import DATASETS, score
from .prompts import build_prompt, load_templates


class RecordTask(ConfigurableTask):
    """A task on LongBench records. Its YAML file names it, this class, and the dataset as `dataset_name`."""

    settings: dict[str, Any] = {}

    def __init__(self, config: dict):
        given = {name: value for name, value in config.items() if name != "class"}
        super().__init__(config={"test_split": "test", **self.settings, **given})

    def records(self, dataset: str, data: str | None, count: int | None) -> list[dict]:
        """The records to ask."""
        raise NotImplementedError

    def download(self, dataset_kwargs: dict | None = None, **options) -> None:
        """Take the records from where they are.

        Raises:
            FileNotFoundError: if they are not there.
            ValueError: for a record without context or answers, and for bad templates; names it.
        """
        asked = self.config.metadata or {}
        self.templates = load_templates(asked.get("data"))
        records = self.records(self.config.dataset_name, asked.get("data"), asked.get("records"))
        self.dataset = {"test": Dataset.from_list(records)}

    def doc_to_text(self, doc: dict, doc_to_text: object = None) -> str:
        """The prompt of a record."""
        return build_prompt(doc, self.templates)


def score_answer(doc: dict, results: list[str]) -> dict[str, float]:
    """{"score": 0 to 1} of one prediction."""
    return {"score": score(doc["dataset"], results[0], doc["answers"], doc["all_classes"])}


class LongBenchTask(RecordTask):
    """One dataset of LongBench or LongBench-mini: asked, answered at LongBench's length and scored as `evaluate` does.

    A chat template that the harness is told to apply is left out where LongBench leaves it out.
    """

    settings = {
        "doc_to_target": "answers",
        "process_results": score_answer,
        "metric_list": [{"metric": "score", "aggregation": "mean", "higher_is_better": True}],
    }

    def __init__(self, config: dict):
        limit = DATASETS[config["dataset_name"]].max_new_tokens
        generation = {"until": [], "do_sample": False, "max_gen_toks": limit}
        super().__init__({"generation_kwargs": generation, **config})

    def records(self, dataset: str, data: str | None, count: int | None) -> list[dict]:
        """Those of `longbench_records`."""
        return longbench_records(dataset, source_of(dataset, data), count)

    def fewshot_context(self, doc: dict, num_fewshot: int, *arguments, apply_chat_template: bool = False, **options):
        """The prompt of a record, in a chat template or not."""
        chat = apply_chat_template and DATASETS[doc["dataset"]].chat
        return super().fewshot_context(doc, num_fewshot, *arguments, apply_chat_template=chat, **options)


class MiniChoiceTask(RecordTask):
    """Multiple choice on the documents of LongBench-mini: four answers, scored by their likelihood."""

    settings = {
        "output_type": "multiple_choice", "target_delimiter": "", "doc_to_target": "gold",
        "doc_to_choice": lambda doc: [TASKS[doc["dataset"]].before + choice for choice in doc["choices"]],
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip

    def records(self, dataset: str, data: str | None, count: int | None) -> list[dict]:
        """Those of `mini_choice`."""
        return mini_choice(dataset, MINI_SIZE if count is None else count, MINI_SEED)
