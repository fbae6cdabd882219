"""Tiny models and pruners in folders of their own, as the commands take them."""

import json

import torch
from helpers import HIDDEN, tiny_model
from small_records import small_tokenizer

from sdtp_lib.cli import main
from sdtp_lib.models.identity import fingerprint
from sdtp_lib.scorers.token_pruner import TokenPruner

LAYERS = 6


def save_model(folder, family="llama", dtype=torch.float32, seed=0, tokenizer=True, **changes):
    """A tiny model of the family with a tokenizer of the demo's corpus; returns the model."""
    changes = {"vocab_size": len(small_tokenizer()), "max_position_embeddings": 512, **changes}
    model = tiny_model(family, None, LAYERS, seed, dtype, **changes)
    model.save_pretrained(folder)
    if tokenizer:
        small_tokenizer().save_pretrained(folder)
    return model


def save_pruner(folder, model=None, name="its model", seed=1):
    """A random pruner of every layer but the first; without a model its record does not say whose it is."""
    torch.manual_seed(seed)
    record = {} if model is None else {"model": name, "fingerprint": fingerprint(model)}
    TokenPruner(HIDDEN, tuple(range(1, LAYERS)), record).save_pretrained(folder)
    return folder


def write_pairs(path, count=10):
    """Prompts with answers, in Dolly's JSONL."""
    rows = [
        {"instruction": f"What is in box {i} ?", "context": f"the box {i} holds a key . " * 6, "response": "a key"}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(capsys, *arguments):
    """`sdtp` in this process: (exit status, what it said on stderr but for the library's own bars and reports)."""
    capsys.readouterr()
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as left:  # the parser's own refusals
        status = left.code
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("sdtp", "Traceback"))]
    return status, said
