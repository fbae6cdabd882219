"""Stage 2: the pruner learns, the model stays as it was, and an interrupted run ends where a straight one does."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import HIDDEN, VOCABULARY, close, tiny_model

from sdtp_lib import PruningSchedule, TokenPruner
from sdtp_lib.data.samples import Batch, Sample
from sdtp_lib.models.checkpoints import load_checkpoint, save_checkpoint
from sdtp_lib.training import trainer as training
from sdtp_lib.training.batch_forward import layer_inputs
from sdtp_lib.training.hidden_states import KeptStates
from sdtp_lib.training.marks import Marks, MarksWriter, load_marks
from sdtp_lib.training.recipe import Recipe, plan_batches
from sdtp_lib.training.saliency import fingerprint, mark_samples
from sdtp_lib.training.trainer import CHECKPOINT_FILE, HISTORY_FILE, Trainer, held_out_correlation, train

LAYERS = (2, 4)
SCHEDULE = PruningSchedule(LAYERS, keep_ratio=0.7, sink_tokens=2, min_local_tokens=3)


def write_marks(model, folder, count=24, layers=(1, 2, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for i in range(count):
        tokens = int(torch.randint(12, 40, (), generator=generator))
        ids = torch.randint(2, VOCABULARY, (tokens,), generator=generator)
        samples.append(Sample(f"s{i}", ids, tokens - 3))
    settings = {"model": "toy", "fingerprint": fingerprint(model), "layers": list(layers)}
    mark_samples(model, writer := MarksWriter(folder, settings, samples, 8), layers, "answer", 4)
    assert not writer.missing()
    return load_marks(folder)


@pytest.fixture(scope="module")
def model():
    model = tiny_model("demo")
    model.name_or_path = "toy"
    return model


@pytest.fixture(scope="module")
def marks(model, tmp_path_factory):
    return write_marks(model, tmp_path_factory.mktemp("marks"))


def trainer(model, marks, output, **recipe):
    return Trainer(model, marks, SCHEDULE, Recipe(**{"pairs": 64, "cls_every": 3, **recipe}), output)


@pytest.mark.parametrize(
    "recipe, terms",
    [
        ({}, {"cls", "mse", "rank"}), ({"without": ("rank",)}, {"cls", "mse"}),
        ({"without": ("mse",)}, {"cls", "rank", "rate"}), ({"without": ["mse", "rank"]}, {"cls", "rate"}),
        ({"classification": False}, {"mse", "rank"}), ({"distill": True}, {"cls", "distill", "mse", "rank"}),
        ({"distill": True, "classification": False, "pairs": None}, {"distill", "mse", "rank"}),
    ],
)  # fmt: skip
def test_every_recipe_trains_its_terms_at_every_stage(model, marks, tmp_path, recipe, terms):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = trainer(model, marks, tmp_path, **recipe)
    start = {name: tensor.clone() for name, tensor in run.pruner.state_dict().items()}
    history = run.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)
    assert set().union(*history) == terms | {"step", "lr", "loss", "kept"}
    for row in history:
        reads_answers = row["step"] % 3 == 0
        assert terms & row.keys() == (terms if reads_answers else terms - {"cls", "distill"})
        total = sum(sum(row[term]) if isinstance(row[term], list) else row[term] for term in terms & row.keys())
        assert row["loss"] == pytest.approx(total, rel=1e-5)
        assert all(len(row[term]) == 2 for term in terms & {"mse", "rank", "rate"} & row.keys())
        assert 0 < row["kept"] <= 1
    assert [row["step"] for row in history] == list(range(len(history)))
    assert [json.loads(line) for line in (tmp_path / HISTORY_FILE).read_text().splitlines()] == history
    pruner = TokenPruner.from_pretrained(tmp_path)
    assert pruner.layers == LAYERS
    for name, tensor in pruner.state_dict().items():
        if name.endswith("2.bias"):
            continue  # ranking alone does not move it
        assert not torch.equal(tensor, start[name]), name
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        HISTORY_FILE,
        "pruner.safetensors",
        "pruner_config.json",
    ]


def test_record_says_how_it_was_made(model, marks, tmp_path):
    trainer(model, marks, tmp_path, seed=3).run()
    record = TokenPruner.from_pretrained(tmp_path).record
    assert record["model"] == "toy" and record["marks"] == marks.digest and record["recipe"]["seed"] == 3
    assert record["schedule"] == SCHEDULE.to_dict() and record["steps"] == 12
    assert len(record["held_out"]["rank_correlation"]) == 2 and len(record["held_out"]["samples"]) == 2


@pytest.mark.parametrize("recipe", [{}, {"without": ("rank", "mse")}])
def test_resumed_run_equals_straight_run_bit_for_bit(model, marks, tmp_path, recipe):
    straight = trainer(model, marks, tmp_path / "straight", **recipe).run()
    broken = trainer(model, marks, tmp_path / "parts", **recipe)
    step = broken.step

    def fail_at_7(number):
        if number == 7:
            raise KeyboardInterrupt
        return step(number)

    broken.step = fail_at_7
    with pytest.raises(KeyboardInterrupt):
        broken.run(save_every=3)
    resumed = trainer(model, marks, tmp_path / "parts", **recipe)
    resumed.load()
    assert len(resumed.history) == 7  # all steps that were done, not those of the last checkpoint alone
    assert trainer(model, marks, tmp_path / "parts", **recipe).run(resume=True, save_every=3) == straight
    for name in ("pruner.safetensors", "pruner_config.json", HISTORY_FILE):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    other = trainer(model, marks, tmp_path / "other", **{**recipe, "seed": 1}).run()
    assert other != straight


def test_checkpoint_of_other_settings_or_damaged_is_refused(model, marks, tmp_path):
    run = trainer(model, marks, tmp_path)
    run.history = [run.step(0)]
    run.save()
    with pytest.raises(ValueError, match="another recipe"):
        trainer(model, marks, tmp_path, lr=5e-3).run(resume=True)
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is damaged"):
        trainer(model, marks, tmp_path).run(resume=True)
    path.write_bytes(b"\x80\x04N.")  # a pickle
    with pytest.raises(ValueError, match="is damaged"):
        trainer(model, marks, tmp_path).run(resume=True)


def test_checkpoint_round_trip_of_a_fresh_optimizer(tmp_path):
    pruner = TokenPruner(HIDDEN, (2,))
    optimizer = torch.optim.AdamW(pruner.parameters())
    save_checkpoint(tmp_path / "c", pruner, [optimizer], {"step": 0})
    assert load_checkpoint(tmp_path / "c", pruner, [optimizer]) == {"step": 0}


def test_training_beats_the_untrained_pruner_on_held_out_prompts(model, marks, tmp_path):
    """On saliency that the first number of a token's hidden state tells."""

    def told(sample):
        ids = sample.without_answer().input_ids[None]
        hidden = layer_inputs(model, ids, torch.ones_like(ids), marks.layers)
        saliency = torch.stack([torch.nn.functional.rms_norm(h[0], (HIDDEN,))[:, 0].exp() for h in hidden.values()])
        return replace(sample, saliency=saliency)

    toy = Marks(marks.manifest, [told(sample) for sample in marks.samples])
    run = trainer(model, toy, tmp_path, epochs=10, classification=False, lr=1e-2)
    untrained = held_out_correlation(model, run.pruner, run.held_out, LAYERS, [1, 2])
    history = run.run()
    trained = TokenPruner.from_pretrained(tmp_path).record["held_out"]["rank_correlation"]
    assert min(trained) > 0.7  # a random one may rank well by chance, so each stage is held to its own beginning
    assert all(after > before + 0.2 for after, before in zip(trained, untrained, strict=True))
    assert sum(history[-1]["mse"]) < 0.7 * sum(history[0]["mse"])


