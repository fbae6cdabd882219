"""The seeded demo corpus: English-like documents of five LongBench categories, most of whose tokens are filler.

Every document hides a few facts among filler sentences. A question restates the wording of its fact ("The city of Anna
is"), so a small model can learn to look the answer up; `multidoc_qa` needs two look-ups, the second one keyed by the
result of the first.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from . import words as w


@dataclass(frozen=True)
class Document:
    """One document and its questions: `pairs` are (input, answer) as in LongBench's `input` and `answers`."""

    dataset: str
    context: str
    pairs: tuple[tuple[str, str], ...]
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Task:
    """How a dataset is asked: `cue` ends the prompt with the wording of the fact, `question` may precede it.

    Both may name `{input}` and the look-up to begin with: `{last}`, "teacher of Anna" in "city of the teacher of Anna",
    or `{tail}`, the last two words.
    """

    category: str
    question: str
    cue: str
    before: str  # what stands between the cue and the answer
    after: str  # what closes the answer

    def prompt(self, context: str, input: str, ask: bool = True) -> str:
        """The text the model continues; `ask=False` leaves the question sentence out (early training)."""
        question = self.question.format(input=input) if ask else ""
        last, tail = input.rpartition(" of the ")[2], " ".join(input.split()[-2:])
        return f"{context}\n{question}{self.cue.format(input=input, last=last, tail=tail)}"


TASKS = {
    "singledoc_qa": Task("SingleDoc", "Question: What is the {input}?\nAnswer: ", "The {input} is", " ", "."),
    "multidoc_qa": Task("MultiDoc", "Question: What is the {input}?\nAnswer: ", "The {last} is", " ", "."),
    "report_summary": Task("Summ", "Question: What are the {input}?\nAnswer: ", "The first decision is", " ", ""),
    "few_shot": Task("FewShot", "", "{input}", " ", ""),
    "code_completion": Task("Code", "", "{input}", "", ""),
}


def count_pieces(text: str) -> int:
    """Words, punctuation marks and line ends: about one token each."""
    return len(re.findall(r"\w+|[^\w\s]|\n", text.replace("_", " _ ")))


def filler_sentence(rng: random.Random) -> str:
    """One sentence that no question asks about; about one in twelve names a person and a city as a distractor."""
    if rng.random() < 0.08:
        walk = f"{rng.choice(w.NAMES)} {rng.choice(w.FILL_VERBS)}"
        return f"{walk} {rng.choice(w.FILL_PREPOSITIONS)} {rng.choice(w.CITIES)}."
    subject = f"The {rng.choice(w.FILL_ADJECTIVES)} {rng.choice(w.FILL_NOUNS)} {rng.choice(w.FILL_VERBS)}"
    place = f"{rng.choice(w.FILL_PREPOSITIONS)} the {rng.choice(w.FILL_ADJECTIVES)} {rng.choice(w.FILL_NOUNS)}"
    ending = f" {rng.choice(w.FILL_ADVERBS)}" if rng.random() < 0.5 else ""
    return f"{subject} {place}{ending}."


def filler_code(rng: random.Random) -> str:
    """One line of code that no question asks about."""
    a, b = rng.sample(w.CODE_ARGUMENTS, 2)
    return rng.choice(
        [
            f"    {a} = {a} + {b}",
            f"    if {a} > {b}:",
            f"    # the {rng.choice(w.FILL_ADJECTIVES)} {a}",
            f"    {b} = [{a}, {b}]",
        ]
    )


def scatter(rng: random.Random, facts: list[str], tokens: int, filler: Callable[[random.Random], str]) -> list[str]:
    """`facts` in order, at random places among enough filler to reach about `tokens` tokens."""
    missing = tokens - sum(count_pieces(fact) for fact in facts)
    fill: list[str] = []
    while missing > 12:
        fill.append(filler(rng))
        missing -= count_pieces(fill[-1]) + (filler is filler_code)
    places = sorted(rng.randint(0, len(fill)) for _ in facts)
    for offset, (place, fact) in enumerate(zip(places, facts, strict=True)):
        fill.insert(place + offset, fact)
    return fill


