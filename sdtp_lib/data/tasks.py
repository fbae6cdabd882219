"""The datasets that a prompt can come from: their categories, metrics and answer lengths, and the groups they form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

FOUND = "found"  # the metric of an answer that is to stand in the prediction, as whole words
LETTERS = "letters"  # the letters of the right options, each named and no other
LAST_NUMBER = "last_number"  # the number that a chain of thought ends with
NUMBER = r"-?\d[\d,]*(?:\.\d+)?"  # such a number, as a pattern
FORESEEN = "foreseen"  # that of text to come: the share of its tokens that the model finds likeliest, one by one


@dataclass(frozen=True)
class Dataset:
    """How one dataset is asked and scored.

    Attributes:
        category: one of `paper.CATEGORIES`, the columns of its Table 1, or one of its own.
        metric: a key of METRICS, or one of the names above.
        max_new_tokens: length limit of an answer, LongBench's own for its sets.
        first_line: score the first line of the prediction alone.
        prompt: template with {context} and {input} of sets that have no wording elsewhere.
        weighed: how likely the right answer is, and right among choices, is asked as well; one prefill serves all.
        chat: whether a chat model's template goes around the prompt; as in LongBench not for few-shot and code.
    """

    category: str
    metric: str
    max_new_tokens: int
    first_line: bool = False
    chat: bool = True
    prompt: str | None = None
    weighed: bool = False


MINI = {
    "singledoc_qa": Dataset("SingleDoc", "f1", 16),
    "multidoc_qa": Dataset("MultiDoc", "f1", 16),
    "report_summary": Dataset("Summ", "rouge_l", 64),
    "few_shot": Dataset("FewShot", "accuracy", 8, first_line=True, chat=False),
    "code_completion": Dataset("Code", "edit", 24, chat=False),
}
DENSE = {
    "dense_singledoc_qa": Dataset("SingleDoc", "f1", 10),
    "dense_multidoc_qa": Dataset("MultiDoc", "f1", 24),
    "dense_report_summary": Dataset("Summ", "rouge_l", 40),
    "dense_few_shot": Dataset("FewShot", "accuracy", 14, first_line=True, chat=False),
    "dense_code_completion": Dataset("Code", "edit", 16, chat=False),
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
_CLOZE = dict(first_line=True, chat=False, weighed=True, prompt="{context}\n\n{input}")
_ASKED = (
    "{context}\n\nAnswer the question by the documents above, in a few words, without a sentence.\n\n"
    "Question: {input}\nAnswer:"
)
REAL = {
    "needle": Dataset("Needle", FOUND, 16, **_CLOZE),
    "needle_multi": Dataset("Needle", FOUND, 16, **_CLOZE),
    "needle_reworded": Dataset("Needle", FOUND, 16, **_CLOZE),
    "documents_qa": Dataset("MultiDoc", "f1", 32, first_line=True, prompt=_ASKED, weighed=True),
    "prose_nll": Dataset("Prose", FORESEEN, 64, chat=False, prompt="{context}", weighed=True),
}
_EXAM = "{context}\n\n{input}\nAnswer:"
LEVAL = {
    "tpo": Dataset("SingleDoc", LETTERS, 8, first_line=True, prompt=_EXAM, weighed=True),
    "coursera": Dataset("SingleDoc", LETTERS, 8, first_line=True, prompt=_EXAM, weighed=True),
    "gsm100": Dataset("FewShot", LAST_NUMBER, 256, chat=False, prompt="{context}\n\n{input}\n"),
    "natural_question": Dataset("SingleDoc", "f1", 32, first_line=True, prompt=_ASKED, weighed=True),
}
OWN = {**MINI, **DENSE}  # texts of the project's own making, which may be copied about
DATASETS = {**OWN, **LONGBENCH, **REAL, **LEVAL}
GROUPS = {
    "longbench_mini": tuple(MINI), "longbench_dense": tuple(DENSE), "longbench": tuple(LONGBENCH), "real": tuple(REAL),
    "leval": tuple(LEVAL),
}  # fmt: skip


def expand_tasks(tasks: str | Sequence[str]) -> list[str]:
    """Dataset names of groups and datasets, in order, each once.

    Args:
        tasks: one text or several, each a name or names with commas between them.

    Raises:
        ValueError: for an unknown name, or no name at all.
    """
    names = []
    for text in [tasks] if isinstance(tasks, str) else tasks:
        names += [name for part in text.split(",") if (name := part.strip())] or [text]  # a shell makes two of "a, b"
    for name in names:
        if name not in GROUPS and name not in DATASETS:
            near = get_close_matches(name, [*GROUPS, *DATASETS], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown task {name!r}; known: {', '.join(GROUPS)}, and each of their datasets{hint}")
    if not names:
        raise ValueError("no tasks given")
    return list(dict.fromkeys(dataset for name in names for dataset in GROUPS.get(name, (name,))))
