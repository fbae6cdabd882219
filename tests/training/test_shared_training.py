"""Several processes share the batches of a training: losses and weights are those of one process up to rounding."""

import json
import shutil
from contextlib import contextmanager

import pytest
import torch
from helpers import tiny_model
from launch import launch
from small_records import small_model, small_tokenizer
from training.test_trainer import LAYERS, SCHEDULE, write_marks

from sdtp_lib import TokenPruner
from sdtp_lib.models.workers import Workers
from sdtp_lib.training import saliency
from sdtp_lib.training.hidden_states import KeptStates
from sdtp_lib.training.objective import Objective
from sdtp_lib.training.recipe import Recipe
from sdtp_lib.training.step_noise import RowDraws, uniform
from sdtp_lib.training.trainer import HISTORY_FILE, Trainer, train

RECIPES = {
    "plain": {},
    "all-pairs-distilled": {"pairs": None, "distill": True},
    "no-supervision": {"without": ("rank", "mse")},
    "question": {"kind": "question_aware", "without": ("mse",)},
    "kept-states": {"classification": False},
}


def trainer(model, marks, output, name, workers=None, **changes):
    states = KeptStates(model, LAYERS) if name == "kept-states" else None
    recipe = Recipe(**{"pairs": 64, "cls_every": 3, "batch_size": 3, **RECIPES[name], **changes})
    return Trainer(model, marks, SCHEDULE, recipe, output, states, workers)


def toy():
    model = tiny_model("demo")
    model.name_or_path = "toy"
    return model


class One(Workers):
    """One of several processes that never hears of the others."""

    def __init__(self, index, count):
        super().__init__()
        self.index, self.count = index, count


def weights(folder):
    return torch.cat([tensor.flatten() for tensor in TokenPruner.from_pretrained(folder).state_dict().values()])


def check_alike(ours, theirs):
    """Two histories, up to rounding."""
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=2e-3, abs=2e-4), (one["step"], name)


