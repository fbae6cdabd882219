"""Peers: the same budget of keys, spent in other ways."""

from importlib.util import find_spec

import pytest
import torch
import transformers
from helpers import tiny_model, tiny_pruner
from packaging.version import Version
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sdtp_lib import PruningSchedule
from sdtp_lib.experiments.costs.same_budget import FULL, compare_peers, one_cut, peers, peers_table

LAYERS, TOKENS = 8, 400
SCHEDULE = PruningSchedule.preset("keep09", LAYERS)
WITH_KVPRESS = find_spec("kvpress") is not None and Version(transformers.__version__) < Version("5.3")


def keys_left(model, context):
    ids = torch.randint(90, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    with context(model), torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
    return [part.keys.shape[-2] for part in cache.layers]


def test_all_keep_the_same_budget():
    model = tiny_model(layers=LAYERS)
    sides = peers(model.config, tiny_pruner(SCHEDULE.layers), SCHEDULE, TOKENS)
    left = {name: keys_left(model, context) for name, context in sides.items()}
    budget = sum(SCHEDULE.lengths(TOKENS, LAYERS))
    for name, lengths in left.items():
        assert sum(lengths) == pytest.approx(budget, rel=0.01), name
    single = left["attention scores, one early cut (GemFilter, FastKV)"]
    assert single[:3] == [TOKENS] * 3 and len(set(single[3:])) == 1
    if WITH_KVPRESS:
        assert len(set(left["cache alone (SnapKV by kvpress)"])) == 1


def test_importing_kvpress_leaves_the_attention_functions_alone():
    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    peers(tiny_model(layers=LAYERS).config, tiny_pruner(SCHEDULE.layers), SCHEDULE, TOKENS)
    assert dict(ALL_ATTENTION_FUNCTIONS.items()) == before


def test_one_cut_cannot_leave_less_than_the_layers_below_it():
    assert one_cut(32, 0.65).layers == (13,)
    assert one_cut(32, 0.65).keep_ratio == pytest.approx((0.65 * 32 - 13) / 19)
    with pytest.raises(ValueError, match="one cut at layer 13 of 32"):
        one_cut(32, 0.4)


def test_rows_compare_with_the_full_model():
    model = tiny_model(layers=LAYERS)
    found = compare_peers(model, tiny_pruner(SCHEDULE.layers), "keep09", TOKENS, repeats=1, new_tokens=3)
    assert next(iter(found)) == FULL and found[FULL]["prefill x"] == found[FULL]["total x"] == found[FULL]["keys"] == 1
    for row in found.values():
        assert row["total"] >= row["prefill"] > 0
        assert row["total x"] == pytest.approx(found[FULL]["total"] / row["total"])
    assert "End2End x" in peers_table(found) and "SDTP" in peers_table(found)
