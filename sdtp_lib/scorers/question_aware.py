"""Beyond the paper: a token pruning module that reads the question, which stands at the end of the prompt."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..pruning.scoring import ScoringContext
from .token_pruner import TokenPruner, positive, scaled_product

POOLS = ("lse", "mean", "max")


class QuestionAwarePruner(TokenPruner):
    """The paper's MLP score plus a learned match of each token with the last tokens of the prompt.

    In a causal model a context token cannot know the question that comes after it, so the paper's module can only learn
    which tokens usually matter. When the prompt is read, the question is there too: each of the last `window` tokens,
    which are never cut, asks with a low-rank projection of its hidden state, each token answers with another, and the
    products are pooled over the asking tokens. No matrix of tokens by tokens is formed.

    Args:
        hidden_size, layers, record: see `TokenPruner`.
        width: of the MLPs; 0 for the match alone.
        window: last prompt tokens that ask; more than the schedule's local tokens would let tokens ask that are cut.
        rank: of the projections.
        heads: matches that are learned side by side, and added up with learned weights.
        pool: over the asking tokens: "lse" (log-sum-exp with a learned temperature), "mean" or "max".
    """

    kind: ClassVar[str] = "question_aware"

    def __init__(
        self, hidden_size: int, layers: tuple[int, ...] | list[int], record: dict[str, Any] | None = None, *,
        width: int | None = None, window: int = 16, rank: int = 32, heads: int = 2, pool: str = "lse",
    ):  # fmt: skip
        alone = width == 0 and not isinstance(width, bool)  # of an MLP of width 1 the last bias alone is read
        super().__init__(hidden_size, layers, record, width=1 if alone else width)
        if pool not in POOLS:
            raise ValueError(f"unknown pool {pool!r}; known: {', '.join(POOLS)}")
        self.window = positive("window", window)
        self.rank, self.heads = positive("rank", rank), positive("heads", heads)
        self.pool = pool
        self.matches = nn.ModuleDict({str(layer): Match(self.hidden_size, rank, heads) for layer in self.layers})
        self.width = 0 if alone else self.width

    @property
    def options(self) -> dict[str, Any]:
        """See `TokenPruner.options`."""
        names = ("width", "window", "rank", "heads", "pool")
        return {name: getattr(self, name) for name in names}

    def forward(self, layer: int, hidden_states: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Keep logits (batch, tokens); the last `window` tokens of `prompt` ask, see `TokenPruner.forward`."""
        scale = self.scale(hidden_states)
        own = self.own_score(layer, hidden_states, scale)
        ask, answer, weight, log_temperature = self.parts(self.matches[str(layer)], hidden_states.device)
        places, real = last_places(hidden_states, prompt, self.window)
        asking = hidden_states.gather(1, places[..., None].expand(-1, -1, hidden_states.shape[-1]))
        by_head = (self.heads, self.rank)
        queries = scaled_product(asking, ask, scale.gather(1, places[..., None])).unflatten(-1, by_head)
        keys = scaled_product(hidden_states, answer, scale).unflatten(-1, by_head)
        products = torch.einsum("bnhr,bwhr->bhnw", keys.float(), queries.float()) / self.rank**0.5
        products = products * log_temperature.float().exp()[:, None, None]
        count = real.sum(1)[:, None, None]
        hidden = ~real[:, None, None, :]
        if self.pool == "lse":
            pooled = products.masked_fill(hidden, -torch.inf).logsumexp(-1) - count.log()
        elif self.pool == "max":
            pooled = products.masked_fill(hidden, -torch.inf).amax(-1)
        else:
            pooled = products.masked_fill(hidden, 0.0).sum(-1) / count
        return own + torch.einsum("bhn,h->bn", pooled, weight.float())

    def own_score(self, layer: int, hidden_states: Tensor, scale: Tensor) -> Tensor:
        """See `TokenPruner.own_score`; without an MLP its bias alone."""
        if self.width:
            return super().own_score(layer, hidden_states, scale)
        return self.parts(self.mlps[str(layer)], hidden_states.device)[-1]

    def flops(self, tokens: int) -> int:
        """FLOPs of the matrix products that score `tokens` tokens at one layer."""
        projections = 2 * (tokens + self.window) * self.hidden_size * self.heads * self.rank
        return super().flops(tokens) + projections + 2 * tokens * self.window * self.heads * self.rank

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """Same as `forward`, with the context's mask for the prompt."""
        return self(layer, hidden_states, context.mask)


class Match(nn.Module):
    """The projections of one layer: what a token asks with and what it answers with, per head."""

    def __init__(self, hidden_size: int, rank: int, heads: int):
        super().__init__()
        self.ask = nn.Parameter(torch.randn(heads * rank, hidden_size) * hidden_size**-0.5)
        self.answer = nn.Parameter(torch.randn(heads * rank, hidden_size) * hidden_size**-0.5)
        self.weight = nn.Parameter(torch.full((heads,), 1.0 / heads))
        self.log_temperature = nn.Parameter(torch.zeros(heads))


def last_places(hidden_states: Tensor, prompt: Tensor | None, window: int) -> tuple[Tensor, Tensor]:
    """Columns (batch, window) of the last tokens of each prompt, and (batch, window) bool, False on what is none.

    Args:
        hidden_states: (batch, tokens, hidden).
        prompt: (batch, tokens) bool, True on a run of columns; None for all of them.
    """
    batch, tokens = hidden_states.shape[:2]
    if prompt is None:
        prompt = torch.ones(batch, tokens, dtype=torch.bool, device=hidden_states.device)
    column = torch.arange(tokens, device=hidden_states.device)
    end = torch.where(prompt, column, -1).amax(1, keepdim=True)
    places = end - torch.arange(window - 1, -1, -1, device=hidden_states.device)
    real = places >= 0
    places = places.clamp(min=0)
    return places, real & prompt.gather(1, places)