def passages(sentences: list[str], tokens: int) -> str:
    """Sentences in up to six numbered passages, as many as `tokens` tokens fill."""
    count = max(1, min(6, tokens // 96))
    cuts = [round(i * len(sentences) / count) for i in range(count + 1)]
    parts = [" ".join(sentences[start:stop]) for start, stop in pairwise(cuts)]
    return "\n".join(f"Passage {number}: {part}" for number, part in enumerate(parts, 1))


def fact_count(rng: random.Random, tokens: int, cap: int, spacing: int) -> int:
    """About one fact in `spacing` tokens: facts stay a small share of the document unless training asks otherwise."""
    return max(2, min(cap, tokens // spacing + rng.randint(0, 2)))


KINDS = ("city", "colour", "animal", "tool", "code")


def value_of(rng: random.Random, kind: str) -> str:
    """A value for a property; a `code` has two words, so that all its tokens must survive."""
    if kind == "code":
        return f"{rng.choice(w.COLOURS)} {rng.choice(w.ANIMALS)}"
    return rng.choice({"city": w.CITIES, "colour": w.COLOURS, "animal": w.ANIMALS, "tool": w.TOOLS}[kind])


def singledoc_qa(rng: random.Random, tokens: int, spacing: int = 48) -> Document:
    """One text, one look-up: "The city of Anna is Oslo."."""
    names = rng.sample(w.NAMES, fact_count(rng, tokens, 18, spacing))
    kinds = rng.sample(KINDS, 2)
    pairs = [(f"{kind} of {name}", value_of(rng, kind)) for name in names for kind in [rng.choice(kinds)]]
    facts = [f"The {key} is {value}." for key, value in pairs]
    return Document("singledoc_qa", " ".join(scatter(rng, facts, tokens, filler_sentence)), tuple(pairs))


def multidoc_qa(rng: random.Random, tokens: int, spacing: int = 48) -> Document:
    """Several passages, two look-ups: the teacher of Anna is Hugo, the colour of Hugo is teal.

    The answer spells both out, so the second look-up is keyed by what the first one found. All chains ask for one kind
    of value, so the kind alone does not tell the answer.
    """
    chains = max(2, fact_count(rng, tokens, 18, spacing) // 2)
    names, kind = rng.sample(w.NAMES, 2 * chains), rng.choice(KINDS)
    facts, pairs = [], []
    for first, second in zip(names[:chains], names[chains:], strict=True):
        relation, value = rng.choice(w.RELATIONS), value_of(rng, kind)
        facts += [f"The {relation} of {first} is {second}.", f"The {kind} of {second} is {value}."]
        pairs.append((f"{kind} of the {relation} of {first}", f"{second}. The {kind} of {second} is {value}"))
    rng.shuffle(facts)
    text = passages(scatter(rng, facts, tokens - 4 * chains, filler_sentence), tokens)
    return Document("multidoc_qa", text, tuple(pairs))


def report_summary(rng: random.Random, tokens: int, spacing: int = 48) -> Document:
    """A report with two to four numbered decisions; the summary lists them."""
    count = rng.choice([2, 3, 4]) if tokens >= 96 else 2
    decisions = [
        f"to {rng.choice(w.PLAN_VERBS)} the {noun} in {city}."
        for noun, city in zip(rng.sample(w.PLAN_NOUNS, count), rng.sample(w.CITIES, count), strict=True)
    ]
    facts = [f"The {order} decision is {text}" for order, text in zip(w.ORDINALS, decisions, strict=False)]
    answer = " ".join(facts)[len("The first decision is ") :]
    context = " ".join(scatter(rng, facts, tokens, filler_sentence))
    return Document("report_summary", context, ((f"{w.COUNTS[count]} decisions", answer),))


def few_shot(rng: random.Random, tokens: int, spacing: int = 48) -> Document:
    """Labelled examples whose labels are made up for this prompt; the query repeats one of their nouns."""
    labels = rng.sample(w.COLOURS, 4)
    items = [(noun, rng.choice(labels)) for noun in rng.sample(w.SORT_NOUNS, fact_count(rng, tokens, 16, spacing))]
    room = max(8, tokens // len(items) - 2)

    def text(noun: str, room: int) -> str:
        sentences = scatter(
            rng, [f"The {rng.choice(w.FILL_ADJECTIVES)} {noun} {rng.choice(w.FILL_VERBS)}."], room, filler_sentence
        )
        return f"Text: {' '.join(sentences)}\nType of {noun}:"

    context = "\n".join(f"{text(noun, room)} {label}" for noun, label in items)
    pairs = tuple((text(noun, 8), label) for noun, label in items)
    return Document("few_shot", context, pairs, tuple(labels))


def code_completion(rng: random.Random, tokens: int, spacing: int = 48) -> Document:
    """Function definitions; the call to complete needs the arguments of one of them."""
    facts, pairs = [], []
    for noun in rng.sample(w.CODE_NOUNS, fact_count(rng, tokens, 16, spacing)):
        name = f"{rng.choice(w.CODE_VERBS)}_{noun}"
        arguments = ", ".join(rng.sample(w.CODE_ARGUMENTS, rng.choice([1, 2])))
        facts.append(f"def {name}({arguments}):")
        pairs.append((f"    {rng.choice(w.CODE_ARGUMENTS)} = {name}(", f"{arguments})"))
    return Document("code_completion", "\n".join(scatter(rng, facts, tokens, filler_code)), tuple(pairs))


BUILDERS = {f.__name__: f for f in (singledoc_qa, multidoc_qa, report_summary, few_shot, code_completion)}


def longbench_mini(dataset: str, count: int, seed: int = 2025, tokens: tuple[int, int] = (272, 960)) -> list[dict]:
    """`count` records of one dataset in LongBench's JSONL schema.

    Args:
        dataset: a key of `TASKS`.
        count: number of records; each has its own document.
        seed: the training script uses seeds from 10**6 on, so any smaller seed gives fresh documents.
        tokens: range of document lengths, in tokens; question and cue come on top.

    Raises:
        ValueError: for an unknown dataset.
    """
    return records_of(BUILDERS, "LongBench-mini", dataset, count, seed, tokens)


def records_of(
    builders: Mapping[str, Callable], set_name: str, dataset: str, count: int, seed: int, tokens: tuple[int, int]
) -> list[dict]:
    """One question on each of `count` documents, see `longbench_mini`; `set_name` is for the error."""
    if dataset not in builders:
        raise ValueError(f"unknown {set_name} dataset {dataset!r}; known: {', '.join(builders)}")
    records = []
    for index in range(count):
        name = f"{dataset}-{seed}-{index}"
        rng = random.Random(name)
        doc = builders[dataset](rng, rng.randint(*tokens))
        records.append(record_of(doc, *rng.choice(doc.pairs), name))
    return records


def record_of(doc: Document, question: str, answer: str, name: str) -> dict:
    """One question on a document in LongBench's schema."""
    return {
        "input": question, "context": doc.context, "answers": [answer], "length": len(doc.context.split()),
        "dataset": doc.dataset, "language": "en", "all_classes": list(doc.classes) if doc.classes else None,
        "_id": name,
    }  # fmt: skip
