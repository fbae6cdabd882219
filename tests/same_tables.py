"""Whether two runs gave the same tables, but for times: `python tests/same_tables.py runs/demo OTHER/runs/demo`."""

import json
import re
import sys
from pathlib import Path

# Names in JSON and columns in Markdown that hold a time, what is computed from one, or memory; and which code it was.
TIMED = re.compile(
    r".*seconds|spread|speedup|share_of_limit|memory_gb|prefill|total|.* x|hooks|scoring|time|commit|code_digest"
    r"|end2end|.*\(s\)|.* / estimate|Peak GB"
)
KINDS = (".json", ".jsonl", ".md")
COME_TO = re.compile(r"- (\S+ pays from|Seconds grow).*")  # lines that say what the times come to


def differences(one: Path, other: Path) -> list[str]:
    """Names of the tables of two runs that only one of them has, or that differ in more than times."""
    first, second = tables(one), tables(other)
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


def tables(run: Path) -> dict[str, object]:
    """Name -> what each table of a run says, without its times. Training and executed notebooks are no tables."""
    home = run / "results"
    files = [file for file in sorted(home.rglob("*")) if file.suffix in KINDS]
    names = {file.relative_to(home).as_posix(): file for file in files}
    return {
        name: said(file) for name, file in names.items() if not name.startswith(("training/", "notebooks/"))
    }


def said(file: Path) -> object:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if not COME_TO.match(line)]
        timed = {at for row in rows[:1] for at, column in enumerate(row) if TIMED.fullmatch(column)}
        return [[cell for at, cell in enumerate(row) if at not in timed] for row in rows if not _is_rule(row)]
    if file.suffix == ".jsonl":
        return [without_times(json.loads(line)) for line in text.splitlines()]
    document = json.loads(text)
    return without_times(document.get("data", document.get("results")))


def _is_rule(row: list[str]) -> bool:
    """Whether it is the line below a table's head, as wide as the longest number."""
    return all(not cell.strip(":-") for cell in row)


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_times(each) for name, each in value.items() if not TIMED.fullmatch(name)}
    return [without_times(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    one, other = map(Path, sys.argv[1:])
    if not (count := len(tables(one))):
        sys.exit(f"no tables in {one}")
    if found := differences(one, other):
        sys.exit(f"{len(found)} of {count} tables differ: {', '.join(found)}")
    print(f"{count} tables, all the same but for times")