@contextmanager
def note_norms():
    """Lists the gradients' norms before they are clipped: Adam's steps hardly tell if all gradients are halved."""
    norms, clip = [], torch.nn.utils.clip_grad_norm_

    def noting(*args):
        norms.append(clip(*args).item())
        return norms[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", noting)
        yield norms


def test_a_process_draws_for_its_rows_what_one_process_draws_for_them():
    seed = torch.Generator().manual_seed
    whole = uniform((2, 5, 7), seed(3))
    parts = [uniform((2, len(rows), 7), RowDraws(seed(3), rows, 5)) for rows in ([0, 2, 4], [1, 3])]
    assert torch.equal(parts[0], whole[:, ::2]) and torch.equal(parts[1], whole[:, 1::2])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_the_parts_of_all_processes_add_up(tmp_path, name, count):
    """Terms and gradients of a batch of two, of which the third process gets nothing; step 3 reads answers."""
    model = toy()
    run = trainer(model, write_marks(model, tmp_path / "marks"), tmp_path, name)
    batch = run.batches[0][:2]
    for step in (2, 3):
        found = []
        for shares in ([None], [One(index, count).share(range(2)) for index in range(count)]):
            run.pruner.zero_grad()
            parts = [run.objective(step, batch, share) for share in shares]
            sum(term.sum() for terms, _ in parts for term in terms.values()).backward()
            gradient = torch.cat([weight.grad.flatten() for weight in run.pruner.parameters()])
            terms = {term: sum(part[term].detach() for part, _ in parts) for term in parts[0][0]}
            found.append({**terms, "left": sum(left for _, left in parts), "gradient": gradient})
        for term, value in found[0].items():
            torch.testing.assert_close(found[1][term], value, rtol=1e-4, atol=1e-5)


def test_only_the_pruner_is_trained():
    model, pruner = toy(), TokenPruner(32, LAYERS)
    objective = Objective(model, pruner, SCHEDULE, Recipe(), [1, 2])
    assert {id(p) for p in objective.parameters()} == {id(p) for p in pruner.parameters()}


# Trains every recipe; one run breaks off in all processes and goes on from its checkpoint.
SCRIPT = """
import json, sys
from pathlib import Path
from sdtp_lib.models.workers import Workers
from sdtp_lib.training.marks import load_marks
from training.test_shared_training import RECIPES, note_norms, toy, trainer

workers, model, home = Workers.of_launch("cpu"), toy(), Path(sys.argv[1])
marks, norms = load_marks(home / "marks"), {}
for name in RECIPES:
    with note_norms() as norms[name]:
        trainer(model, marks, home / "two" / name, name, workers).run()
(home / f"norms{workers.index}.json").write_text(json.dumps(norms))
broken = trainer(model, marks, home / "two" / "broken", "plain", workers)
step = broken.step

def fail_at_5(number):
    if number == 5:
        raise KeyboardInterrupt
    return step(number)

broken.step = fail_at_5
try:
    broken.run(save_every=2)
except KeyboardInterrupt:
    workers.wait()
resumed = trainer(model, marks, home / "two" / "broken", "plain", workers)
history = resumed.run(resume=True, save_every=2)
(home / f"resumed{workers.index}.json").write_text(json.dumps(history))
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    model = toy()
    marks = write_marks(model, tmp_path / "marks", count=23)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = launch(tmp_path / "script.py", tmp_path)
    assert done.returncode == 0, done.stderr
    norms = [json.loads((tmp_path / f"norms{index}.json").read_text()) for index in range(2)]
    assert norms[0] == norms[1]
    for name in RECIPES:
        with note_norms() as alone_norms:
            alone = trainer(model, marks, tmp_path / "one" / name, name).run()
        assert norms[0][name] == pytest.approx(alone_norms, rel=1e-2)
        two = [json.loads(line) for line in (tmp_path / "two" / name / HISTORY_FILE).read_text().splitlines()]
        check_alike(two, alone)
        assert (weights(tmp_path / "two" / name) - weights(tmp_path / "one" / name)).abs().max() < 2e-3, name
        ours, theirs = (TokenPruner.from_pretrained(tmp_path / side / name).record for side in ("two", "one"))
        correlation = [record["held_out"].pop("rank_correlation") for record in (ours, theirs)]
        assert ours == theirs and correlation[0] == pytest.approx(correlation[1], abs=0.02)
        names = [sorted(file.name for file in (tmp_path / side / name).iterdir()) for side in ("two", "one")]
        assert names[0] == names[1]
    straight = (tmp_path / "two" / "plain" / HISTORY_FILE).read_text()
    assert (tmp_path / "two" / "broken" / HISTORY_FILE).read_text() == straight
    for index in range(2):
        resumed = json.loads((tmp_path / f"resumed{index}.json").read_text())
        assert resumed == [json.loads(line) for line in straight.splitlines()]
    assert torch.equal(weights(tmp_path / "two" / "broken"), weights(tmp_path / "two" / "plain"))


@pytest.mark.slow
def test_two_processes_mark_as_one(tmp_path):
    """Five shards of two samples, the third of which is there already."""
    small_model().save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    rows = [{"instruction": f"Say {i}", "context": "so " * (i + 1), "response": f"It is {i}."} for i in range(10)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = dict(data=data, num_samples=10, layers=(2, 4), device="cpu", batch_size=2)
    script = "import sys; from sdtp_lib.training import saliency; saliency.SHARD_SIZE = 2; from pathlib import Path\n"
    script += f"saliency.mark(Path(sys.argv[1]), output=Path(sys.argv[2]), **{options!r})".replace("PosixPath", "Path")
    (tmp_path / "script.py").write_text(script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saliency, "SHARD_SIZE", 2)
        one = saliency.mark(tmp_path / "model", output=tmp_path / "one", **options)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shards = [f"shard-{i:05d}.safetensors" for i in range(5)]
    for name in shards[:2] + shards[3:]:
        (tmp_path / "two" / name).unlink()
    done = launch(tmp_path / "script.py", tmp_path / "model", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    for name in ("manifest.json", *shards):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert len(one.samples) == 10 and len(list((tmp_path / "two").iterdir())) == 6


@pytest.mark.slow
def test_the_module_is_the_command(tmp_path):
    """21 samples in batches of 4: the last batch of an epoch has one, and the second process none of it."""
    model = toy()
    model.save_pretrained(tmp_path / "model")
    write_marks(model, tmp_path / "marks", count=23, layers=range(1, 6))
    options = dict(epochs=2, kind="mlp", seed=0)
    alone = train(tmp_path / "marks", tmp_path / "one", tmp_path / "model", device="cpu", **options)
    command = ["--marks", tmp_path / "marks", "--model", tmp_path / "model", "--device", "cpu", "--epochs", 2]
    done = launch("-m", "sdtp_lib.training", *command, "--output", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    check_alike([json.loads(line) for line in (tmp_path / "two" / HISTORY_FILE).read_text().splitlines()], alone)
    assert (weights(tmp_path / "two") - weights(tmp_path / "one")).abs().max() < 2e-3
