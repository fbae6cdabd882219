"""Both stages of the paper for one's own prompts: marks at some layers, and each module trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ...data.samples import Sample
from ...pruning.schedule import PruningSchedule
from ...scorers.token_pruner import TokenPruner
from ...training.hidden_states import KeptStates
from ...training.marks import Marks, MarksWriter, load_marks
from ...training.recipe import Recipe
from ...training.saliency import mark_samples
from ...training.trainer import Trainer
from ..all_layer_pruners import holds
from ..question_designs import KEEP

DESIGNS = {"question_aware": "question_aware", "paper": "mlp"}  # name -> kind of pruner
SHARD = 8  # prompts that a kill costs at most
RATE, WIDE = 1e-2, 256  # learning rate up to this hidden size; above it falls as 1 / size


def mark_part(
    model: PreTrainedModel, samples: Sequence[Sample], layers: Sequence[int], settings: dict[str, Any], folder: Path
) -> Marks:
    """Saliency of the samples at the inputs of `layers`; run again, it goes on where it was interrupted.

    Args:
        settings: recorded with the marks, `fingerprint` among them.

    Raises:
        ValueError: as `MarksWriter`, and for saliency that is not finite.
    """
    writer = MarksWriter(folder, {**settings, "layers": list(layers)}, samples, SHARD)
    mark_samples(model, writer, layers, "answer", 1)
    return load_marks(folder)


def train_modules(
    model: PreTrainedModel, marks: Marks, epochs: int, seed: int, folder: Path
) -> dict[str, TokenPruner]:  # fmt: skip
    """One trained module of each of DESIGNS, for every layer that is marked; goes on where it was interrupted.

    The loss that needs gradients through the model (Eq. 7) is left out: what remains reads kept hidden states.
    """
    stages = PruningSchedule(tuple(marks.layers), KEEP)
    prompts = [sample.without_answer() for sample in marks.samples]
    states, found = KeptStates.if_all_fit(model, stages.layers, prompts), {}
    for name, kind in DESIGNS.items():
        home, rate = folder / name, RATE * min(1.0, WIDE / model.config.hidden_size)
        recipe = Recipe(epochs=epochs, kind=kind, lr=rate, seed=seed, classification=False)
        trainer = Trainer(model, marks, stages, recipe, home, states)
        if not holds(home, trainer.settings):
            trainer.run(resume=True)
        found[name] = TokenPruner.from_pretrained(home).to(device=model.device, dtype=model.dtype)
    return found


def cut_down(pruner: TokenPruner, layers: Sequence[int], record: dict[str, Any]) -> TokenPruner:
    """The same pruner for some of its layers alone, with another record."""
    small = type(pruner)(pruner.hidden_size, sorted(layers), record, **pruner.options)
    kept = {name: value for name, value in pruner.state_dict().items() if int(name.split(".")[1]) in layers}
    small.load_state_dict(kept)
    return small.eval().requires_grad_(False)
