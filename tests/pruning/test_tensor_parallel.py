"""A model split over two processes by tensor parallelism: every process keeps the tokens that one process keeps."""

import pytest
import torch
from helpers import close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from launch import launch

from sdtp_lib import TokenPruning
from sdtp_lib.scorers.attention import LastWindowAttentionScorer

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3", "phi3", "mixtral")
LENGTHS = ([40], [40, 23])
STEPS = 9  # the prefill's token and 8 decode steps

SCRIPT = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig
from pruning.test_tensor_parallel import FAMILIES, refused, run

newer = hasattr(DistributedConfig, "tp_plan")  # which split weights into DTensors, of the whole's shape
options = {"distributed_config": DistributedConfig(tp_plan="auto")} if newer else {"tp_plan": "auto"}
home = Path(sys.argv[1])
found = {}
for family in FAMILIES:
    model = AutoModelForCausalLM.from_pretrained(home / family, dtype=torch.float32, **options).eval()
    held = [weight.to_local() if hasattr(weight, "to_local") else weight for weight in model.parameters()]
    split = sum(weight.numel() for weight in held)
    found[family] = {"split": split, "runs": run(model), "refused": refused(model)}
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


def refused(model):
    """What attention scores say, which would be those of a process's own heads; the prefill is not run to its end."""
    ids, mask = random_prompts([40])
    try:
        with TokenPruning(schedule_of(), LastWindowAttentionScorer())(model), torch.no_grad():
            model(ids, attention_mask=mask)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_attention_scores_of_some_heads_are_refused(family):
    """A projection cut in half, as tensor parallelism leaves it in each of two processes."""
    model = tiny_model(family)
    assert refused(model) is None
    attention = model.model.layers[2].self_attn
    projection = attention.qkv_proj if family == "phi3" else attention.q_proj
    projection.weight = torch.nn.Parameter(projection.weight[: len(projection.weight) // 2], requires_grad=False)
    assert "not supported under tensor parallelism" in refused(model)


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
            told = process[family]["refused"] or ""
            assert ("not supported under tensor parallelism" in told) != (family == "phi3")  # gathers queries and keys
            for ours, alone in zip(process[family]["runs"], run(model), strict=True):
                assert ours["logits"].shape[1] == STEPS and close(ours["logits"], alone["logits"]), family
                assert torch.equal(ours["new"], alone["new"]) and ours["keys"] == alone["keys"]
                assert all(torch.equal(ours["kept"][layer], kept) for layer, kept in alone["kept"].items()), family
                assert min(kept.shape[1] for kept in alone["kept"].values()) < max(alone["keys"])  # something was cut
