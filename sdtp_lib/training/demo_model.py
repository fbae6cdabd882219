"""Train the demo model from nothing: `python -m sdtp_lib.training.demo_model --output FOLDER` (resumes by itself).

A 14-layer Qwen2 of width 128. Its six lowest layers see 8 tokens back only, so an answer can be looked up no earlier
than layer 6, when the pruning schedules, which begin at layer 4, have cut twice and cut again. Copying, key-value
recall and documents are mixed from the start, short first; every kind's answer tokens are averaged by themselves, so
that no kind drowns another.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from ..data.demo.corpus import BUILDERS, TASKS
from ..data.demo.dense import DENSE_BUILDERS, DENSE_TASKS
from ..models.checkpoints import load_checkpoint, save_checkpoint
from ..paths import DEMO_CHECKPOINT

END, PAD = "<|end|>", "<|pad|>"
LOCAL_LAYERS, LAYERS, WINDOW = 6, 14, 8
LENGTHS = (128, 256, 512, 1088)
UNLOCKED = (0.0, 0.35, 0.45, 0.55)  # share of the run after which a length joins in
DENSE_LENGTHS, DENSE_SHARE = (256, 512, 1088, 2208), 0.75  # of the documents
FIRST_TRAINING_SEED = 10**6
LANGUAGE_WEIGHT = 0.1  # of the plain next-token loss, beside the answers'


def build_tokenizer(documents: int = 4000) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on the corpus: any text can be encoded, corpus words are one token each."""
    rng = random.Random(0)
    texts = []
    for name in itertools.islice(itertools.cycle(BUILDERS), documents):
        doc = BUILDERS[name](rng, 256)
        texts.append(
            "".join(f"{TASKS[name].prompt(doc.context, q)}{TASKS[name].before}{a}\n" for q, a in doc.pairs[:2])
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=2048, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD, padding_side="left")


