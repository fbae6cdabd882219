"""What a notebook begins with: its claims, and what the stored results say of each, from the ledger's own readers."""

from __future__ import annotations

import re

from .. import paths, results
from ..markdown import Markdown
from .claims import Claim
from .evidence import Row, rows
from .findings import Status
from .ledger import TITLES

NOTHING = "-"


def came_out(notebook: str) -> Markdown:
    """The claims that a notebook is about beside what the repository stores of them, the best evidence alone.

    Args:
        notebook: its number, such as `04`.

    Raises:
        ValueError: if no claim is tested by it; as `evidence.rows`.
    """
    asked = [claim for claims in TITLES.values() for claim in claims if notebook_of(claim) == notebook]
    if not asked:
        raise ValueError(f"no claim of the ledger is tested by notebook {notebook!r}")
    found = [_shown(row) for row in rows(asked, "demo", stored=True)]
    columns = [name for name in found[0] if any(row[name] != NOTHING for row in found)]
    table = results.markdown_table([{name: row[name] for name in columns} for row in found])
    where = f"{paths.RESULTS}/{paths.LEDGER}"
    return Markdown(f"{table}\n\nRead from the files that the repository stores, as `{where}` is.")


def notebook_of(claim: Claim) -> str | None:
    """The number of the notebook whose run answers a claim."""
    named = re.search(r"--only (\d\d)", claim.command)
    return named.group(1) if named else None


def _shown(row: Row) -> dict[str, str]:
    best = row.evidence[0] if row.evidence else None
    return {
        "asked": f"{row.claim.claim} ({row.claim.where})",
        "paper": row.claim.paper,
        "here": best.finding.text if best else str(Status.NOT_RUN),
        "n": best and best.finding.n or NOTHING,
        "by chance": best and best.finding.chance or NOTHING,
        "so": f"**{row.status}**",
    }
