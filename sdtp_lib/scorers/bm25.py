"""Sentences by the words that they share with the question: what needs no model, so what a score must be held to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..pruning.scoring import ScoringContext
from .sentences import ends_among, sentence_numbers, token_texts
from .token_pruner import positive

WORD = re.compile(r"\w")


@dataclass(frozen=True)
class BM25Scorer:
    """BM25 of each sentence for what the last tokens of the prompt say, given to every token of the sentence.

    Each token counts as a word, upper and lower case alike; the sentences of the prompt are the collection that tells
    how rare a word is. k1 and b as Robertson and Zaragoza (2009) suggest. Neither the hidden states nor the layer
    matter: a cut at layer 1 is nearly what retrieval before the model would give.

    Args:
        words: for each token id the number of its word, the same for "The" and " the"; 0 for what is no word.
        ends: ids of the tokens that end a sentence, see `sentences.sentence_ends`.
        window: number of last tokens that ask, as of `StrongestHeadScorer`.
        k1, b: how soon a repeated word stops counting, and how much a long sentence is held against it.

    Raises:
        ValueError: without words or ends, or for a window below 1.
    """

    words: tuple[int, ...] = field(repr=False)
    ends: tuple[int, ...] = field(repr=False)
    window: int = 32
    k1: float = 1.2
    b: float = 0.75

    looks_at_positions = False
    reads_ids = True

    def __post_init__(self):
        if not any(self.words) or not self.ends:
            raise ValueError("BM25 needs tokens that are words, and some that end a sentence")
        positive("window", self.window)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, window: int = 32) -> BM25Scorer:
        """With the words and sentence ends of a tokenizer."""
        texts = token_texts(tokenizer)
        special, numbers = {*tokenizer.all_special_ids}, {}
        words = tuple(
            numbers.setdefault(text.strip().lower(), len(numbers) + 1)
            if WORD.search(text) and token not in special else 0
            for token, text in enumerate(texts)
        )  # fmt: skip
        return cls(words, ends_among(texts), window)

    @cached_property
    def _known(self) -> Tensor:
        """`words` as a tensor, which is as long as the vocabulary: made once, not at every cut."""
        return torch.tensor(self.words)

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens), float32.

        Raises:
            ValueError: for a prompt that came as embeddings, which has no words.
        """
        if context.ids is None:
            raise ValueError("BM25 needs input_ids, not inputs_embeds")
        ids, real = context.ids.cpu(), context.mask.cpu()
        last = len(self._known) - 1
        words = torch.where(real & (ids <= last), self._known[ids.clamp(max=last)], 0)
        sentences = sentence_numbers(ids, self.ends)
        rows = [self._row(*row) for row in zip(words, sentences, real, strict=True)]
        return torch.stack(rows).to(hidden_states.device)

    def _row(self, words: Tensor, sentences: Tensor, real: Tensor) -> Tensor:
        """Of one prompt: words and sentences by their numbers, (tokens,) -> (tokens,)."""
        asked = words[-self.window :].unique()
        asked = asked[asked > 0]
        present, sentence = sentences[real].unique(return_inverse=True)
        times = torch.zeros(len(present), len(asked)).index_add_(0, sentence, (words[real, None] == asked).float())
        lengths = torch.zeros(len(present)).index_add_(0, sentence, (words[real] > 0).float())
        holding = (times > 0).sum(dim=0)
        rarity = ((len(present) - holding + 0.5) / (holding + 0.5)).log1p()
        long = 1 - self.b + self.b * lengths / lengths.mean().clamp(min=1)
        found = (rarity * times * (self.k1 + 1) / (times + self.k1 * long[:, None])).sum(dim=1)
        return torch.zeros(len(words)).masked_scatter(real, found[sentence])