def build_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2Config:
    """Local attention below layer LOCAL_LAYERS, full attention from there on."""
    return Qwen2Config(
        vocab_size=64 * math.ceil(len(tokenizer) / 64), hidden_size=128, intermediate_size=384,
        num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=2048,
        tie_word_embeddings=True, initializer_range=0.1, use_sliding_window=True, sliding_window=WINDOW,
        layer_types=["sliding_attention"] * LOCAL_LAYERS + ["full_attention"] * (LAYERS - LOCAL_LAYERS),
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip


class Stream(IterableDataset):
    """Batches (ids, kinds), each (rows, length); kinds: 0 ignored, 1 plain text, 2 and up answers by kind."""

    def __init__(self, tokenizer, seed: int, start: int, steps: int, tokens: int, dense: bool = False):
        self.encode = lambda text: tokenizer(text)["input_ids"]
        self.end, self.vocabulary = tokenizer.eos_token_id, range(260, len(tokenizer))
        self.seed, self.start, self.steps, self.tokens = seed, start, steps, tokens
        self.dense = dense
        self.kinds = {name: 4 + i for i, name in enumerate([*TASKS, *DENSE_TASKS])}

    def __iter__(self):
        for step in range(self.start, self.steps):
            rng = random.Random(f"{self.seed}-{step}")
            progress = 1.0 if self.dense else step / self.steps  # nothing is new but the documents
            lengths = DENSE_LENGTHS if self.dense else LENGTHS
            length = lengths[rng.randrange(sum(progress >= share for share in UNLOCKED))]
            rows = [self.row(rng, length, progress) for _ in range(max(4, self.tokens // length))]
            ids = torch.full((len(rows), length), self.end)
            kinds = torch.zeros((len(rows), length), dtype=torch.long)
            for i, (row_ids, row_kinds) in enumerate(rows):
                ids[i, : len(row_ids)] = torch.tensor(row_ids[:length])
                kinds[i, : len(row_kinds)] = torch.tensor(row_kinds[:length])
            yield ids, kinds

    def row(self, rng, length, progress):
        """One training row as (ids, kinds)."""
        pick, basics = rng.random(), 0.4 * max(0.25, 1 - 2 * progress)
        if pick < basics / 2:
            return self.copying(rng, length)
        if pick < basics:
            return self.recall(rng, length)
        return self.document(rng, length, progress)

    def copying(self, rng, length):
        """A random segment repeated to the end of the row; the repeats are the answer."""
        segment = rng.choices(self.vocabulary, k=rng.randint(8, max(9, length // 3)))
        ids = (segment * math.ceil(length / len(segment)))[:length]
        return ids, [0] * len(segment) + [2] * (length - len(segment))

    def recall(self, rng, length):
        """`k v k v ... k -> v`, queries drawn with replacement."""
        pairs = [(k, rng.choice(self.vocabulary)) for k in rng.sample(self.vocabulary, rng.randint(4, length // 6))]
        asked = rng.choices(pairs, k=(length - 2 * len(pairs)) // 2)
        return [t for p in pairs + asked for t in p], [0] * (2 * len(pairs)) + [0, 3] * len(asked)

    def document(self, rng, length, progress):
        """A document and as many of its questions as fit; question wording comes in gradually."""
        if self.dense and rng.random() < DENSE_SHARE:
            name = rng.choice(list(DENSE_TASKS))
            task, ask = DENSE_TASKS[name], True
            doc = DENSE_BUILDERS[name](rng, int(length * rng.uniform(0.4, 0.9)) - 24)
        else:
            name = rng.choice(list(TASKS))
            task, ask = TASKS[name], rng.random() < min(0.9, 3 * progress)
            room = int(length * rng.uniform(0.4, 0.9)) - 24
            doc = BUILDERS[name](rng, room, rng.randint(12, 48) if length <= 256 or rng.random() < 0.3 else 48)
        ids = self.encode(doc.context)
        kinds = [1] * len(ids)
        for question, answer in rng.choices(doc.pairs, k=24):
            prompt = self.encode(task.prompt("", question, ask))
            reply, close = self.encode(f"{task.before}{answer}"), self.encode(task.after)
            if len(ids) + len(prompt) + len(reply) + len(close) + 1 > length:
                break
            ids += prompt + reply + close + [self.end]
            kinds += [0] * len(prompt) + [self.kinds[name]] * len(reply) + [1] * len(close) + [self.kinds[name]]
        return ids, kinds


def loss_of(model, ids, kinds):
    """The mean of each answer kind's own mean cross-entropy plus a share of the plain text's; accuracy by kind."""
    with torch.autocast("cpu" if ids.device.type == "cpu" else "cuda", dtype=torch.bfloat16):
        logits = model(ids[:, :-1], use_cache=False).logits
    kinds = kinds[:, 1:].flatten()
    keep = kinds > 0
    logits, labels, kinds = logits.flatten(0, 1)[keep].float(), ids[:, 1:].flatten()[keep], kinds[keep]
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    hit = (logits.argmax(-1) == labels).float()
    present = [k for k in kinds.unique().tolist() if k >= 2]
    loss = torch.stack([each[kinds == k].mean() for k in present]).mean() if present else each.new_zeros(())
    if (kinds == 1).any():
        loss = loss + LANGUAGE_WEIGHT * each[kinds == 1].mean()
    return loss, {k: hit[kinds == k].mean().item() for k in present}


def optimizers_of(model, lr):
    """Muon for the matrices, AdamW for embeddings, norms and biases: look-ups appear earlier than with AdamW alone."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def learning_rate(step, steps, warmup=200, decay=0.2):
    """Warm-up, constant, linear decay to zero over the last fifth."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))


def start_model(dense):
    """(tokenizer, model) to begin with: new ones, or with `dense` the demo's own in float32, for longer prompts."""
    if not dense:
        tokenizer = build_tokenizer()
        return tokenizer, Qwen2ForCausalLM(build_config(tokenizer))
    model = Qwen2ForCausalLM.from_pretrained(DEMO_CHECKPOINT, dtype=torch.float32)
    model.config.max_position_embeddings = 4096
    return PreTrainedTokenizerFast.from_pretrained(DEMO_CHECKPOINT), model


def train(output, steps, tokens, lr, seed, device, dense=False, save_every=100):
    """Train, or go on from the state in the folder `output`; writes a log and, at the end, the checkpoint in bfloat16.

    Args:
        steps: updates in all; lengths and the learning rate follow the share of them that is done.
        tokens: of one update, at least four rows.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    tokenizer, model = start_model(dense)
    model.to(device)
    optimizers = optimizers_of(model, lr)
    base = [group["lr"] for o in optimizers for group in o.param_groups]
    state_file, log_file, start = output / "state.safetensors", output / "training_log.jsonl", 0
    if state_file.exists():
        start = load_checkpoint(state_file, model, optimizers)["step"]
    stream = Stream(tokenizer, FIRST_TRAINING_SEED + seed, start, steps, tokens, dense)
    names = {2: "copying", 3: "recall", **{k: n for n, k in stream.kinds.items()}}
    loader = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=4))
    began, losses, hits = time.time(), [], {}
    for step, (ids, kinds) in enumerate(tqdm(loader, total=steps, initial=start, mininterval=10), start):
        for group, value in zip((g for o in optimizers for g in o.param_groups), base, strict=True):
            group["lr"] = value * learning_rate(step, steps)
        loss, accuracy = loss_of(model, ids.to(device), kinds.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        losses.append(loss.item())
        for k, v in accuracy.items():
            hits.setdefault(names[k], []).append(v)
        if (step + 1) % 50 == 0:
            row = {"step": step + 1, "tokens": (step + 1) * tokens, "seconds": round(time.time() - began, 1),
                   "loss": round(sum(losses) / len(losses), 4),
                   "accuracy": {n: round(sum(v) / len(v), 4) for n, v in sorted(hits.items())}}  # fmt: skip
            with log_file.open("a") as log:
                log.write(json.dumps(row) + "\n")
            losses, hits = [], {}
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_checkpoint(state_file, model, optimizers, {"step": step + 1})
    model.to(torch.bfloat16).save_pretrained(output / "checkpoint")
    tokenizer.save_pretrained(output / "checkpoint")
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder for state, log and the finished checkpoint")
    parser.add_argument("--steps", type=int, default=4600)
    parser.add_argument("--tokens", type=int, default=2176, help="tokens per step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dense", action="store_true", help="go on from the demo model, on dense documents")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
