"""Folders that hold something else than a model that can be pruned: one line each, before the weights are read."""

import json
import re

import pytest
import torch
from folders import run, save_model, save_pruner
from helpers import schedule_of, tiny_model, tiny_pruner
from safetensors.torch import load_file, save_file
from small_records import small_tokenizer, write_records
from transformers import (
    BertConfig,
    BertModel,
    BloomConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from sdtp_lib import TokenPruning
from sdtp_lib.evaluation.batches import pad_token
from sdtp_lib.models.identity import fingerprint
from sdtp_lib.models.loading import DTYPES, load_model
from sdtp_lib.models.model_files import INDEX_FILE, attention_for, position_limit

SMALL = dict(vocab_size=97)
TEXT = dict(
    vocab_size=97, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    num_hidden_layers=6, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    initializer_range=0.3,
)  # fmt: skip
IMAGE = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28,
             patch_size=14)  # fmt: skip
MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}


def both(kind, text, vision, **options):
    """A tiny model of images and texts: its text model's type, and its vision model's."""
    config_class, model_class = kind
    torch.manual_seed(0)
    text, vision = {**TEXT, "model_type": text}, {**IMAGE, "model_type": vision}
    return model_class(config_class(text_config=text, vision_config=vision, **options)).eval().requires_grad_(False)


IMAGES_TOO = {
    "gemma3": lambda: both(
        (Gemma3Config, Gemma3ForConditionalGeneration), "gemma3_text", "siglip_vision_model", mm_tokens_per_image=4,
        image_token_index=90, boi_token_index=91, eoi_token_index=92,
    ),
    "mistral3": lambda: both(
        (Mistral3Config, Mistral3ForConditionalGeneration), "mistral", "pixtral", image_token_index=90
    ),
    "llava": lambda: both(
        (LlavaConfig, LlavaForConditionalGeneration), "llama", "clip_vision_model", image_token_index=90
    ),
}  # fmt: skip


def change(folder, name="config.json", **values):
    """Set values in a JSON file; None takes one out."""
    content = {**json.loads((folder / name).read_text()), **values}
    (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def only(folder, *files):
    """A folder with these files alone, a word in each."""
    folder.mkdir()
    for name in files:
        (folder / name).write_bytes(b"{}")


def changed(touch):
    """Makes a sound folder, then harms it."""

    def make(folder):
        save_model(folder)
        touch(folder)

    return make


def sharded(folder, index):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / INDEX_FILE).write_text(index)


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def saved(make):
    def save(folder):
        make().save_pretrained(folder)
        small_tokenizer().save_pretrained(folder)

    return save


