"""Dense LongBench-mini: the same five categories on documents more than half of whose tokens are candidate answers.

In the ordinary documents a fact stands out from filler, and a short answer is one or two of its tokens: a score that
knows nothing of the question can keep them all. Here there is hardly any filler, answers are long, and any of them may
be asked for. Keys have two parts ("the colour of Anna" beside "the city of Anna"), so that a name alone does not tell
the answer, and `dense_multidoc_qa` takes two or three look-ups, each keyed by what the last one found.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
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
)  # fmt: skip

SHARE = (0.92, 1.0)  # of a document's tokens that lie in candidate facts
KEYS, LINKS = [*product(KINDS, w.NAMES)], [*product(w.RELATIONS, w.NAMES)]
FUNCTIONS = [*product(w.CODE_VERBS, w.CODE_NOUNS)]
THINGS = [*product(w.FILL_ADJECTIVES, [*w.SORT_NOUNS, *w.FILL_NOUNS])]
WORDS = [*w.COLOURS, *w.ANIMALS, *w.TOOLS, *w.CITIES]


def several(rng: random.Random, words: Iterable[str], least: int, most: int, between: str = " ") -> str:
    """`least` to `most` different words: an answer, all of whose tokens must survive."""
    return between.join(rng.sample(list(words), rng.randint(least, most)))


def dense_singledoc_qa(rng: random.Random, tokens: int) -> Document:
    """One text, one look-up: "The code of Anna is teal falcon Oslo drum amber otter harp wolf."."""
    wanted, facts, pairs = tokens * rng.uniform(*SHARE), [], []
    for kind, name in rng.sample(KEYS, len(KEYS)):
        pairs.append((f"{kind} of {name}", several(rng, WORDS, 8, 10)))
        facts.append("The {} is {}.".format(*pairs[-1]))
        wanted -= count_pieces(facts[-1])
        if wanted <= 0:
            break
    return Document("dense_singledoc_qa", " ".join(scatter(rng, facts, tokens, filler_sentence)), tuple(pairs))


def dense_multidoc_qa(rng: random.Random, tokens: int) -> Document:
    """Passages of chains: the code of the teacher of Anna, or that of the partner of the teacher of Anna.

    The answer spells every look-up out. Chains may share a link; a key has one value.
    """
    wanted, said, pairs = tokens * rng.uniform(*SHARE), {}, []
    for _ in range(tokens):
        if wanted <= 0:
            break
        name, links = rng.choice(w.NAMES), rng.choice([1, 1, 2])
        question, answer = f"of {name}", ""
        for kind in [*rng.choices(w.RELATIONS, k=links), rng.choice(KINDS)]:
            if (kind, name) not in said:
                long = several(rng, WORDS, 8 * links + 4, 8 * links + 6)
                said[kind, name] = rng.choice(w.NAMES) if kind in w.RELATIONS else long
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
    """Examples whose labels are made up, one for each; the query repeats the thing of one."""
    wanted, lines, pairs = tokens * rng.uniform(*SHARE), [], []
    for adjective, noun in rng.sample(THINGS, len(THINGS)):
        pairs.append((f"Type of {adjective} {noun}:", several(rng, WORDS, 8, 10)))
        lines.append(" ".join(pairs[-1]))
        wanted -= count_pieces(lines[-1]) + 1
        if wanted <= 0:
            break
    labels = tuple(label for _, label in pairs)
    return Document("dense_few_shot", "\n".join(scatter(rng, lines, tokens, filler_sentence)), tuple(pairs), labels)


def dense_code_completion(rng: random.Random, tokens: int) -> Document:
    """Function definitions with long signatures: `load_page` beside `save_page` and `load_user`."""
    wanted, facts, pairs = tokens * rng.uniform(*SHARE), [], []
    for verb, noun in rng.sample(FUNCTIONS, len(FUNCTIONS)):
        arguments = several(rng, w.CODE_ARGUMENTS, 5, 7, ", ")
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
