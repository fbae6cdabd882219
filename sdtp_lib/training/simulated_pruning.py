"""Pruning simulated by attention masks, so that gradients reach the pruner: the training-time stand-in for `pruning`.

As in DynamicViT a dropped token stays in the tensor but is invisible as a key to every other token; it still sees
itself. Multiplying an attention weight by a 0/1 mask before normalisation equals adding the mask's logarithm to the
attention logit, which is what any attention function takes as a float mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ..pruning.attention_masks import ABSENT, visible_keys
from ..pruning.families import ModelAdapter
from ..pruning.schedule import PruningSchedule
from ..scorers.token_pruner import TokenPruner
from .step_noise import RowDraws, uniform

# A dropped key weighs this much instead of 0, so that the logarithm's gradient is finite: exp(logit), as in DynamicViT.
NOTHING = 1e-10


def gumbel_keep(logits: Tensor, generator: torch.Generator | RowDraws, temperature: float = 1.0) -> Tensor:
    """Straight-through Gumbel-softmax over (logit, 0): 1 for keep, 0 for drop, with the soft sample's gradient (Eq. 2).

    The difference of the two Gumbel noises is one logistic noise, and the softmax over two is a sigmoid.

    Args:
        logits: any shape; with `RowDraws` (rows, tokens).
        generator: on the CPU, so that every device draws the same.
        temperature: of the soft sample; the hard one does not depend on it.
    """
    noise = uniform(logits.shape, generator).clamp(1e-6, 1 - 1e-6).logit()
    noisy = logits.float() + noise.to(logits.device)
    soft = torch.sigmoid(noisy / temperature)
    return (noisy > 0).float() + (soft - soft.detach())


def check_trainable(dtype: torch.dtype) -> None:
    """Raise ValueError for a model in float16, in which a dropped key's weight has no gradient."""
    if dtype == torch.float16:
        raise ValueError("training needs bfloat16 or float32: the masks' gradients underflow in float16")


class SimulatedPruning:
    """The stages' choices for one batch; `scores` and `alive` grow stage by stage.

    Args:
        model: a causal language model, whose weights are not touched.
        pruner: scores every token at every stage; its scores carry gradients.
        schedule: where the stages are, and which tokens are never dropped.
        prompt: (batch, tokens) bool; other real tokens (the answer) are never dropped.
        real: (batch, tokens) bool, False on pads, which are on the left.
        generator: of the Gumbel noise.

    Attributes:
        scores: keep logits (batch, tokens) of each stage.
        alive: (batch, tokens) of each stage, 1 where a token is still visible, else 0; carries gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        pruner: TokenPruner,
        schedule: PruningSchedule,
        prompt: Tensor,
        real: Tensor,
        generator: torch.Generator | RowDraws,
    ):
        self.adapter, self.pruner, self.schedule, self.generator = ModelAdapter.of(model), pruner, schedule, generator
        depth = len(self.adapter.layers)
        schedule.check_model(depth)
        self.prompt, self.columns = prompt, torch.where(real, torch.arange(real.shape[1], device=real.device), ABSENT)
        self.lengths = [schedule.lengths(n, depth) for n in prompt.sum(1).tolist()]
        self.scores: list[Tensor] = []
        self.alive: list[Tensor] = []
        self.masks: dict[int | None, Tensor] = {}

    def decide(self, layer: int, hidden: Tensor) -> None:
        """Score and drop tokens at a stage, given its layer's input (batch, tokens, hidden); stages come in order."""
        # Detached: the terms read from these scores are this stage's alone and shall not bend earlier masks.
        scores = self.pruner(layer, hidden.detach(), self.prompt)
        keep = torch.where(self.free_tokens(layer), gumbel_keep(scores, self.generator), 1.0)
        self.scores.append(scores)
        self.alive.append(keep * self.alive[-1] if self.alive else keep)
        self.masks.clear()

    def free_tokens(self, layer: int) -> Tensor:
        """(batch, tokens) bool: prompt tokens that stage `layer` may drop: all but the sinks and the local ones."""
        forced = [self.schedule.forced(lengths[layer - 1]) for lengths in self.lengths]
        sinks, local = torch.tensor(forced, device=self.prompt.device).T[:, :, None]
        place = self.prompt.long().cumsum(1) - 1
        return self.prompt & (place >= sinks) & (place < self.prompt.sum(1, keepdim=True) - local)

    def ratios(self) -> Tensor:
        """(batch, stages) share of the prompt that the schedule leaves at each stage."""
        left = [[lengths[layer] / lengths[0] for layer in self.schedule.layers] for lengths in self.lengths]
        return torch.tensor(left, device=self.prompt.device)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside the `with` block one forward pass of the model, without a cache, is pruned by attention masks.

        Leaving the block takes every hook off the model.

        Raises:
            ValueError: for another attention function than sdpa and eager, or float16, in which a dropped key's weight
                has no gradient.
        """
        if self.adapter.implementation not in ("sdpa", "eager"):
            raise ValueError(f"attention {self.adapter.implementation!r} takes no float mask; train with sdpa or eager")
        check_trainable(next(self.adapter.decoder.parameters()).dtype)
        with ExitStack() as stack:
            for layer in range(self.schedule.layers[0], len(self.adapter.layers)):
                hook = partial(self._enter_layer, layer)
                stack.callback(self.adapter.layers[layer].register_forward_pre_hook(hook, with_kwargs=True).remove)
            yield

    def _enter_layer(self, layer: int, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        hidden, window = args[0], self.adapter.window(layer)
        if layer in self.schedule.layers:
            self.decide(layer, hidden)
        if window not in self.masks:
            self.masks[window] = self.attention_mask(window, hidden.dtype)
        return args, {**kwargs, "attention_mask": self.masks[window]}

    def attention_mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """(batch, 1, tokens, tokens) float mask: the lowest number where never visible, log(NOTHING) on the dropped."""
        itself = torch.eye(self.columns.shape[1], dtype=torch.bool, device=self.columns.device)
        dropped = (self.alive[-1] + NOTHING).log()[:, None, None, :].masked_fill(itself, 0.0)
        visible = visible_keys(self.columns[:, None, :, None], self.columns[:, None, None, :], window)
        return dropped.masked_fill(~visible, torch.finfo(dtype).min).to(dtype)
