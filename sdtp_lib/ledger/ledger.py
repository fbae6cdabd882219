"""REPRODUCTION.md: every claim of the paper beside the best evidence there is here, and an honest status."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from .. import paths, results
from .claims import CLAIMS, CONTROLS
from .disagreements import DISAGREEMENTS
from .evidence import PROFILES, STORED, Evidence, Row, rows
from .findings import Status
from .free_claims import FREE
from .multi_gpu_estimate import plan_section
from .question_claims import BEYOND

WIDTH = 120
TITLES = {
    "Claims of the paper": CLAIMS,
    "Controls that the paper does not show": CONTROLS,
    "Beyond the paper: nearly free on a real model": FREE,
    "Beyond the paper: a pruner that reads the question": BEYOND,
}
INTRODUCTION = f"""# Reproduction ledger

Written by `sdtp reproduce` and `make store`; do not edit. Paper: *Saliency-driven Dynamic Token Pruning for Large
Language Models*, arXiv 2504.04514v2.

**One row a claim, from the best evidence there is**: a real model's before a real shape's with random weights (which
has times, memory and FLOPs, and no answers), and the toy's last. The toy is a small model trained on this project's own
synthetic texts; its numbers are never the paper's. Nobody has run a 7B model with its weights here. A status is one of:

- *{Status.HOLDS}*: it was measured, and goes the paper's way; *measured on SmolLM2-135M* is a real model on real text,
  a *shape* has random weights, *on the toy* is the toy;
- *{Status.FAILS}*: it was measured there, and does not go the paper's way;
- *{Status.UNDECIDED}*: it was measured there, and the interval, or the range of the runs, has both answers in it;
- *{Status.CEILING}*: both sides score as good as perfect there, so that nothing could be seen;
- *{Status.CONSTRUCTION}*: it follows from the schedule, whatever the scores are worth;
- *{Status.NOT_RUN}*: nobody has run it here.

Differences are in points of 100 with 95% intervals; one method is called better than another where the interval of the
difference says so. Those to the full model are paired, record by record, and so are those of two methods of the real
model's table under one schedule; others are made of both intervals as if their records were not the same, which makes
them too wide. Shares, memory and speed have no interval: they are of the prompts or runs that each row counts, of one
prompt where the paper's own figure shows one; a single run of a benchmark, or a single seed where trainings are
compared, decides nothing. What SmolLM2-135M's trained pruners score is of those that are shipped, one training each,
unless seeds are named. Keys of files are those below `data`, of a latency file those of each length.
"""
MIXED = f"Numbers marked *{STORED.strip()}* are the repository's, the others of the last run of their profile.\n"


def write_ledger(profile: str = "demo", stored: bool = False) -> Path:
    """Write the ledger from the result files of every profile that has some.

    Args:
        profile: whose run it is; of equally good evidence its own comes first.
        stored: write results/REPRODUCTION.md, from what the repository stores alone.

    Returns:
        The ledger's path.

    Raises:
        ValueError: for an unknown profile, or naming a result file that is damaged or not laid out as expected.
    """
    tables = ledger_rows(profile, stored)
    path = paths.stored(paths.RESULTS) / paths.LEDGER if stored else paths.ledger(profile)
    every = [row for table in tables.values() for row in table]
    mixed = any(each.mark for row in every for each in row.evidence)
    parts = [INTRODUCTION, *([MIXED] if mixed else []), f"{_counts(every)}\n"]
    parts += [f"## {title}\n\n{_overview(table)}\n" for title, table in tables.items()]
    in_order = sorted(every, key=lambda row: row.number)
    parts += ["## What is behind each row\n", *(_details(row, path.parent) for row in in_order)]
    parts += [f"## What runs it in the paper's own setting\n\n{_commands()}\n", plan_section(), DISAGREEMENTS]
    results.write_text(path, "\n".join(parts))
    return path


def check_profile(profile: str) -> None:
    """Raise ValueError unless the profile is one of PROFILES or a user has added it to the folder of profiles."""
    if profile not in PROFILES and not (paths.PROFILES / profile).is_dir():
        raise ValueError(f"unknown profile {profile!r}; known: {', '.join(PROFILES)}")


def ledger_rows(profile: str = "demo", stored: bool = False) -> dict[str, list[Row]]:
    """The ledger's rows by the title of their table, numbered through; see `write_ledger`."""
    check_profile(profile)
    tables: dict[str, list[Row]] = {}
    for title, claims in TITLES.items():
        tables[title] = rows(claims, profile, stored, first=1 + sum(map(len, tables.values())))
    return tables


