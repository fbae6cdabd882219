"""Dense LongBench-mini: the same five categories on documents more than half of whose tokens are candidate answers.

In the ordinary documents a fact stands out from filler, and a short answer is one or two of its tokens: a score that
knows nothing of the question can keep them all. Here facts are told in few words, there is hardly any filler, and any
fact may be asked for. Keys have two parts ("colour Anna" beside "city Anna"), so that a name alone does not tell the
answer, and `dense_multidoc_qa` takes two or three look-ups, each keyed by what the last one found. An answer's last
word is never far from its key: the lowest layers of the demo model, which see 8 tokens back, can tell what it answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import product

from . import words as w
from .corpus import (
    KINDS,
    TASKS,
    Document,
    Task,
    count_pieces,
    filler_code,
    filler_sentence,
    passages,
    records_of,
    scatter,
)

SHARE = (0.98, 1.0)  # of a document's tokens that lie in candidate facts
KEYS, LINKS = [*product(KINDS, w.NAMES)], [*product(w.RELATIONS, w.NAMES)]
FUNCTIONS = [*product(w.CODE_VERBS, w.CODE_NOUNS)]
THINGS = [*product(w.FILL_ADJECTIVES, [*w.SORT_NOUNS, *w.FILL_NOUNS])]
WORDS = [*w.COLOURS, *w.ANIMALS, *w.TOOLS, *w.CITIES]


def several(rng: random.Random, words: Iterable[str], least: int, most: int, between: str = " ") -> str:
    """`least` to `most` different words: an answer, all of whose tokens must survive."""
    return between.join(rng.sample(list(words), rng.randint(least, most)))


def dense_singledoc_qa(rng: random.Random, tokens: int) -> Document:
    """One text, one look-up: "code Anna teal falcon Oslo drum."."""
    wanted, facts, pairs = tokens * rng.uniform(*SHARE), [], []
    for kind, name in rng.sample(KEYS, len(KEYS)):
        pairs.append((f"{kind} {name}", several(rng, WORDS, 4, 5)))
        facts.append("{} {}.".format(*pairs[-1]))
        wanted -= count_pieces(facts[-1])
        if wanted <= 0:
            break
    return Document("dense_singledoc_qa", " ".join(scatter(rng, facts, tokens, filler_sentence)), tuple(pairs))


def dense_multidoc_qa(rng: random.Random, tokens: int) -> Document:
    """Passages of chains: the code of the teacher of Anna, or that of the partner of the teacher of Anna.

    "teacher Anna Hugo. code Hugo teal falcon Oslo drum wolf harp.": the answer spells every look-up out. Chains may
    share a link; a key has one value.
    """
    wanted, said, pairs = tokens * rng.uniform(*SHARE), {}, []
    for _ in range(tokens):
        if wanted <= 0:
            break
        name, links = rng.choice(w.NAMES), rng.choice([1, 1, 2])
        question, answer = name, ""
        for kind in [*rng.choices(w.RELATIONS, k=links), rng.choice(KINDS)]:
            if (kind, name) not in said:
                long = several(rng, WORDS, 2 * links + 4, 2 * links + 5)
                said[kind, name] = rng.choice(w.NAMES) if kind in w.RELATIONS else long
                wanted -= count_pieces(f"{kind} {name} {said[kind, name]}.")
            question = f"{kind} {question}"
            answer += f"{kind} {name} {said[kind, name]}. "
            name = said[kind, name]
        pairs.append((question, answer.split(maxsplit=2)[2].removesuffix(". ")))
    facts = [f"{kind} {name} {value}." for (kind, name), value in said.items()]
    rng.shuffle(facts)
    return Document("dense_multidoc_qa", passages(scatter(rng, facts, tokens, filler_sentence), tokens), tuple(pairs))


def dense_report_summary(rng: random.Random, tokens: int) -> Document:
    """A report of two to four numbered decisions of each of many people: "first teacher Anna sell market Oslo ..."."""
    wanted, reports, pairs = tokens * rng.uniform(*SHARE), [], []
    for relation, name in rng.sample(LINKS, len(LINKS)):
        count, owner = rng.choice([2, 3, 4]), f"{relation} {name}"
        facts = [
            f"{order} {owner} {rng.choice(w.PLAN_VERBS)} {noun} {several(rng, WORDS, 3, 3)}."
            for order, noun in zip(w.ORDINALS, rng.sample(w.PLAN_NOUNS, count), strict=False)
        ]
        reports.append(facts)
        pairs.append((f"{w.COUNTS[count]} {owner}", " ".join(facts).split(maxsplit=3)[3]))
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
        pairs.append((f"Type {adjective} {noun}:", several(rng, WORDS, 8, 9)))
        lines.append(" ".join(pairs[-1]))
        wanted -= count_pieces(lines[-1]) + 1
        if wanted <= 0:
            break
    labels = tuple(label for _, label in pairs)
    return Document("dense_few_shot", "\n".join(scatter(rng, lines, tokens, filler_sentence)), tuple(pairs), labels)


def dense_code_completion(rng: random.Random, tokens: int) -> Document:
    """Function definitions: `load_page` beside `save_page` and `load_user`."""
    wanted, facts, pairs = tokens * rng.uniform(*SHARE), [], []
    for verb, noun in rng.sample(FUNCTIONS, len(FUNCTIONS)):
        arguments = several(rng, w.CODE_ARGUMENTS, 4, 5, ", ")
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
    "dense_singledoc_qa": Task("SingleDoc", "Question: {input}?\nAnswer: ", "{input}", " ", "."),
    "dense_multidoc_qa": Task("MultiDoc", "Question: {input}?\nAnswer: ", "{tail}", " ", "."),
    "dense_report_summary": Task("Summ", "Question: {input}?\nAnswer: ", "first {tail}", " ", ""),
    "dense_few_shot": TASKS["few_shot"],
    "dense_code_completion": TASKS["code_completion"],
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
    return records_of(DENSE_BUILDERS, "dense", dataset, count, seed, tokens)
