"""BM25 by hand, and what a score of words must not look at."""

from math import log

import pytest
import torch
from helpers import tiny_model
from small_records import small_tokenizer

from sdtp_lib.pruning.context import TokenPruning
from sdtp_lib.pruning.schedule import PruningSchedule
from sdtp_lib.pruning.scoring import ScoringContext
from sdtp_lib.scorers.bm25 import BM25Scorer

END = 9
SCORER = BM25Scorer(words=(0, 1, 2, 3, 4, 1, 0, 0, 0, 0), ends=(END,), window=2)  # 5 is another way to write word 1


def score(row, scorer=SCORER, pads=0):
    ids = torch.tensor([[8] * pads + row])
    mask = torch.arange(ids.shape[1])[None] >= pads
    context = ScoringContext(torch.nn.Identity(), mask, None, None, 1, ids=ids)
    return scorer.score(1, torch.zeros(*ids.shape, 4), context)


def test_a_sentence_scores_by_the_rare_words_that_are_asked_for():
    prompt = [2, 2, 3, END, 2, 5, END, 3, 3, 3, END, 4, 1, 2]  # the last two, words 1 and 2, ask
    lengths = [3, 2, 3, 3]
    rare = {word: log(1 + (4 - n + 0.5) / (n + 0.5)) for word, n in {1: 2, 2: 3}.items()}

    def bm25(sentence, times):
        long = 0.25 + 0.75 * lengths[sentence] / (sum(lengths) / 4)
        return sum(rare[word] * n * 2.2 / (n + 1.2 * long) for word, n in times.items())

    by_hand = [bm25(0, {2: 2}), bm25(1, {1: 1, 2: 1}), 0.0, bm25(3, {1: 1, 2: 1})]
    expected = [by_hand[sentence] for sentence, n in enumerate((4, 3, 4, 3)) for _ in range(n)]
    torch.testing.assert_close(score(prompt)[0], torch.tensor(expected))


def test_pads_are_no_words_and_no_sentence():
    prompt = [2, 3, END, 1, END, 1, 2]
    torch.testing.assert_close(score(prompt, pads=5)[0, 5:], score(prompt)[0])


def test_a_question_without_words_scores_nothing():
    assert score([1, 2, END, 6, 7]).tolist() == [[0.0] * 5]


def test_the_sentence_that_is_asked_for_stays():
    tokenizer = small_tokenizer()
    fact, filler = "The code of the north gate is 4711.", "Nobody came to see the garden that day. " * 12
    ids = tokenizer(f"{filler}{fact} {filler}What is the code of the north gate?", return_tensors="pt").input_ids
    model = tiny_model(vocab_size=len(tokenizer))
    schedule = PruningSchedule((1,), 0.3, sink_tokens=0, local_ratio=0, min_local_tokens=16)
    with TokenPruning(schedule, BM25Scorer.of(tokenizer, window=16))(model) as trace, torch.inference_mode():
        model(input_ids=ids)
    assert fact in tokenizer.decode(ids[0, trace.kept_positions[1][0]])


@pytest.mark.parametrize(
    "change, said", [({"window": 0}, "window"), ({"words": (0, 0)}, "BM25 needs"), ({"ends": ()}, "BM25 needs")]
)
def test_bad_settings_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        BM25Scorer(**{"words": (0, 1), "ends": (END,)} | change)


def test_a_prompt_of_embeddings_is_refused():
    context = ScoringContext(torch.nn.Identity(), torch.ones(1, 3).bool(), None, None, 1)
    with pytest.raises(ValueError, match="not inputs_embeds"):
        SCORER.score(1, torch.zeros(1, 3, 4), context)
