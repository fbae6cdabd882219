"""Dense LongBench-mini: the same five categories on documents most of whose tokens are facts that could be asked for.

In the ordinary documents a fact stands out from filler, so a score that knows nothing of the question can find it. Here
any sentence may be the one. Keys have two parts ("the colour of Anna" beside "the city of Anna"), so that a name alone
does not tell the answer, and `dense_multidoc_qa` takes two or three look-ups, each keyed by what the last one found.
"""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

from . import words as w
from .corpus import (
    KINDS,
    TASKS,
    Document,
    count_pieces,
    filler_code,
    filler_sentence,
    passages,
    record_of,
    scatter,
    value_of,
)  # fmt: skip

SHARE = (0.6, 0.9)  # of a document's tokens that lie in candidate facts
KEYS, LINKS = [*product(KINDS, w.NAMES)], [*product(w.RELATIONS, w.NAMES)]
FUNCTIONS = [*product(w.CODE_VERBS, w.CODE_NOUNS)]
THINGS = list(dict.fromkeys([*w.SORT_NOUNS, *w.PLAN_NOUNS, *w.CODE_NOUNS, *w.FILL_NOUNS]))


def dense_singledoc_qa(rng: random.Random, tokens: int) -> Document:
    """One text, one look-up: "The city of Anna is Oslo. The tool of Anna is drum."."""
    wanted, facts, pairs = tokens * rng.uniform(*SHARE), [], []
    for kind, name in rng.sample(KEYS, len(KEYS)):
        pairs.append((f"{kind} of {name}", value_of(rng, kind)))
        facts.append("The {} is {}.".format(*pairs[-1]))
        wanted -= count_pieces(facts[-1])
        if wanted <= 0:
            break
    return Document("dense_singledoc_qa", " ".join(scatter(rng, facts, tokens, filler_sentence)), tuple(pairs))


def dense_multidoc_qa(rng: random.Random, tokens: int) -> Document:
    """Passages of chains: the colour of the teacher of Anna, or that of the partner of the teacher of Anna.

    The answer spells every look-up out. Chains may share a link; a key has one value.
    """
    wanted, said, pairs = tokens * rng.uniform(*SHARE), {}, []
    for _ in range(tokens):
        if wanted <= 0:
            break
        name = rng.choice(w.NAMES)
        question, answer = f"of {name}", ""
        for kind in [*rng.choices(w.RELATIONS, k=rng.choice([1, 2])), rng.choice(KINDS)]:
            if (kind, name) not in said:
                person = kind in w.RELATIONS
                said[kind, name] = rng.choice(w.NAMES) if person else value_of(rng, kind)
                wanted -= count_pieces(f"The {kind} of {name} is {said[kind, name]}.")
            question = f"of the {kind} {question}" if kind in w.RELATIONS else f"{kind} {question}"
            answer += f"The {kind} of {name} is {said[kind, name]}. "
            name = said[kind, name]
        pairs.append((question, answer.partition(" is ")[2].removesuffix(". ")))
    facts = [f"The {kind} of {name} is {value}." for (kind, name), value in said.items()]
    rng.shuffle(facts)
    return Document("dense_multidoc_qa", passages(scatter(rng, facts, tokens, filler_sentence), tokens), tuple(pairs))


def dense_report_summary(rng: random.Random, tokens: int) -> Document:
    """A report of two to four numbered decisions of each of many people, one of whom is asked for."""
    wanted, reports, pairs = tokens * rng.uniform(*SHARE), [], []
    for relation, name in rng.sample(LINKS, len(LINKS)):
        count, owner = rng.choice([2, 3, 4]), f"{relation} of {name}"
        facts = [
            f"The {order} decision of the {owner} is to {rng.choice(w.PLAN_VERBS)} the {noun} in {city}."
            for order, noun, city in zip(
                w.ORDINALS, rng.sample(w.PLAN_NOUNS, count), rng.sample(w.CITIES, count), strict=False
            )
        ]
        reports.append(facts)
        pairs.append((f"{w.COUNTS[count]} decisions of the {owner}", " ".join(facts).partition(" is ")[2]))
        wanted -= sum(map(count_pieces, facts))
        if wanted <= 0:
            break
    turns = [number for number, facts in enumerate(reports) for _ in facts]
    rng.shuffle(turns)  # people take turns, each one's decisions stay in order
    left = [iter(facts) for facts in reports]
    mixed = [next(left[number]) for number in turns]
    return Document("dense_report_summary", " ".join(scatter(rng, mixed, tokens, filler_sentence)), tuple(pairs))