def cells(row: Row) -> dict[str, str]:
    """A row as columns, for a page that has room for them."""
    best, *others = row.evidence or (None,)
    return {
        "Where": row.claim.where, "Claim": row.claim.claim, "Paper": row.claim.paper, "Status": row.status,
        "Here": best.finding.text if best else "-", "n": best.finding.n if best else "-",
        "By chance": best.finding.chance if best else "-", "Model and machine": best.source if best else "-",
        "Beside it": "; ".join(_beside(row, others)),
    }  # fmt: skip


def link(target: Path, folder: Path) -> str:
    """A relative address of `target` for a page in `folder`."""
    return quote(Path(os.path.relpath(target, folder)).as_posix())


def _beside(row: Row, others: Sequence[Evidence]) -> Iterator[str]:
    """What else is known; no further status."""
    if row.lacks_a_real_model:
        yield f"on a real model: {Status.NOT_RUN}"
    if row.evidence and row.evidence[0].note:
        yield row.evidence[0].note[0]
    for each in others:
        said = f"; {each.note[0]}" if each.note else ""
        yield f"{each.source}: {each.finding.text}{said}"


def _counts(every: Sequence[Row]) -> str:
    counts = Counter(row.status for row in every)
    texts = [f"{n} *{status}*" for status, n in counts.most_common()]
    return _wrapped(f"Of {len(every)} rows are {'; '.join(texts)}.")


def _overview(table: Sequence[Row]) -> str:
    """One line a claim; not padded, so that lines stay short."""
    lines = [f"| [{row.number}](#claim-{row.number}) | {row.claim.where} | {row.claim.claim} | {row.status} |"
             for row in table]  # fmt: skip
    return "\n".join(["| | Where | Claim | Status |", "|--:|:--|:--|:--|", *lines])


def _details(row: Row, folder: Path) -> str:
    """What is behind a row, as a short list."""
    best, *others = row.evidence or (None,)
    items = {"Status": f"**{row.status}**", "Paper": row.claim.paper}
    if best:
        finding = best.finding
        items |= {"Here": finding.text, "n": finding.n, "By chance": finding.chance, "Model": best.source,
                  "File": _file(best, folder)}  # fmt: skip
    else:
        items["Command"] = row.claim.command
    if row.lacks_a_real_model:
        items["On a real model"] = Status.NOT_RUN
    lines = [f"- {name}: {text}" for name, text in items.items() if text and text != "-"]
    lines += [f"- Beside it: {each.source}: {each.finding.text}. {_file(each, folder)}" for each in others]
    said = f"**{row.claim.claim}** ({row.claim.where})"
    return "\n".join([f"### Claim {row.number}\n", _wrapped(said), "", *map(_wrapped, lines), ""])


def _file(each: Evidence, folder: Path) -> str:
    """Links to the file behind a number, with the key in it, and to what is to be known of it."""
    address = link(each.file, folder)
    text = f"[{address}]({address})" + (f", `{each.finding.key}`" if each.finding.key else "")
    return text + (f"; {each.note[0]}: [{each.note[1].name}]({link(each.note[1], folder)})" if each.note else "")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  " if text.startswith("- ") else "",
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


def _commands() -> str:
    """Every command once, with what it answers."""
    places: dict[str, dict[str, None]] = {}
    for claim in CLAIMS:
        places.setdefault(claim.command, {})[claim.where] = None
    return "\n".join(f"- {'; '.join(where)}: {command}" for command, where in places.items())
