"""Stage 2 of the paper: the language model is frozen, the token pruner alone is trained on the marks (Eq. 8).

Terms that need no more than hidden states of the frozen model (MSE and ranking) are read at every step. They cost a
forward pass without gradients, one a prompt where memory holds what all of them gave. The cross-entropy of the pruned
model needs gradients through the whole model, so it is added at one step in `cls_every` only.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from ..data.records import CHECKPOINT, check
from ..errors import stopping_waits
from ..models.checkpoints import load_checkpoint, save_checkpoint
from ..models.dtypes import dtype_name
from ..models.identity import fingerprint
from ..models.loading import SHAPES, load_model
from ..models.names import label, local_path
from ..models.workers import Workers
from ..pruning.families import ModelAdapter
from ..pruning.schedule import PruningSchedule
from ..results import check_output, write_text
from ..scorers.files import FILES
from ..scorers.token_pruner import TokenPruner, pruner_class
from ..text_files import check_apart
from . import losses
from .held_out import held_out_correlation
from .hidden_states import KeptStates
from .marks import Marks, load_marks
from .objective import Objective
from .recipe import Recipe, plan_batches
from .simulated_pruning import check_trainable

HISTORY_FILE, CHECKPOINT_FILE = "history.jsonl", "checkpoint.safetensors"


def train(
    marks: str | os.PathLike | Marks,
    output: str | os.PathLike,
    model: str | os.PathLike = "demo",
    *,
    schedule: str = "paper",
    resume: bool = False,
    save_every: int = 50,
    dtype: str = "float32",
    device: str | None = None,
    revision: str | None = None,
    **recipe: Any,
) -> list[dict]:
    """Train a pruner on marks and save it, its record and the loss history in the folder `output`.

    Under `accelerate launch` or torchrun the processes share each batch, and the losses are those of one process up to
    float rounding; `recipe`'s batch size stays that of all together.

    Args:
        marks: folder of stage 1, or what `load_marks` read from it.
        output: gets the pruner (`TokenPruner.from_pretrained`) and `history.jsonl`; while it runs a checkpoint too.
        model: the model that made the marks; `dtype`, `device`, `revision` as in `models.load_model`.
        schedule: preset whose stages are trained.
        resume: go on from the checkpoint of an interrupted run of the same settings, to the very same result; with no
            checkpoint there it starts anew.
        save_every: steps between checkpoints.
        recipe: fields of `Recipe`.

    Returns:
        One dict per step: `step`, `lr`, `loss`, `kept` (share of the prompt that the last stage leaves), and every
        term: a list over stages for `mse`, `rank`, `rate`, a number for `cls` and `distill` where they are read.

    Raises:
        ValueError, FileNotFoundError: for an unknown name, a value out of range, damaged marks, marks of another model
            or without the schedule's layers, an output that is the marks or the model, or a checkpoint of other
            settings, before anything is written.
        OSError: for an output that cannot be written, before a model is loaded.
    """
    recipe, workers = Recipe(**recipe), Workers.of_launch(device)
    check_apart(output, None if isinstance(marks, Marks) else marks, None if model in SHAPES else local_path(model))
    check_output(output, folder=True)
    for name in (*FILES, HISTORY_FILE, CHECKPOINT_FILE):
        check_output(Path(output) / name)
    marks = marks if isinstance(marks, Marks) else load_marks(marks)
    network, _ = load_model(model, dtype=dtype, device=workers.device(device), revision=revision)
    stages = PruningSchedule.preset(schedule, len(ModelAdapter.of(network).layers))
    states = KeptStates.if_all_fit(network, stages.layers, marks.samples) if recipe.epochs > 1 else None
    return Trainer(network, marks, stages, recipe, Path(output), states, workers).run(resume, save_every)


class Trainer:
    """One training run; `train` is the way in.

    Args:
        model: frozen; in eval mode.
        marks: made by this very model.
        schedule: its stages are trained; must have at least one.
        recipe: how.
        output: folder to write to.
        states: where hidden states are kept from one epoch, or one run, to the next; None reads them anew.
        workers: the processes that share every batch; the main one alone writes.
    """

    def __init__(
        self, model: PreTrainedModel, marks: Marks, schedule: PruningSchedule, recipe: Recipe, output: Path,
        states: KeptStates | None = None, workers: Workers | None = None,
    ):  # fmt: skip
        self.workers = workers or Workers()
        self.model, self.adapter = model, ModelAdapter.of(model)
        self.schedule, self.recipe, self.output = schedule, recipe, output
        check_trainable(model.dtype)
        if not schedule.layers:
            raise ValueError("the schedule has no stages, so there is nothing to train")
        schedule.check_model(len(self.adapter.layers))
        missing = sorted(set(schedule.layers) - set(marks.layers))
        if missing:
            raise ValueError(f"the marks have no saliency at layers {missing}; they have {marks.layers}")
        if marks.manifest["fingerprint"] != fingerprint(model):
            maker = marks.manifest["model"]
            raise ValueError(f"the marks were made by {maker!r} with other weights than {model.name_or_path!r} has")
        self.rows = [marks.layers.index(layer) for layer in schedule.layers]
        order = list(range(len(marks.samples)))
        random.Random(recipe.seed).shuffle(order)
        held = max(1, round(recipe.holdout * len(order)))
        if held >= len(order):
            raise ValueError(f"{len(order)} samples are too few to train on and to hold {held} out")
        self.held_out = [marks.samples[i] for i in order[:held]]
        self.batches = plan_batches([marks.samples[i] for i in order[held:]], recipe)
        self.settings = {
            "model": label(model.name_or_path), "fingerprint": marks.manifest["fingerprint"], "marks": marks.digest,
            "schedule": schedule.to_dict(), "recipe": json.loads(json.dumps(asdict(recipe))),
            "dtype": dtype_name(model),
            "versions": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
        }  # fmt: skip
        if "chat_template" in marks.manifest:  # older marks do not say
            self.settings["chat_template"] = marks.manifest["chat_template"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.pruner = new_pruner(self.adapter.hidden_size, schedule, recipe).to(model.device)
        self.optimizer = torch.optim.AdamW(self.pruner.parameters(), lr=recipe.lr, weight_decay=0.01)
        self.states = states
        self.objective = self.workers.parallel(Objective(model, self.pruner, schedule, recipe, self.rows, states))
        self.history: list[dict] = []

    def run(self, resume: bool = False, save_every: int = 50) -> list[dict]:
        """Train to the end and save; returns the history, see `train`.

        Stopped at any time by Ctrl-C, it saves a checkpoint of the steps that are done, then ends as it was told to.
        """
        if resume and (self.output / CHECKPOINT_FILE).is_file():
            self.load()
        self.workers.check_same("the checkpoint that they resume", {"steps": len(self.history)})
        self.output.mkdir(parents=True, exist_ok=True)
        done, steps = len(self.history), len(self.batches)
        try:
            with self.workers.bar(total=steps, initial=done, desc="train", unit="step") as bar:
                for step in range(done, steps):
                    self.step(step)
                    bar.set_postfix(loss=f"{self.history[-1]['loss']:.3f}", refresh=False)
                    bar.update()
                    if self.workers.main and (step + 1) % save_every == 0 and step + 1 < steps:
                        self.save()
            self.workers.on_main(self.finish)
        except KeyboardInterrupt:
            if self.workers.main and len(self.history) > done:
                self.save()
            raise
        return self.history

    def finish(self) -> None:
        """Write what the training gave: history, pruner and its record; the checkpoint goes."""
        layers, rows = self.schedule.layers, self.rows
        correlation = held_out_correlation(self.model, self.pruner, self.held_out, layers, rows, self.states)
        self.write_history()
        held = {"samples": [s.id for s in self.held_out], "rank_correlation": [round(x, 6) for x in correlation]}
        self.pruner.record = {**self.settings, "steps": len(self.batches), "held_out": held}
        self.pruner.save_pretrained(self.output)
        (self.output / CHECKPOINT_FILE).unlink(missing_ok=True)

    def step(self, step: int) -> dict:
        """One update of the pruner; returns its row of the history, where it is entered in the same moment."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate(step, len(self.batches))
        batch, workers = self.batches[step], self.workers
        share = None if workers.count == 1 else workers.share(range(len(batch)))
        terms, left = self.objective(step, batch, share)
        values = workers.total({**terms, "kept": left})
        kept = values.pop("kept").item()
        loss = sum(value.sum() for value in values.values())
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is NaN or infinite at step {step}")
        self.optimizer.zero_grad()
        own = sum(term.sum() for term in terms.values())
        (own * workers.count).backward()  # gradients are averaged over the processes, but the parts add up
        torch.nn.utils.clip_grad_norm_(self.pruner.parameters(), 1.0)
        rows = {name: value.tolist() for name, value in values.items()}
        row = {"step": step, "lr": self.optimizer.param_groups[0]["lr"], "loss": loss.item(), "kept": kept, **rows}
        with stopping_waits():  # until here the step left no trace, from here on it is done
            self.optimizer.step()
            self.history.append(row)
        return row

    def save(self) -> None:
        """Checkpoint and history so far."""
        self.write_history()
        state = {"settings": self.settings, "history": self.history}
        save_checkpoint(self.output / CHECKPOINT_FILE, self.pruner, [self.optimizer], state)

    def load(self) -> None:
        """Go back to the checkpoint; ValueError if it belongs to other settings."""
        path = self.output / CHECKPOINT_FILE
        state = load_checkpoint(path, self.pruner, [self.optimizer])
        check(state, CHECKPOINT, f"{path} is damaged, delete it to start over: it")
        for key, value in self.settings.items():
            if state["settings"].get(key) != value:
                raise ValueError(f"{path} belongs to a training with another {key}; it cannot be resumed")
        self.history = state["history"]

    def write_history(self) -> None:
        """Write the history as JSON lines, whole or not at all."""
        write_text(self.output / HISTORY_FILE, "".join(json.dumps(row) + "\n" for row in self.history))


@torch.no_grad()
def new_pruner(hidden_size: int, schedule: PruningSchedule, recipe: Recipe) -> TokenPruner:
    """A random pruner whose keep logits start around those of the schedule's ratio, where the targets lie."""
    pruner = pruner_class(recipe.kind)(hidden_size, schedule.layers, **recipe.options)
    for mlp, ratio in zip(pruner.mlps.values(), schedule.ratios, strict=True):
        mlp[-1].bias.fill_(losses.ratio_logit(ratio))
    return pruner
