"""Made-up paragraphs with questions, as files and as passages, and a length that counts words."""

import json
import random

from sdtp_lib.data.real.passages import Passage

WORDS = "river stone market under later great people built called during first century small north several".split()
WORDS += "house moved found water along river early often known among local state which their after".split()


def words_of(record):
    """As a tokenizer that knows one token a word would count."""
    return len(f"{record['context']} {record['input']}".split())


def founder(seed):
    """A name without a digit."""
    return f"Master{chr(97 + seed // 26)}{chr(97 + seed % 26)}"


def paragraph(seed, sentences=6):
    """Text with two facts in it that stand nowhere else: a year and a name."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(6, 12))).capitalize() + "." for _ in range(sentences)]
    texts.insert(rng.randint(0, sentences), f"It was founded in {1000 + seed} by {founder(seed)}.")
    return " ".join(texts)


def passages(articles=8, each=3, sentences=6):
    """`each` paragraphs of each article, with two questions on each."""
    return [
        Passage(
            f"Article_{article}", paragraph(seed := article * each + i, sentences),
            ((f"When was number {seed} founded?", (str(1000 + seed),)), (f"Who founded {seed}?", (founder(seed),))),
        )
        for article in range(articles)
        for i in range(each)
    ]  # fmt: skip


def write_squad(folder, **options):
    """The same as `squad_test.jsonl`; returns the folder."""
    folder.mkdir(exist_ok=True)
    rows = [
        {"title": passage.title, "context": passage.text,
         "questions": [{"question": question, "answers": [*answers]} for question, answers in passage.questions]}
        for passage in passages(**options)
    ]  # fmt: skip
    (folder / "squad_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