def dense_few_shot(rng: random.Random, tokens: int) -> Document:
    """Labelled examples and nothing else; the query repeats the noun of one."""
    labels, each = rng.sample(w.COLOURS, 4), rng.randint(14, 24)
    nouns = rng.sample(THINGS, min(len(THINGS), max(4, tokens // each)))
    room = max(8, tokens // len(nouns) - 2)

    def text(noun: str, room: int) -> str:
        sentence = f"The {rng.choice(w.FILL_ADJECTIVES)} {noun} {rng.choice(w.FILL_VERBS)}."
        return f"Text: {' '.join(scatter(rng, [sentence], room, filler_sentence))}\nType of {noun}:"

    items = [(noun, rng.choice(labels)) for noun in nouns]
    context = "\n".join(f"{text(noun, room)} {label}" for noun, label in items)
    return Document("dense_few_shot", context, tuple((text(noun, 8), label) for noun, label in items), tuple(labels))


def dense_code_completion(rng: random.Random, tokens: int) -> Document:
    """Function definitions among little else: `load_page` beside `save_page` and `load_user`."""
    wanted, facts, pairs = tokens * rng.uniform(*SHARE), [], []
    for verb, noun in rng.sample(FUNCTIONS, len(FUNCTIONS)):
        arguments = ", ".join(rng.sample(w.CODE_ARGUMENTS, rng.choice([1, 2])))
        facts.append(f"def {verb}_{noun}({arguments}):")
        pairs.append((f"    {rng.choice(w.CODE_ARGUMENTS)} = {verb}_{noun}(", f"{arguments})"))
        wanted -= count_pieces(facts[-1]) + 1
        if wanted <= 0:
            break
    return Document("dense_code_completion", "\n".join(scatter(rng, facts, tokens, filler_code)), tuple(pairs))


DENSE_BUILDERS = {
    f.__name__: f
    for f in (dense_singledoc_qa, dense_multidoc_qa, dense_report_summary, dense_few_shot, dense_code_completion)
}
DENSE_TASKS = {
    **{f"dense_{name}": task for name, task in TASKS.items()},
    "dense_report_summary": replace(TASKS["report_summary"], cue="The first decision of the {last} is"),
}
ALL_TASKS = {**TASKS, **DENSE_TASKS}


def longbench_dense(dataset: str, count: int, seed: int = 2025, tokens: tuple[int, int] = (512, 2048)) -> list[dict]:
    """`count` records of one dense dataset in LongBench's JSONL schema.

    Args:
        dataset: a key of `DENSE_TASKS`.
        count: number of records; each has its own document.
        seed: the training script uses seeds from 10**6 on, so any smaller seed gives fresh documents.
        tokens: range of document lengths, in tokens; question and cue come on top.

    Raises:
        ValueError: for an unknown dataset.
    """
    if dataset not in DENSE_BUILDERS:
        raise ValueError(f"unknown dense dataset {dataset!r}; known: {', '.join(DENSE_BUILDERS)}")
    records = []
    for index in range(count):
        rng = random.Random(f"{dataset}-{seed}-{index}")
        doc = DENSE_BUILDERS[dataset](rng, rng.randint(*tokens))
        records.append(record_of(doc, *rng.choice(doc.pairs), f"{dataset}-{seed}-{index}"))
    return records
