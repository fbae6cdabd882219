"""The score of one prediction by LongBench's metrics as lm-evaluation-harness carries them.

The functions are the harness's own, so scores compare with published ones. What departs from LongBench's script:

- code: lines of blanks alone are passed over when the first line of code is looked for;
- the harness's own few-shot tasks stop at the first line end, which leaves nothing of an answer that begins with one;
  here, as in LongBench, line ends at its beginning are passed over and its first line is scored.

As in LongBench, ROUGE-L counts repeated words once and gives 0 where the `rouge` package fails, edit similarity is
rounded to whole percents, and a class that is merely a part of the answer's own name ("location" in "other location")
does not count as named, unless the name before it in the list was such a part too.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module

from ..data.real.filling import stands_in
from ..data.tasks import DATASETS, FOUND, LAST_NUMBER, LETTERS, NUMBER

# Kind of metric -> the harness's function (prediction, answer, all_classes=...) -> 0 to 1.
METRICS = {
    "f1": "qa_f1_score", "rouge_l": "rouge_score", "accuracy": "classification_score", "edit": "code_sim_score"
}  # fmt: skip


@lru_cache
def metric(kind: str) -> Callable[..., float]:
    """The function of a kind: of a key of METRICS the harness's own."""
    if kind in OTHERS:
        return OTHERS[kind]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using slow pure-python SequenceMatcher")  # a faster one rounds differently
        module = import_module("lm_eval.tasks.longbench.metrics")  # a second, and asking a model does not need it
    return getattr(module, METRICS[kind])


def _found(prediction: str, answer: str, **_) -> float:
    return float(stands_in(prediction, answer))


def _letters(prediction: str, answer: str, **_) -> float:
    """Whether the first letters in a row, such as "A, C" or "AC", are those of the answer."""
    said = re.search(r"\b[A-Z](?:(?:[\s,]|and)*[A-Z])*\b", prediction)
    return float(said is not None and {*re.findall("[A-Z]", said[0])} == {*answer})


def _last_number(prediction: str, answer: str, **_) -> float:
    """Whether the number after "The answer is", or else the last one, is the answer; what follows is not looked at."""
    said = re.search(rf"answer is\D{{0,3}}({NUMBER})", prediction) or re.search(rf".*?({NUMBER})\D*$", prediction, re.S)
    return float(said is not None and float(said[1].replace(",", "")) == float(answer.replace(",", "")))


OTHERS = {FOUND: _found, LETTERS: _letters, LAST_NUMBER: _last_number}  # not LongBench's


def score(dataset: str, prediction: str, answers: Sequence[str], classes: Sequence[str] | None = None) -> float:
    """Best score, 0 to 1, of one prediction over the accepted answers.

    Raises:
        ValueError: for an unknown dataset, no answers, a text in place of their list, or a classification record
            without classes.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown dataset {dataset!r}; known: {', '.join(DATASETS)}")
    if isinstance(answers, str) or not answers:  # a text would be taken letter by letter
        raise ValueError(f"{dataset}: a record needs at least one answer, in a list")
    spec = DATASETS[dataset]
    if spec.first_line:
        prediction = prediction.lstrip("\n").split("\n")[0]
    if spec.metric != "edit":  # the harness's own tasks strip all but code, whose indentation counts
        prediction = prediction.strip()
    if spec.metric == "accuracy" and not classes:
        raise ValueError(f"{dataset}: classification needs the record's all_classes")
    return max(float(metric(spec.metric)(prediction, answer, all_classes=classes)) for answer in answers)
