"""A model split over two processes by tensor parallelism: every process keeps the tokens that one process keeps."""

import pytest
import torch
from helpers import close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from launch import launch

from sdtp_lib import TokenPruning

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "mixtral")
LENGTHS = ([40], [40, 23])
STEPS = 9  # the prefill's token and 8 decode steps

SCRIPT = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
from test_tensor_parallel import FAMILIES, run

home = Path(sys.argv[1])
found = {}
for family in FAMILIES:
    model = AutoModelForCausalLM.from_pretrained(home / family, tp_plan="auto", dtype=torch.float32).eval()
    split = sum(weight.numel() for weight in model.parameters())
    found[family] = {"split": split, "runs": run(model)}
torch.save(found, home / f"found{torch.distributed.get_rank()}.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def run(model):
    """Both ways to number tokens, one prompt and a padded batch: what a pruned generation gave."""
    schedule, found = schedule_of(), []
    for positions in ("original", "compact"):
        for lengths in LENGTHS:
            ids, mask = random_prompts(lengths)
            pruning = TokenPruning(schedule, tiny_pruner(schedule.layers), positions=positions)
            with pruning(model) as trace:
                new, logits = generate(model, ids, mask, STEPS)
            kept = {layer: trace.kept_positions[layer] for layer in schedule.layers}
            found.append({"new": new, "logits": logits, "kept": kept, "keys": trace.kv_lengths})
    return found


@pytest.mark.slow
def test_kept_sets_and_logits_are_those_of_one_process(tmp_path):
    models = {family: tiny_model(family) for family in FAMILIES}
    for family, model in models.items():
        model.save_pretrained(tmp_path / family)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = launch(tmp_path / "script.py", tmp_path)
    assert done.returncode == 0, done.stderr
    processes = [torch.load(tmp_path / f"found{rank}.pt") for rank in range(2)]
    for family, model in models.items():
        weights = sum(weight.numel() for weight in model.parameters())
        for process in processes:
            assert process[family]["split"] < 0.75 * weights, family  # it is split indeed
            for ours, alone in zip(process[family]["runs"], run(model), strict=True):
                assert ours["logits"].shape[1] == STEPS and close(ours["logits"], alone["logits"]), family
                assert torch.equal(ours["new"], alone["new"]) and ours["keys"] == alone["keys"]
                assert all(torch.equal(ours["kept"][layer], kept) for layer, kept in alone["kept"].items()), family
                assert min(kept.shape[1] for kept in alone["kept"].values()) < max(alone["keys"])  # something was cut
