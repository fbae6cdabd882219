"""Ablations over several seeds: of the losses, the saliency's target, and the pruner's width."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_records import LAYERS, small_model, small_records, small_tokenizer

from sdtp_lib import PruningSchedule, TokenPruner
from sdtp_lib.experiments import table5_losses as ablation
from sdtp_lib.training.marks import load_marks

TEXT = "the colour of Ada is red . the tool of Hugo is a drum . the city of Emil is Oslo . " * 3


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
    assert "92.0 ± 1.0" in ablation.seeds_table(over) and "0.40 ± 0.20" in ablation.seeds_table(over)
    for seeds in ([], [1, 1]):
        with pytest.raises(ValueError, match="seeds must be different numbers"):
            ablation.ablation_over_seeds(None, None, "demo", None, "out", "t", 1, seeds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with its tokenizer, and five short prompts to mark."""
    folder = tmp_path_factory.mktemp("ablation")
    model = small_model()
    model.save_pretrained(folder / "model")
    small_tokenizer().save_pretrained(folder / "model")
    rows = [{"instruction": f"{TEXT} what is number {n} ?", "response": "red and a drum"} for n in range(5)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_variations_are_every_target_and_every_width_once():
    found = ablation.targets_and_widths(128, [4, 32])
    assert found == {
        "target answer, width 32": ({"target": "answer"}, {"options": {"width": 32}}),
        "target all, width 32": ({"target": "all"}, {"options": {"width": 32}}),
        "target answer, width 4": ({"target": "answer"}, {"options": {"width": 4}}),
    }


def test_both_stages_run_for_every_target_width_and_seed(folder, tmp_path, monkeypatch):
    records, model, marked = small_records(1)[:1], small_model(), []
    monkeypatch.setattr(ablation, "records_of", lambda *_: records)
    mark = ablation.mark
    monkeypatch.setattr(ablation, "mark", lambda *args, **kw: marked.append(kw["target"]) or mark(*args, **kw))
    schedule = PruningSchedule((4, 5), 0.5)
    found = ablation.pruner_ablation(
        model, small_tokenizer(), str(folder / "model"), tmp_path, ablation.targets_and_widths(32, [3]), "mini", 1,
        [0, 7], data=folder / "pairs.jsonl", num_samples=5, schedule=schedule, epochs=1,
    )  # fmt: skip
    assert marked == ["answer", "all"], "the width does not change the marks"
    assert list(found) == ["target answer, width 8", "target all, width 8", "target answer, width 3"]
    assert all(len(row["averages"]) == len(row["rank_correlation"]) == 2 for row in found.values())
    assert all(0 <= score <= 100 for row in found.values() for score in row["averages"])
    for place, width, target, seed in (
        ("target_answer,_width_8", 8, "answer", 0), ("seed_7/target_all,_width_8", 8, "all", 7),
        ("seed_7/target_answer,_width_3", 3, "answer", 7),
    ):  # fmt: skip
        pruner = TokenPruner.from_pretrained(tmp_path / place)
        assert pruner.width == width and max(pruner.layers) < LAYERS
        assert pruner.record["marks"] == load_marks(tmp_path / f"marks_target_{target}").digest
        assert pruner.record["recipe"]["seed"] == seed and pruner.record["recipe"]["epochs"] == 1


def test_the_comparison_runs_under_the_schedule_asked_for(monkeypatch):
    asked, trained = [], []

    def measured(model, tokenizer, records, method, schedule, pruner):
        asked.append(schedule)
        return {"average": 50.0, "tasks": {}}, []

    pruner = TokenPruner(8, (4,), {"held_out": {"rank_correlation": [0.5]}})
    monkeypatch.setattr(ablation, "records_of", lambda *_: [])
    monkeypatch.setattr(ablation, "Trainer", lambda *given: trained.append(given) or SimpleNamespace(run=lambda: [1]))
    monkeypatch.setattr(ablation.TokenPruner, "from_pretrained", lambda folder: pruner)
    monkeypatch.setattr(ablation, "measure", measured)
    model, hard = small_model(), PruningSchedule((4,), 0.5)
    found, history = ablation.train_ablations(model, None, "demo", None, "out", "t", 1, schedule=hard, epochs=3)
    assert asked == [hard] * 3 and history == [1]
    assert [recipe.without for _, _, _, recipe, *_ in trained] == [(), ("rank",), ("rank", "mse")]
    assert {recipe.epochs for _, _, _, recipe, *_ in trained} == {3}
    assert len({id(given[0]) for given in trained}) == len({id(given[-1]) for given in trained}) == 1  # model, states
    assert found["without ranking loss"] == {"rank_correlation": {4: 0.5}, "average": 50.0}


def test_bad_seeds_are_refused_before_anything_is_marked(tmp_path):
    with pytest.raises(ValueError, match="seeds must be different numbers"):
        ablation.pruner_ablation(
            None, None, "demo", tmp_path / "out", {"a": ({}, {})}, "t", 1, [], data="demo", num_samples=5
        )
    assert not (tmp_path / "out").exists()
