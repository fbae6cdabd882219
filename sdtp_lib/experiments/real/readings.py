"""The ways that scores can be read from attention at a cut's own layer: who asks, mean or maximum, weighed or not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from torch import Tensor

from ...pruning.scoring import ScoringContext
from ...scorers.attention import attention

LATEST = 32  # of the last tokens, that ask at most; the question may begin before them
QUESTION = "question"
REDUCED = {"mean": lambda values, dim: values.mean(dim), "max": lambda values, dim: values.amax(dim)}


@dataclass(frozen=True)
class Reading:
    """One of them; its text says which.

    Attributes:
        asking: so many last tokens, or QUESTION, which a scorer would have to be told.
        heads, asked: a key of REDUCED, over heads and over asking tokens.
        valued: weigh by the norm of each token's value, head by head.
    """

    asking: int | str = 16
    heads: str = "mean"
    asked: str = "mean"
    valued: bool = False

    def __str__(self) -> str:
        who = QUESTION if self.asking == QUESTION else f"last {self.asking}"
        return f"{who}, {self.heads} of heads, {self.asked} of tokens{', by values' * self.valued}"

    def scores(self, paid: Tensor, values: Tensor, question: Tensor) -> Tensor:
        """(tokens,) scores from what `attention_of` gives."""
        paid = paid[:, question] if self.asking == QUESTION else paid[:, -self.asking :]
        if self.valued:
            paid = paid * values[:, None]
        return REDUCED[self.heads](REDUCED[self.asked](paid, 1), 0)


READINGS = [Reading(*each) for each in product((8, 16, 32, QUESTION), REDUCED, REDUCED, (False, True))]


def attention_of(
    hidden_states: Tensor, context: ScoringContext, question: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What the end of one prompt pays (heads, asking, tokens), the norms of values (heads, tokens), and which of the
    asking tokens are the question's, (asking,) bool.

    Args:
        hidden_states: (1, tokens, hidden), the input of a layer with projections of its own for keys and values.
        question: (tokens,) bool.
    """
    tokens, module = hidden_states.shape[1], context.module
    first = min(int(question.int().argmax()), max(0, tokens - LATEST))
    paid = attention(hidden_states, context)(slice(first, tokens))[0]
    values = module.self_attn.v_proj(module.input_layernorm(hidden_states))[0]
    norms = values.unflatten(-1, (-1, module.self_attn.head_dim)).norm(dim=-1).T
    return paid, norms.repeat_interleave(len(paid) // len(norms), 0), question[first:].to(paid.device)