T5_SIZES = dict(d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
BERT_SIZES = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
QWEN2_VL = dict(text_config={**TEXT, "rope_parameters": MROPE},
                vision_config=dict(depth=1, embed_dim=16, hidden_size=32, num_heads=2))  # fmt: skip
# Name -> what makes the folder, and what the line says.
BAD = {
    "t5": (saved(lambda: T5ForConditionalGeneration(T5Config(**SMALL, **T5_SIZES))), "family 't5'.*not supported"),
    "bert": (saved(lambda: BertModel(BertConfig(**SMALL, **BERT_SIZES))), "family 'bert'.*not supported"),
    "gpt2": (saved(lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2))), "family 'gpt2'.*not supp"),
    "qwen2_vl": (
        saved(lambda: Qwen2VLForConditionalGeneration(Qwen2VLConfig(**QWEN2_VL))), "'qwen2_vl'.*'qwen2_vl_text'.*not",
    ),
    "code of its own": (
        changed(lambda f: change(f, model_type="mine", auto_map={"AutoConfig": "c.C"})), "family 'mine'.*not supported",
    ),
    "no family": (changed(lambda f: change(f, model_type=None)), "family None"),
    "quantised": (changed(lambda f: change(f, quantization_config={"quant_method": "gptq"})), r"quantised \(gptq\)"),
    "bitsandbytes": (
        changed(lambda f: change(f, quantization_config={"quant_method": "bitsandbytes"})), "quantised .bitsandbytes",
    ),
    "adapter": (lambda f: only(f, "adapter_config.json", "adapter_model.safetensors"), "PEFT adapter.*merge"),
    "adapter beside weights": (changed(lambda f: (f / "adapter_config.json").write_text("{}")), "PEFT adapter"),
    "sentences": (changed(lambda f: (f / "modules.json").write_text("[]")), "sentence-transformers"),
    "gguf": (lambda f: only(f, "model.gguf"), "is in GGUF; name the file: .*model.gguf$"),
    "model.gguf": (lambda f: f.write_bytes(b"GGUF"), "damaged or cut short"),
    "weights.safetensors": (lambda f: f.write_bytes(b""), "is a file; give the folder"),
    "pickled": (changed(pickled), "no safetensors weights; pickled"),
    "empty": (lambda f: f.mkdir(), "no config.json"),
    "another name": (
        changed(lambda f: (f / "model.safetensors").rename(f / "consolidated.safetensors")), "no model.safetensors",
    ),
    "no shard": (
        changed(lambda f: sharded(f, '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}')), "no model-00002",
    ),
    "torn index": (changed(lambda f: sharded(f, '{"weight')), "index.json is damaged"),
    "index of another shape": (changed(lambda f: sharded(f, '{"weight_map": []}')), "index.json is damaged"),
    "torn config": (changed(lambda f: (f / "config.json").write_text('{"model_ty')), "config.json.*not a valid JSON"),
    "config that is a list": (changed(lambda f: (f / "config.json").write_text("[]")), "config.json.*cannot be used"),
    "wrong type": (changed(lambda f: change(f, hidden_size="abc")), "config.json.*cannot be used|hidden_size"),
    "no tokenizer": (lambda f: save_model(f, tokenizer=False), "no tokenizer"),
    "torn tokenizer": (changed(lambda f: (f / "tokenizer.json").write_text('{"a')), "tokenizer of.*does not load"),
    "settings of a tokenizer alone": (
        changed(lambda f: (f / "tokenizer.json").unlink()),
        "tokenizer of.*(does not load|no vocabulary)",
    ),
    "no vocabulary": (
        changed(lambda f: [(f / "tokenizer.json").unlink(),
                           (f / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')]),
        "no vocabulary",
    ),
    "broken sentencepiece": (
        changed(lambda f: [(f / "tokenizer.json").rename(f / "tokenizer.model")]), "tokenizer of.*does not load",
    ),
    "another's tokenizer": (lambda f: save_model(f, vocab_size=97), "tokens, the model 97"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_folder_of_something_else_is_one_line(name, tmp_path, capsys):
    make, line = BAD[name]
    make(tmp_path / name)
    save_pruner(tmp_path / "pruner")
    (tmp_path / "prompt.txt").write_text("a door")
    marks, page = tmp_path / "marks", tmp_path / "page.html"
    pruner = ("--pruner", tmp_path / "pruner")
    commands = [
        ("evaluate", "--tasks", "longbench_mini", "--method", "random", "--output", tmp_path / "scores.json"),
        ("mark", "--output", marks),
        ("explore", "--prompt-file", tmp_path / "prompt.txt", *pruner, "--output", page),
        ("demo", "--output", page),
    ]
    if name != "no tokenizer":  # which a prompt of random tokens does not need
        lengths = ("--mode", "prefill", "--config", "none", "--lengths", 16)
        commands.append(("profile", *lengths, "--output", tmp_path / "latency.json"))
    before = sorted(tmp_path.rglob("*"))
    for command in commands:
        status, said = run(capsys, *command, "--model", tmp_path / name)
        assert status == 2 and len(said) == 1 and name in said[0], (command[0], said)
        assert re.search(line, said[0]) and len(said[0]) < 500, said[0]
    assert sorted(tmp_path.rglob("*")) == before  # nothing half-written


@pytest.mark.parametrize("name", IMAGES_TOO)
def test_the_text_model_of_one_that_reads_images_is_pruned(name, tmp_path):
    whole = IMAGES_TOO[name]()
    whole.save_pretrained(tmp_path)
    small = {dtype: load_model(tmp_path, dtype, "cpu")[0] for dtype in DTYPES}
    model, ids = small["float32"], torch.randint(3, 90, (1, 40), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(input_ids=ids).logits, whole(input_ids=ids).logits)
    assert len({fingerprint(each) for each in small.values()}) == 1
    assert not any("vision" in part for part, _ in model.named_modules())
    schedule = schedule_of()
    with TokenPruning(schedule, tiny_pruner(schedule.layers))(model) as trace:
        model.generate(ids, max_new_tokens=2, do_sample=False)
    assert trace.kv_lengths[-1] < 40


def test_weights_in_mxfp4_are_taken_as_bfloat16(tmp_path):
    """As gpt-oss is published."""
    save_model(tmp_path, "gpt_oss", torch.bfloat16, intermediate_size=64)
    stored, packed = load_file(tmp_path / "model.safetensors"), {}
    for key, value in stored.items():
        if key.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, rows, columns = value.shape
            packed[f"{key}_blocks"] = torch.full((experts, columns, rows // 32, 16), 0x22, dtype=torch.uint8)  # ones
            packed[f"{key}_scales"] = torch.full((experts, columns, rows // 32), 125, dtype=torch.uint8)  # 2 ** -2
        else:
            packed[key] = value
    save_file(packed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    change(tmp_path, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    model, _ = load_model(tmp_path, "bfloat16", "cpu")
    assert model.model.layers[0].mlp.experts.down_proj.unique().tolist() == [0.25]
    assert model(torch.arange(9)[None]).logits.isfinite().all()


def strip_tokens(folder):
    """Take the tokens that end, fill up and begin a text out of the tokenizer's settings."""
    change(folder, "tokenizer_config.json", eos_token=None, pad_token=None, bos_token=None, unk_token=None)


def test_batches_of_a_tokenizer_without_pads_are_those_of_single_prompts(tmp_path, capsys):
    save_model(tmp_path / "model")
    strip_tokens(tmp_path / "model")
    tokenizer = load_model(tmp_path / "model", device="cpu")[1]
    assert tokenizer.pad_token is None and tokenizer.all_special_ids == [] and pad_token(tokenizer) == 0
    write_records(tmp_path / "data")
    predictions = []
    for size in (1, 4):
        out = tmp_path / f"{size}.json"
        assert run(
            capsys, "evaluate", "--model", tmp_path / "model", "--pruner", save_pruner(tmp_path / "pruner"),
            "--data", tmp_path / "data", "--tasks", "few_shot", "--limit", 2, "--method", "sdtp", "--batch-size", size,
            "--schedule", "keep07", "--dtype", "float32", "--output", out,
        ) == (0, [])  # fmt: skip
        lines = out.with_suffix(".samples.jsonl").read_text().splitlines()[1:]
        predictions.append({row["_id"]: row["prediction"] for row in map(json.loads, lines)})
    assert predictions[0] == predictions[1] and any(predictions[0].values())


def test_a_pad_that_the_model_does_not_know_is_not_used(tmp_path):
    save_model(tmp_path)
    tokenizer = small_tokenizer().from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer.pad_token_id >= 1281 == len(small_tokenizer())
    loaded = load_model(tmp_path, device="cpu")[1]
    assert loaded.pad_token == loaded.eos_token == "<|end|>"


def test_the_harness_pads_without_a_pad(tmp_path):
    harness = pytest.importorskip("sdtp_lib.evaluation.harness.model")
    from lm_eval.api.instance import Instance

    save_model(tmp_path / "model")
    strip_tokens(tmp_path / "model")
    given = f"pretrained={tmp_path / 'model'},pruner={save_pruner(tmp_path / 'pruner')},schedule=keep07,dtype=float32"
    prompts = ["the door of the house is red and " * count for count in (3, 5, 4)]
    found = []
    for size in (1, 3):
        lm = harness.SDTPLM.create_from_arg_string(f"{given},batch_size={size}")
        assert len(lm.tokenizer) == len(small_tokenizer())  # no token is added that the model does not know
        asked = [Instance("generate_until", {}, (text, {"until": ["zzz"], "max_gen_toks": 6}), 0) for text in prompts]
        scored = [Instance("loglikelihood", {}, (text, " yes it is"), 0) for text in prompts]
        found.append((lm.generate_until(asked), [round(value, 3) for value, _ in lm.loglikelihood(scored)]))
    assert found[0] == found[1] and all(found[0][0])
    with pytest.raises(ValueError, match="give prefix_token_id=N"):
        lm.loglikelihood([Instance("loglikelihood", {}, ("", "yes"), 0)])


def test_a_model_has_a_limit_of_positions_or_none():
    assert position_limit(MistralConfig(max_position_embeddings=77)) == 77
    assert position_limit(BloomConfig(seq_length=77)) is None


def test_attention_is_sdpa_where_it_is_right():
    chosen = {name: attention_for(tiny_model(name, None).config) for name in ("llama", "bloom", "gpt_oss", "gemma2")}
    assert chosen == {"llama": "sdpa", "bloom": "eager", "gpt_oss": "eager", "gemma2": "eager"}
    uncapped = tiny_model("gemma2", None, attn_logit_softcapping=None).config
    assert attention_for(uncapped) in ("sdpa", "eager")  # newer versions of transformers know no sdpa for it at all


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_float32_pruner_scores_hidden_states_of_any_dtype(dtype):
    model, schedule, kept = tiny_model(dtype=dtype), schedule_of(), {}
    ids = torch.randint(2, 97, (1, 40), generator=torch.Generator().manual_seed(2))
    for network in (model, tiny_model()):
        with TokenPruning(schedule, tiny_pruner(schedule.layers))(network) as trace:
            network.generate(ids, max_new_tokens=2, do_sample=False)
        kept[network.dtype] = [trace.kept_positions[layer].tolist() for layer in schedule.layers]
    if dtype == torch.float64:
        assert kept[dtype] == kept[torch.float32]
    assert [len(columns[0]) for columns in kept[dtype]] == [len(columns[0]) for columns in kept[torch.float32]]
