"""The best evidence for each claim: a real model's before a real shape's with random weights, and the toy's last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from .. import paths, results
from . import counted_claims
from .claims import Claim
from .findings import Finding, Status

# In the order in which their files are looked for; h200_decode is no profile to run, its runs are kept as a warning.
PROFILES = ("smollm2", "qwen", "paper", "latency_7b", "h200_decode", "latency_cpu", "demo_full", "demo")
# (profile, key) -> what is to be known of that number, and where it is told.
NOTES = {
    ("h200_decode", "speedup.total"): ("two runs far apart, the cause was not tested", paths.ROOT / "docs" / "gpu.md")
}
STORED = " (stored)"


class Kind(IntEnum):
    """What a number is from, the best first."""

    REAL = 0
    SHAPE = 1
    SCALED = 2
    COUNTED = 3
    TOY = 4
    NONE = 5


@dataclass(frozen=True)
class Model:
    """What a number is from; `shown` in the status, `said` in full."""

    kind: Kind
    shown: str
    said: str


COUNTED = Model(Kind.COUNTED, "Mistral-7B's shape", "counted on Mistral-7B's shape")
MODELS = {
    "smollm2-135m": Model(Kind.REAL, "SmolLM2-135M", "SmolLM2-135M-Instruct, dequantised from 4 bits"),
    "Qwen2.5-Coder-0.5B-Instruct-Q4_K_M": Model(
        Kind.REAL, "Qwen2.5-Coder-0.5B", "Qwen2.5-Coder-0.5B-Instruct, dequantised from 4 bits"
    ),
    "mistral-7b": Model(Kind.SHAPE, "Mistral-7B's shape", "Mistral-7B's shape, random weights"),
    "scaled-mistral": Model(Kind.SCALED, "a scaled-down shape", "scaled-mistral (32 layers of 512), random weights"),
    "demo": Model(Kind.TOY, "the toy", "demo, a toy"),
    "demo-dense": Model(Kind.TOY, "the toy", "demo-dense, a toy"),
}  # every other name is that of a real model


def model_of(name: str) -> Model:
    """The model that the metadata of a result file name."""
    short = Path(name).name
    return MODELS.get(name, Model(Kind.REAL, short, short))


@dataclass(frozen=True)
class Evidence:
    """One answer: what was found, with which model, on which machine, in which file."""

    finding: Finding
    model: Model
    machine: str
    file: Path
    note: tuple[str, Path] | None = None
    mark: str = ""

    @property
    def source(self) -> str:
        return ", ".join(filter(None, (self.model.said, self.machine))) + self.mark


@dataclass(frozen=True)
class Row:
    """A claim with all its evidence, the best first; empty where it was not run."""

    number: int
    claim: Claim
    evidence: tuple[Evidence, ...]

    @property
    def status(self) -> str:
        """The status, and what it was measured on."""
        if not self.evidence:
            return Status.NOT_RUN.value
        finding, model = self.evidence[0].finding, self.evidence[0].model
        if self.claim.by_construction and finding.status is Status.HOLDS:
            return Status.CONSTRUCTION.value
        return f"{finding.status}{' on' if model.kind is Kind.TOY else ', measured on'} {model.shown}"

    @property
    def kind(self) -> Kind:
        """What its best evidence is from."""
        return self.evidence[0].model.kind if self.evidence else Kind.NONE

    @property
    def lacks_a_real_model(self) -> bool:
        """Whether the toy is all there is."""
        return bool(self.evidence) and all(each.model.kind is Kind.TOY for each in self.evidence)


def rows(claims: Sequence[Claim], profile: str, stored: bool, first: int = 1) -> list[Row]:
    """One row a claim, numbered from `first` on in the order of the claims; those with the best evidence come first.

    Args:
        profile, stored: as `ledger.write_ledger`.

    Raises:
        ValueError: naming a result file that is damaged or not laid out as expected.
    """
    known = dict.fromkeys(PROFILES if stored else (profile, *PROFILES)) | {profile: None}
    found = [Row(number, claim, _found(claim, [*known], stored)) for number, claim in enumerate(claims, first)]
    return sorted(found, key=lambda row: row.kind)


def _found(claim: Claim, profiles: Sequence[str], stored: bool) -> tuple[Evidence, ...]:
    """What was counted, then one answer of each model on each machine, of the first profile that has it."""
    counted = [Evidence(claim.count(), COUNTED, "", Path(counted_claims.__file__))] if claim.count else []
    measured = [answer for profile in profiles if (answer := next(_answers(claim, profile, stored), None))]
    best = {}
    for each in (*counted, *sorted(measured, key=lambda each: each.model.kind)):
        best.setdefault((each.model, each.machine), each)
    return tuple(best.values())


def _answers(claim: Claim, profile: str, stored: bool) -> Iterator[Evidence]:
    """What the claim's files of one profile answer."""
    home = paths.stored(paths.RESULTS, profile)
    for stem, read in claim.sources:
        name = f"{stem}.json"
        path = home / name if stored else paths.find_results(profile, name)
        if path is None or not path.is_file():
            continue
        document = results.read_json(path)
        try:
            finding = read(document)
            about = _about(document["metadata"], finding and finding.model)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"result file {path} is not laid out as expected, {reason}") from None
        if finding is not None:
            mark = STORED if not stored and path.is_relative_to(home) else ""
            yield Evidence(finding, *about, path, NOTES.get((profile, finding.key)), mark)


def _about(metadata: Mapping, model: str | None) -> tuple[Model, str]:
    """Model and machine of a result file, or its machines; of another `model`, if that was measured."""
    said = [metadata[key] for key in ("dtype", "device") if metadata.get(key)]
    machine = ", ".join(" and ".join(each) if isinstance(each, list) else str(each) for each in said)
    return model_of(model or metadata["model"]), machine
