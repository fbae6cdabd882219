"""A table of methods as `stored_methods` keeps it, taken up again beside new rows, or for those of the full model."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...results import read_json
from .methods import ALIKE, Run, full_beside, measured

JSON, PAGE, SAMPLES = "methods.json", "methods.md", "methods_samples.jsonl.gz"
LISTS = ("tasks", "data")  # what is a list in one run already


@dataclass(frozen=True)
class StoredTable:
    """Rows with the samples they are of.

    Args:
        about: metadata of all runs; where they differ a list.
        rows: as `methods.compare_methods` makes them.
        samples: of each file of results, by its stem, as they are stored: without texts.
    """

    about: Mapping[str, Any]
    rows: list[dict]
    samples: Mapping[str, list[dict]]

    @classmethod
    def read(cls, folder: str | os.PathLike) -> StoredTable:
        """The table of a folder; FileNotFoundError if there is none."""
        document = read_json(Path(folder, JSON))
        samples: dict[str, list[dict]] = {row["samples"]: [] for row in document["data"]}
        for line in gzip.decompress(Path(folder, SAMPLES).read_bytes()).decode().splitlines():
            sample = json.loads(line)
            samples.setdefault(sample.pop("row"), []).append(sample)
        return cls(document["metadata"], document["data"], samples)

    def without(self, stems: Collection[str]) -> StoredTable:
        """The table without the rows of these files."""
        rows = [row for row in self.rows if row["samples"] not in stems]
        return StoredTable(self.about, rows, {row["samples"]: self.samples[row["samples"]] for row in rows})

    def full(self, asked: Collection[str]) -> StoredTable:
        """The full model's rows on records of these ids alone."""
        some = {stem: [one for one in own if one["_id"] in asked] for stem, own in self.samples.items()}
        full = StoredTable(self.about, [row for row in self.rows if row["method"] == "full"], some)
        rows = [row | {"n": len(own)} | measured(own) for row in full.rows if (own := full.of(row))]
        return StoredTable(self.about, rows, {row["samples"]: some[row["samples"]] for row in rows})

    def of(self, row: Mapping[str, Any]) -> list[dict]:
        """The samples of one row: a file may hold several tasks."""
        return [one for one in self.samples[row["samples"]] if one["dataset"] == row["task"]]

    def runs(self) -> list[Run]:
        """The full model's samples as `compare_methods` takes them for known; ValueError if they are not here."""
        stems = {row["samples"] for row in self.rows if row["method"] == "full"}
        if missing := [stem for stem in stems if not self.samples[stem]]:
            raise ValueError(f"the samples of {missing[0]} are in another table, the one that this was put beside")
        return [({key: self.about[key] for key in ALIKE}, self.samples[stem]) for stem in stems]

    def beside(self, full: list[Run]) -> list[dict]:
        """Its rows, their differences taken to these runs of the full model.

        Raises:
            ValueError: if none of them was asked what a row was asked.
        """
        rows = []
        for row in self.rows:
            own = self.of(row)
            other = None if row["method"] == "full" else full_beside(own, self.about, row["task"], row["tokens"], full)
            rows.append(row | measured(own, other))
        return rows

    def said(self, key: str) -> list[Any]:
        """What its runs say of a setting, as far as it is kept."""
        value = self.about.get(key)
        several = isinstance(value, list) and not (key in LISTS and value and not isinstance(value[0], list))
        return value if several else [value]
