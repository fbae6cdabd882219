"""Scores from the head that looks at a token most."""

import pytest
import torch
from helpers import assert_rows_keep_what_they_keep_alone, random_prompts, schedule_of, tiny_model

from sdtp_lib.pruning.context import TokenPruning
from sdtp_lib.pruning.families import ModelAdapter
from sdtp_lib.pruning.scoring import ScoringContext
from sdtp_lib.scorers.strongest_head import StrongestHeadScorer


def test_it_is_the_most_that_the_model_itself_pays():
    model, layer = tiny_model(attention="eager"), 2
    ids, mask = random_prompts((20,))
    with torch.no_grad():
        out = model(input_ids=ids, output_attentions=True, output_hidden_states=True)
    hidden, positions = out.hidden_states[layer], torch.arange(20)[None]
    adapter = ModelAdapter.of(model)
    embeddings = adapter.positions(layer, hidden, positions)
    context = ScoringContext(adapter.layers[layer], mask.bool(), positions, embeddings, 3)
    found = StrongestHeadScorer(5).score(layer, hidden, context)
    wanted = out.attentions[layer][:, :, -5:].amax((1, 2))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_padded_batch_keeps_what_each_row_keeps_alone():
    model, pruning = tiny_model(), TokenPruning(schedule_of(0.5), StrongestHeadScorer(6))
    ids, mask = random_prompts((40, 5, 31))  # the second row is shorter than the window
    assert_rows_keep_what_they_keep_alone(model, pruning, ids, mask)


@pytest.mark.parametrize("window", [0, -1, True, 1.5])
def test_a_window_that_is_none_is_named(window):
    with pytest.raises(ValueError, match="window must be a whole number"):
        StrongestHeadScorer(window)
