"""How a scorer's scores are taken together: over so many neighbours, sentence by sentence, or not at all.

A pooling is the odd number of neighbours of `PooledScorer` (1: not at all), or SENTENCES, as `SentenceScorer` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..options import SENTENCES
from ..pruning.scoring import Scorer
from .pooled import PooledScorer, check_width
from .sentences import SentenceScorer

Pool = int | str


def pooled(scorer: Scorer, pool: Pool, ends: Sequence[int] = ()) -> Scorer:
    """A scorer pooled in this way, in place of any other; over 1 the scorer itself.

    Args:
        ends: ids of the tokens that end a sentence, see `sentences.sentence_ends`; read for SENTENCES alone.

    Raises:
        ValueError: for a pooling that is none, SENTENCES without ends, or a scorer that must be shown answers.
    """
    check_pool("pool", pool)
    bare = scorer.scorer if isinstance(scorer, PooledScorer | SentenceScorer) else scorer
    if pool == SENTENCES:
        return SentenceScorer(bare, tuple(ends))
    return bare if pool == 1 else PooledScorer(bare, pool)


def pool_of(scorer: Scorer | None) -> Pool:
    """How a scorer is pooled; 1 for one that is not."""
    if isinstance(scorer, SentenceScorer):
        return SENTENCES
    return scorer.width if isinstance(scorer, PooledScorer) else 1


def pooling(pool: Pool) -> str:
    """A pooling as tables name it, behind the name of a score; nothing for 1."""
    if pool == SENTENCES:
        return ", by sentences"
    return f", pooled over {pool}" if pool > 1 else ""


def check_pool(name: str, pool: Any) -> None:
    """Raise ValueError unless a pooling is SENTENCES, or an odd whole number of 1 or more."""
    if pool != SENTENCES:
        check_width(name, pool)
