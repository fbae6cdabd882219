"""Writing what an experiment found."""

from __future__ import annotations

import os

from transformers import PreTrainedModel

from .. import results
from ..models import provenance


def write(data: dict, path: str | os.PathLike, model: PreTrainedModel, profile: str, **details) -> None:
    """A result file `{"metadata", "data"}`, whole or not at all."""
    results.write_json(path, {"metadata": provenance.metadata(profile=profile, model=model, **details), "data": data})
