"""Whole sentences kept or dropped together: a fact of which some tokens are lost says nothing, or something else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..pruning.scoring import ScoringContext, must_be_shown
from .around import AroundScorer

END = re.compile(r"""[.!?]["”’')\]]*$|\n""")  # in the text of a token that ends a sentence, or a line


@dataclass(frozen=True)
class SentenceScorer(AroundScorer):
    """Every token of a sentence gets the highest of another scorer's scores in it.

    Sentences are counted among the tokens present, so one that lost the token which ends it runs into the next one.
    Where the budget ends inside a sentence, the end of that sentence is kept.

    Args:
        scorer: any.
        ends: ids of the tokens that end a sentence, see `sentence_ends`.

    Raises:
        ValueError: without ends, or for a scorer that must be shown answers, such as the oracle.
    """

    ends: tuple[int, ...]

    reads_ids = True

    def __post_init__(self):
        if not self.ends:
            raise ValueError("no token ends a sentence, so there are no sentences to keep together")
        if must_be_shown(self.scorer):
            raise ValueError("a scorer that is shown the answers cannot be taken sentence by sentence")

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens), float32.

        Raises:
            ValueError: for a prompt that came as embeddings, which has no tokens to tell where sentences end.
        """
        if context.ids is None:
            raise ValueError("whole sentences need input_ids, not inputs_embeds")
        scores = self.scorer.score(layer, hidden_states, context).float()
        sentence = sentence_numbers(context.ids, self.ends).to(scores.device)
        own = scores.masked_fill(~context.mask, -torch.inf)  # a pad is part of the first sentence
        highest = own.new_full(own.shape, -torch.inf).scatter_reduce(1, sentence, own, "amax")
        # A score that is not finite stays as it is, so that the engine notices.
        return torch.where(scores.isfinite(), highest.gather(1, sentence), scores)

    def flops(self, tokens: int) -> int:
        """FLOPs of scoring `tokens` tokens at one layer: the other scorer's, and a comparison each."""
        return super().flops(tokens) + tokens


def sentence_numbers(ids: Tensor, ends: Sequence[int]) -> Tensor:
    """For each token of `ids`, (batch, tokens), how many sentences ended before it."""
    last = torch.isin(ids, torch.tensor(ends, device=ids.device)).long()
    return last.cumsum(1) - last


def sentence_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids of all tokens whose text ends a sentence, or has a line end in it."""
    return ends_among(token_texts(tokenizer))


def token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of every token, each by itself."""
    return tokenizer.batch_decode([[token] for token in range(len(tokenizer))])


def ends_among(texts: Sequence[str]) -> tuple[int, ...]:
    """`sentence_ends` of tokens whose `token_texts` are known."""
    return tuple(token for token, text in enumerate(texts) if END.search(text))