def test_rate_loss_pulls_to_the_schedule_without_supervision(model, marks, tmp_path):
    run = trainer(model, marks, tmp_path, epochs=8, without=("rank", "mse"), lr=3e-2, cls_every=10)
    with torch.no_grad():
        for mlp in run.pruner.mlps.values():
            mlp[-1].bias.fill_(4.0)
    history = run.run()
    kept = [sum(row["kept"] for row in part) / 10 for part in (history[:10], history[-10:])]
    assert kept[0] > 0.8 and abs(kept[1] - 0.7**2) < 0.12


def test_options_that_a_pruner_does_not_take_are_refused_before_anything_runs():
    for recipe, message in (({"kind": "forest"}, "unknown kind"), ({"kind": "attention"}, "no weights to train"),
                            ({"options": {"rank": 3}}, "takes no such options"),
                            ({"kind": "question_aware", "options": {"pool": "sum"}}, "unknown pool")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Recipe(**recipe)


def test_batches_cover_every_sample_once_an_epoch(marks):
    batches = plan_batches(marks.samples, Recipe(batch_size=5, epochs=2))
    assert len(batches) == 10 and max(map(len, batches)) == 5
    for epoch in (batches[:5], batches[5:]):
        assert sorted(s.id for batch in epoch for s in batch) == sorted(s.id for s in marks.samples)
    assert batches[:5] != batches[5:]
    assert batches == plan_batches(marks.samples, Recipe(batch_size=5, epochs=2))


@pytest.mark.parametrize(
    "recipe, message",
    [
        ({"without": ("cls",)}, "unknown loss 'cls'"), ({"epochs": 0}, "epochs must be"), ({"lr": 0.0}, "lr must be"),
        ({"lr": float("nan")}, "lr must be"), ({"pairs": 0}, "pairs must be"), ({"holdout": 1.0}, "holdout must be"),
        ({"without": ("rank", "mse"), "classification": False}, "nothing to learn from"),
    ],
)  # fmt: skip
def test_bad_recipes_are_refused(recipe, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**recipe)


def test_model_and_marks_must_belong_together(model, marks, tmp_path):
    with pytest.raises(ValueError, match="made by 'toy' with other weights"):
        trainer(tiny_model("demo", seed=5), marks, tmp_path)
    with pytest.raises(ValueError, match=r"no saliency at layers \[3\]; they have \[1, 2, 4\]"):
        Trainer(model, marks, PruningSchedule((2, 3)), Recipe(), tmp_path)
    with pytest.raises(ValueError, match="nothing to train"):
        Trainer(model, marks, PruningSchedule(()), Recipe(), tmp_path)
    with pytest.raises(ValueError, match="too few"):
        trainer(model, type(marks)(marks.manifest, marks.samples[:1]), tmp_path)
    assert not any(tmp_path.iterdir())


def test_train_by_name(model, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "load_model", lambda *args, **options: (model, None))
    write_marks(model, tmp_path / "marks", layers=(4, 5))
    history = train(tmp_path / "marks", tmp_path / "out", model="toy", epochs=1, pairs=32)
    assert len(history) == 6 and TokenPruner.from_pretrained(tmp_path / "out").layers == (4, 5)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        train(tmp_path / "nowhere", tmp_path / "out2")
    with pytest.raises(ValueError, match="unknown loss"):
        train(tmp_path / "marks", tmp_path / "out2", without=("gumbel",))
    with pytest.raises(ValueError, match="unknown schedule"):
        train(tmp_path / "marks", tmp_path / "out2", schedule="tuesday")
    assert not (tmp_path / "out2").exists()


def test_kept_states_are_those_of_the_batch_and_are_read_once(model, marks):
    samples = [sample.without_answer() for sample in marks.samples[:3]]
    batch = Batch.of(samples, device=model.device)
    states, runs = KeptStates(model, (1, 2, 4)), []
    with_hook = model.model.layers[0].register_forward_pre_hook(lambda *_: runs.append(1))
    first, again = states.of(samples, LAYERS), states.of(samples[:1], LAYERS)
    few = KeptStates(model, LAYERS, most_bytes=next(iter(states.known.values())).nbytes)
    few.of(samples, LAYERS), few.of(samples, LAYERS)
    with_hook.remove()
    assert len(runs) == 3 + 5 and len(few.known) == 1  # the one that fits is read once, the other two are read again
    wanted = layer_inputs(model, batch.input_ids, batch.attention_mask, LAYERS)
    assert list(first) == list(again) == list(wanted) == list(LAYERS)
    for layer in LAYERS:
        assert close(first[layer][batch.prompt_mask], wanted[layer][batch.prompt_mask])
        assert first[layer].masked_fill(batch.prompt_mask[..., None], 0).abs().sum() == 0


def test_training_on_kept_states_is_the_same_up_to_rounding(model, marks, tmp_path):
    plain = trainer(model, marks, tmp_path / "plain", epochs=2).run()
    kept = Trainer(
        model, marks, SCHEDULE, Recipe(pairs=64, cls_every=3, epochs=2), tmp_path / "kept", KeptStates(model, LAYERS)
    ).run()
    assert [row["loss"] for row in kept] == pytest.approx([row["loss"] for row in plain], rel=1e-3)


def test_states_are_kept_where_all_of_them_fit(model, marks, monkeypatch):
    tokens = sum(len(sample.without_answer().input_ids) for sample in marks.samples)
    needed = tokens * len(LAYERS) * HIDDEN * 4  # bytes of float32
    monkeypatch.setattr("sdtp_lib.training.hidden_states.MOST_BYTES", needed)
    states = KeptStates.if_all_fit(model, LAYERS, marks.samples)
    states.of([sample.without_answer() for sample in marks.samples], LAYERS)
    assert sum(kept.nbytes for kept in states.known.values()) == needed
    monkeypatch.setattr("sdtp_lib.training.hidden_states.MOST_BYTES", needed - 1)
    assert KeptStates.if_all_fit(model, LAYERS, marks.samples) is None


def test_what_is_held_out_is_read_once_for_all_runs(model, marks, tmp_path):
    plain = trainer(model, marks, tmp_path / "plain")
    plain.run()
    states, runs = KeptStates(model, LAYERS), []
    kept = Trainer(model, marks, SCHEDULE, plain.recipe, tmp_path / "kept", states)
    kept.run()
    with_hook = model.model.layers[0].register_forward_pre_hook(lambda *_: runs.append(1))
    again = held_out_correlation(model, plain.pruner, kept.held_out, LAYERS, [1, 2], states)
    with_hook.remove()
    assert not runs and again == held_out_correlation(model, plain.pruner, plain.held_out, LAYERS, [1, 2])
