"""The loss ablation over several seeds."""

from pathlib import Path

import pytest

from sdtp_lib import ablation


def test_every_seed_is_trained_once_and_none_overwrites_another(monkeypatch):
    calls = []

    def trained(model, tokenizer, name, marks, folder, tasks, limit, seed, **recipe):
        calls.append((seed, folder, recipe))
        row = {"average": 90.0 + seed, "rank_correlation": {4: 0.1 * seed, 5: 0.3 * seed}}
        return {"SDTP": row, "without ranking loss": row}, [{"step": 0, "seed": seed}]

    monkeypatch.setattr(ablation, "train_ablations", trained)
    first, history, over = ablation.ablation_over_seeds(None, None, "demo", None, "out", "t", 1, [1, 2, 3], epochs=2)
    places = [Path("out"), Path("out/seed_2"), Path("out/seed_3")]
    assert calls == [(seed, place, {"epochs": 2}) for seed, place in zip((1, 2, 3), places, strict=True)]
    assert first["SDTP"]["average"] == 91.0 and history == [{"step": 0, "seed": 1}]
    assert over["SDTP"]["averages"] == [91.0, 92.0, 93.0]
    assert over["SDTP"]["rank_correlation"] == pytest.approx([0.2, 0.4, 0.6])
    assert "92.0 ± 1.0" in ablation.seeds_table(over) and "0.400 ± 0.200" in ablation.seeds_table(over)
    for seeds in ([], [1, 1]):
        with pytest.raises(ValueError, match="seeds must be different numbers"):
            ablation.ablation_over_seeds(None, None, "demo", None, "out", "t", 1, seeds)
