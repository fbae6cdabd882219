"""LongBench, LongBench-mini and the multiple-choice tasks as the harness runs them, on this project's data and scores.

`--metadata data=FOLDER` takes the records from a local folder in LongBench's own schema, and their templates if it has
a `dataset2prompt.json`; LongBench comes from the Hub otherwise, at the revision that `data.corpora` pins. `--metadata
records=N` makes N records of a mini task instead of 100.

The harness's own `longbench_*` tasks are not used: they put their instructions around the Hub copy's `context`, which
has them already, stop few-shot answers at the first line end, and cannot read local files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from inspect import signature
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.config.task import TaskConfig
from lm_eval.models.huggingface import HFLM

from ...data.corpora import MINI_SEED, MINI_SIZE, longbench_records, source_of
from ...data.demo.corpus import TASKS
from ...data.demo.questions import CHOICE_DATASETS, mini_choice
from ...data.real.build import real_records
from ...data.real.passages import SQUAD, read_passages
from ...data.tasks import DATASETS, LONGBENCH, OWN
from ..metrics import score
from ..prompts import build_prompt, load_templates
from .arguments import load
from .values import MODEL_VALUES, NOTES, TASK_VALUES, check_values

CHARACTERS = 4400  # of a prompt of DocumentsChoiceTask
# The harness mixes the model's arguments into a task's metadata.
_model_arguments: ContextVar[tuple[str, ...]] = ContextVar(
    "model_arguments", default=(*signature(load).parameters, *MODEL_VALUES, *signature(HFLM.__init__).parameters)
)


@contextmanager
def model_arguments(names: tuple[str, ...]) -> Iterator[None]:
    """Tasks made in the block may have these keys in their metadata, which are meant for the model, and no other's."""
    token = _model_arguments.set(names)
    try:
        yield
    finally:
        _model_arguments.reset(token)


class RecordTask(ConfigurableTask):
    """A task on LongBench records. Its YAML file names it, this class, and the dataset as `dataset_name`.

    Raises:
        ValueError: naming the task, and what a YAML file or `--metadata` asks of it that it does not have.
    """

    datasets: tuple[str, ...] = ()  # those it can be made for

    def __init__(self, config: dict):
        given = {name: value for name, value in config.items() if name != "class"}
        name, dataset, known = (
            given.get("task"),
            given.get("dataset_name"),
            [field.name for field in fields(TaskConfig)],
        )
        if unknown := [key for key in given if key not in known]:
            raise ValueError(f"task {name}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
        if dataset not in self.datasets:
            raise ValueError(f"task {name}: dataset_name must be one of {', '.join(self.datasets)}, got {dataset!r}")
        others = {*_model_arguments.get(), "config", "config_source"} - TASK_VALUES.keys()  # what the harness mixes in
        asked = {key: value for key, value in (given.get("metadata") or {}).items() if key not in others}
        try:
            check_values("metadata key", asked, TASK_VALUES, NOTES)
        except ValueError as error:
            raise ValueError(f"task {name}: {error}") from None
        super().__init__(config={"test_split": "test", **self.settings(dataset), **given})

    def settings(self, dataset: str) -> dict[str, Any]:
        """What the YAML file need not say."""
        raise NotImplementedError

    def records(self, dataset: str, data: str | None, count: int | None) -> list[dict]:
        """The records to ask."""
        raise NotImplementedError

    def build_all_requests(self, *, cache_requests: bool = False, **options) -> None:
        """Make the prompts.

        Raises:
            ValueError: if they may come from the harness's cache, which does not know of data and templates.
        """
        if cache_requests:
            raise ValueError(f"task {self.config.task}: cache_requests gives the prompts of other data; leave it out")
        super().build_all_requests(**options)

    def download(self, dataset_kwargs: dict | None = None, **options) -> None:
        """Take the records from where they are.

        Raises:
            FileNotFoundError: if they are not there.
            ValueError: for a record without context or answers, and for bad templates; names it.
        """
        asked = self.config.metadata or {}
        self.templates = load_templates(asked.get("data"))
        try:
            records = self.records(self.config.dataset_name, asked.get("data"), asked.get("records"))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"task {self.config.task}: metadata key data: {error}") from None
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

    datasets = (*OWN, *LONGBENCH)

    def settings(self, dataset: str) -> dict[str, Any]:
        """How an answer is made and scored."""
        length = DATASETS[dataset].max_new_tokens
        return {
            "doc_to_target": "answers", "process_results": score_answer,
            "metric_list": [{"metric": "score", "aggregation": "mean", "higher_is_better": True}],
            "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": length},
        }  # fmt: skip

    def records(self, dataset: str, data: str | None, count: int | None) -> list[dict]:
        """Those of `longbench_records`."""
        return longbench_records(dataset, source_of(dataset, data), count)

    def fewshot_context(self, doc: dict, num_fewshot: int, *arguments, apply_chat_template: bool = False, **options):
        """The prompt of a record, in a chat template or not."""
        chat = apply_chat_template and DATASETS[doc["dataset"]].chat
        return super().fewshot_context(doc, num_fewshot, *arguments, apply_chat_template=chat, **options)


class ChoiceTask(RecordTask):
    """Multiple choice: four answers, scored by their likelihood."""

    def before(self, dataset: str) -> str:
        """What stands between prompt and answer."""
        return " "

    def settings(self, dataset: str) -> dict[str, Any]:
        """Where the four answers are."""
        return {
            "output_type": "multiple_choice", "target_delimiter": "", "doc_to_target": "gold",
            "doc_to_choice": lambda doc: [self.before(dataset) + choice for choice in doc["choices"]],
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }  # fmt: skip


class MiniChoiceTask(ChoiceTask):
    """Multiple choice on the documents of LongBench-mini."""

    datasets = CHOICE_DATASETS

    def before(self, dataset: str) -> str:
        """As LongBench-mini has it."""
        return TASKS[dataset].before

    def records(self, dataset: str, data: str | None, count: int | None) -> list[dict]:
        """Those of `mini_choice`."""
        return mini_choice(dataset, MINI_SIZE if count is None else count, MINI_SEED)


class DocumentsChoiceTask(ChoiceTask):
    """Multiple choice on real paragraphs: four spans that all stand in the documents, see `data.real.questions`.

    As no tokenizer is known here, prompts are CHARACTERS long, which is about 1,000 tokens of English.
    """

    datasets = ("documents_qa",)

    def records(self, dataset: str, data: str | None, count: int | None) -> list[dict]:
        """Those of `real_records`, of SQuAD if no data are named; the right span stands anywhere among the others."""
        passages = read_passages(data or SQUAD)
        found = real_records(dataset, passages, CHARACTERS, lambda record: len(build_prompt(record)), count)
        ordered = [{**record, "choices": sorted(record["choices"])} for record in found]
        return [{**record, "gold": record["choices"].index(record["answers"][0])} for record in ordered]
