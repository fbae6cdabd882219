"""How a pruner is trained: the numbers and switches, checked, and the order of the samples that follows from them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..data.samples import Sample
from ..scorers.token_pruner import check_seed, positive, pruner_class

TERMS = ("rank", "mse")


@dataclass(frozen=True)
class Recipe:
    """How the pruner is trained.

    Args:
        epochs: passes over the samples that are not held out.
        without: terms of Eq. 8 to leave out, of `rank` and `mse`. Without MSE nothing ties the keep logits to the
            schedule's ratio, and a DynamicViT-like rate loss is added, as in the paper's ablation.
        seed: of initial weights, order, noise, pairs and which samples are held out.
        lr: peak learning rate of AdamW; warm-up over the first twentieth, then a cosine to 0. The default suits the
            demo's narrow pruner; take about 1e-3 at a width of thousands.
        batch_size: prompts in one step.
        pairs: pairs of tokens that the ranking loss samples per prompt and step; None takes all.
        classification: whether the pruned model's cross-entropy counts (Eq. 7).
        distill: whether the full model's distribution over the answer is a target too.
        cls_every: every how many steps these two, which need gradients through the model, are read.
        holdout: share of the samples kept for the final rank correlation.
        kind, options: what is trained: a key of `scorers.token_pruner.KINDS`, and what else that class is made with.

    Raises:
        ValueError: for a value out of range or a recipe with nothing to learn from.
    """

    epochs: int = 2
    without: tuple[str, ...] = ()
    seed: int = 0
    lr: float = 1e-2
    batch_size: int = 4
    pairs: int | None = 2048
    classification: bool = True
    distill: bool = False
    cls_every: int = 8
    holdout: float = 0.1
    kind: str = "mlp"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        unknown = sorted(set(self.without) - set(TERMS))
        if unknown:
            raise ValueError(f"unknown loss {unknown[0]!r} in without; known: {', '.join(TERMS)}")
        object.__setattr__(self, "without", tuple(term for term in TERMS if term in self.without))
        for name in ("epochs", "batch_size", "cls_every", "pairs"):
            value = 1 if name == "pairs" and self.pairs is None else getattr(self, name)
            positive(name, value)
        check_seed(self.seed)
        try:
            with torch.device("meta"):
                pruner = pruner_class(self.kind)(8, (1,), **self.options)
        except TypeError as error:
            raise ValueError(f"a pruner of kind {self.kind!r} takes no such options: {error}") from None
        if not [*pruner.parameters()]:
            raise ValueError(f"a pruner of kind {self.kind!r} has no weights to train")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if not 0 < self.holdout < 1:
            raise ValueError(f"holdout must be in (0, 1), got {self.holdout}")
        if len(self.without) == len(TERMS) and not (self.classification or self.distill):
            raise ValueError("nothing to learn from: without rank and mse, classification or distill must be on")

    def reads_answers(self, step: int) -> bool:
        """Whether step `step` runs the masked model."""
        return (self.classification or self.distill) and step % self.cls_every == 0

    def learning_rate(self, step: int, steps: int) -> float:
        """Warm-up over the first twentieth of the steps, then a cosine to 0."""
        return self.lr * min(1.0, 20 * (step + 1) / steps) * 0.5 * (1 + math.cos(math.pi * step / steps))


def plan_batches(samples: Sequence[Sample], recipe: Recipe) -> list[list[Sample]]:
    """All batches of all epochs, in a seeded order; samples of a batch are of like length, which saves padding."""
    rng, size, batches = random.Random(recipe.seed), recipe.batch_size, []
    for _ in range(recipe.epochs):
        order = rng.sample(samples, len(samples))
        blocks = [order[i : i + 8 * size] for i in range(0, len(order), 8 * size)]
        blocks = [sorted(block, key=lambda sample: len(sample.input_ids)) for block in blocks]
        epoch = [block[i : i + size] for block in blocks for i in range(0, len(block), size)]
        batches += rng.sample(epoch, len(epoch))
    return batches


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ValueError unless there are seeds, all different."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different numbers, at least one, got {list(seeds)}")
