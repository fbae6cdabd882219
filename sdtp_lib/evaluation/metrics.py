"""LongBench's kinds of metric, each 0 to 1 for one prediction and one answer, and the table of datasets.

ROUGE-L and edit similarity come from `rouge-score` and `rapidfuzz`. LongBench itself uses the `rouge` and `fuzzywuzzy`
packages, whose tokenisation and rounding differ a little: compare scores of this project with each other first.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz
from rouge_score.rouge_scorer import RougeScorer

CATEGORIES = ("SingleDoc", "MultiDoc", "Summ", "FewShot", "Code")


@dataclass(frozen=True)
class Dataset:
    """How one dataset is asked and scored.

    Attributes:
        category: one of CATEGORIES, the columns of the paper's Table 1.
        metric: a key of METRICS.
        max_new_tokens: length limit of an answer, LongBench's own for its sets.
        first_line: score the first line of the prediction alone.
        chat: whether a chat model's template goes around the prompt (LongBench leaves it out for few-shot and code).
    """

    category: str
    metric: str
    max_new_tokens: int
    first_line: bool = False
    chat: bool = True


MINI = {
    "singledoc_qa": Dataset("SingleDoc", "f1", 16, chat=False),
    "multidoc_qa": Dataset("MultiDoc", "f1", 16, chat=False),
    "report_summary": Dataset("Summ", "rouge_l", 64, chat=False),
    "few_shot": Dataset("FewShot", "accuracy", 8, first_line=True, chat=False),
    "code_completion": Dataset("Code", "edit", 24, chat=False),
}
LONGBENCH = {
    "narrativeqa": Dataset("SingleDoc", "f1", 128),
    "qasper": Dataset("SingleDoc", "f1", 128),
    "multifieldqa_en": Dataset("SingleDoc", "f1", 64),
    "hotpotqa": Dataset("MultiDoc", "f1", 32),
    "2wikimqa": Dataset("MultiDoc", "f1", 32),
    "musique": Dataset("MultiDoc", "f1", 32),
    "gov_report": Dataset("Summ", "rouge_l", 512),
    "qmsum": Dataset("Summ", "rouge_l", 512),
    "multi_news": Dataset("Summ", "rouge_l", 512),
    "trec": Dataset("FewShot", "accuracy", 64, first_line=True, chat=False),
    "triviaqa": Dataset("FewShot", "f1", 32, first_line=True, chat=False),
    "samsum": Dataset("FewShot", "rouge_l", 128, first_line=True, chat=False),
    "lcc": Dataset("Code", "edit", 64, chat=False),
    "repobench-p": Dataset("Code", "edit", 64, chat=False),
}
DATASETS = {**MINI, **LONGBENCH}
GROUPS = {"longbench_mini": tuple(MINI), "longbench": tuple(LONGBENCH)}


def expand_tasks(tasks: str | Sequence[str]) -> list[str]:
    """Dataset names of groups and datasets (a comma-separated text or a sequence), in order, each once.

    Raises:
        ValueError: for an unknown name, or no name at all.
    """
    names = [part.strip() for part in tasks.split(",")] if isinstance(tasks, str) else list(tasks)
    for name in names:
        if name not in GROUPS and name not in DATASETS:
            raise ValueError(f"unknown task {name!r}; known: {', '.join([*GROUPS, *DATASETS])}")
    if not names:
        raise ValueError("no tasks given")
    return list(dict.fromkeys(dataset for name in names for dataset in GROUPS.get(name, (name,))))


def normalise(text: str) -> list[str]:
    """Words of a text as SQuAD compares them: lower case, no punctuation, no articles."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def token_f1(prediction: str, answer: str, classes: Sequence[str] | None = None) -> float:
    """Harmonic mean of precision and recall of the words, counted with multiplicity."""
    predicted, wanted = normalise(prediction), normalise(answer)
    common = (Counter(predicted) & Counter(wanted)).total()
    return 2 * common / (len(predicted) + len(wanted)) if common else 0.0


@lru_cache(maxsize=1)
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=False)


def rouge_l(prediction: str, answer: str, classes: Sequence[str] | None = None) -> float:
    """F-measure of the longest common subsequence of words."""
    return float(_rouge().score(answer, prediction)["rougeL"].fmeasure)


def accuracy(prediction: str, answer: str, classes: Sequence[str] | None = None) -> float:
    """1 / number of classes named in the prediction if the answer is one of them, else 0.

    A class that is merely a part of the answer's own name ("location" in "other location") does not count as named.

    Raises:
        ValueError: without classes.
    """
    if not classes:
        raise ValueError("classification needs the record's all_classes")
    named = [name for name in classes if name in prediction and not (name in answer and name != answer)]
    return 1 / len(named) if answer in named else 0.0


def edit_similarity(prediction: str, answer: str, classes: Sequence[str] | None = None) -> float:
    """Similarity by insertions and deletions of the first predicted line that is code (no comment, no fence)."""
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    return fuzz.ratio(line, answer) / 100


METRICS = {"f1": token_f1, "rouge_l": rouge_l, "accuracy": accuracy, "edit": edit_similarity}


def score(dataset: str, prediction: str, answers: Sequence[str], classes: Sequence[str] | None = None) -> float:
    """Best score, 0 to 1, of one prediction over the accepted answers.

    Raises:
        ValueError: for an unknown dataset, no answers, or a classification record without classes.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown dataset {dataset!r}; known: {', '.join(DATASETS)}")
    if not answers:
        raise ValueError(f"{dataset}: a record needs at least one answer")
    spec = DATASETS[dataset]
    if spec.first_line:
        prediction = prediction.lstrip("\n").split("\n")[0]
    return max(METRICS[spec.metric](prediction, answer, classes) for answer in answers)
