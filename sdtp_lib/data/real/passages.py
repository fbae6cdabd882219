"""Real prose to build prompts of: Python's own documentation, or the paragraphs of SQuAD with their questions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..corpora import rows_of
from ..records import HUB_QUESTION, PARAGRAPH, check

PYTHON_DOCS = "pydoc"  # needs no data: every Python has it
SQUAD = "squad"  # the file below in the folder $SDTP_DATA, if that is set, else the Hub's
SQUAD_FILE = "squad_test"  # .jsonl, a paragraph a line
TRAINING_FILE = "squad_train"  # the same of other articles, see below
SQUAD_HUB, SQUAD_REVISION = "rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f"
# Articles of SQuAD's validation set that pruners are trained on (`squad_train.jsonl`): they evaluate nothing.
TRAINING_ARTICLES = frozenset({
    "1973_oil_crisis", "Computational_complexity_theory", "European_Union_law", "Force", "French_and_Indian_War",
    "Harvard_University", "Huguenot", "Immune_system", "Imperialism", "Islamism", "Normans", "Packet_switching",
    "Scottish_Parliament", "Steam_engine", "Warsaw", "Yuan_dynasty",
})  # fmt: skip
PASSAGE = 600  # characters that a passage of the documentation has at least, but for a topic's last


@dataclass(frozen=True)
class Passage:
    """A paragraph or a few.

    Attributes:
        title: of its article.
        questions: (question, accepted answers), which this passage answers.
    """

    title: str
    text: str
    questions: tuple[tuple[str, tuple[str, ...]], ...] = ()


def read_passages(source: str | os.PathLike, training: bool = False) -> list[Passage]:
    """The passages of a source, in its order.

    Args:
        source: PYTHON_DOCS, SQUAD, SQUAD_HUB, or a folder with `squad_test.jsonl` (`title`, `context`, `questions`).
        training: those to train on: of the Hub the TRAINING_ARTICLES, of a folder its `squad_train.jsonl`.

    Raises:
        FileNotFoundError: if the source or its file is not there.
        ValueError: for a record that does not fit `records.PARAGRAPH`, such as a question without an answer, an article
            that pruners are trained on, or no records.
    """
    source = resolve(source)
    if source == PYTHON_DOCS:
        if training:
            raise ValueError(f"{PYTHON_DOCS} has no part to train on: all of it evaluates; take {SQUAD} or a folder")
        return python_docs()
    found = _of_hub(training) if source == SQUAD_HUB else _of_file(Path(source), training)
    if not found:
        raise ValueError(f"{source} holds no paragraphs")
    return found


def resolve(source: str | os.PathLike) -> str | os.PathLike:
    """Where SQUAD is now; any other source as it is."""
    return (os.environ.get("SDTP_DATA") or SQUAD_HUB) if source == SQUAD else source


def python_docs() -> list[Passage]:
    """What `help("TOPIC")` shows, code examples among it: some 460 KB, which differ a little between versions."""
    from pydoc_data.topics import topics

    passages: list[Passage] = []
    for title, text in sorted(topics.items()):
        blocks: list[str] = []
        prose = re.sub(r"^\s*[+|].*$", "", text.strip(), flags=re.M)  # without the tables
        for block in re.split(r"\n\s*\n", prose):
            blocks.append(block)
            if sum(map(len, blocks)) >= PASSAGE:
                passages.append(Passage(title, "\n\n".join(blocks)))
                blocks = []
        if blocks:
            passages.append(Passage(title, "\n\n".join(blocks)))
    return passages


def _of_file(folder: Path, training: bool) -> list[Passage]:
    name, split = (TRAINING_FILE, "train") if training else (SQUAD_FILE, "test")
    passages = []
    for where, row in rows_of(folder, name, split, None):
        check(row, PARAGRAPH, where)
        if not training and row["title"] in TRAINING_ARTICLES:
            raise ValueError(f"{where}: pruners are trained on article {row['title']}, so it evaluates nothing")
        questions = ((each["question"], tuple(each["answers"])) for each in row["questions"])
        passages.append(Passage(row["title"], row["context"], tuple(questions)))
    return passages


def _of_hub(training: bool) -> list[Passage]:
    """SQuAD 1.1's validation set, where each row is one question, put together by paragraph."""
    asked: dict[tuple[str, str], list] = {}
    for where, row in rows_of(SQUAD_HUB, None, "validation", SQUAD_REVISION):
        check(row, HUB_QUESTION, where)
        if (row["title"] in TRAINING_ARTICLES) is training:
            answers = tuple(dict.fromkeys(row["answers"]["text"]))
            asked.setdefault((row["title"], row["context"]), []).append((row["question"], answers))
    return [Passage(title, text, tuple(questions)) for (title, text), questions in asked.items()]


def pieces(passages: Iterable[Passage]) -> list[str]:
    """The texts in sentences, of code in blocks, each with what parts it from the next one."""
    found = []
    for passage in passages:
        found += re.findall(r".+?(?:(?<=[.!?])\s+|\n\s*\n|$)", passage.text.strip() + "\n\n", re.S)
    return [piece for piece in found if piece.strip()]
