"""Stage 1 of the paper: how much every prompt token matters at a layer, as |gradient . hidden state| (Eq. 3)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.chat import template_digest, uses_template
from ..data.pairs import CORPORA, training_pairs
from ..data.samples import Batch, Sample, encode_pairs
from ..models.dtypes import dtype_name
from ..models.identity import fingerprint
from ..models.loading import SHAPES, check_reads_text, load_model
from ..models.names import label, local_path
from ..models.workers import Workers
from ..paper import SALIENT_THRESHOLD
from ..pruning.families import ModelAdapter
from ..pruning.schedule import PruningSchedule
from ..results import check_output
from ..scorers.token_pruner import check_seed
from ..text_files import check_apart
from .batch_forward import target_logits
from .marks import MANIFEST_FILE, Marks, MarksWriter, load_marks

TARGETS = ("answer", "all")
NUM_SAMPLES = 1000
SHARD_SIZE = 64


def token_saliency(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    answer_mask: Tensor,
    layers: Sequence[int],
    target: str = "answer",
) -> Tensor:
    """|gradient . hidden state| of every token at the inputs of `layers`, from one forward and backward pass (Eq. 3).

    Args:
        model: a frozen causal language model.
        input_ids: (batch, tokens), left-padded.
        attention_mask: (batch, tokens), 0 on pads.
        answer_mask: (batch, tokens), 1 on the answer at the end of every row; only `target="answer"` reads it.
        layers: 0-based decoder layers, in any order.
        target: the output whose gradient is taken: "answer" for the log-likelihood of a row's answer tokens, "all" for
            that of all its tokens but the first.

    Returns:
        (batch, layers, tokens) float32, 0 on pads and on tokens that the target does not depend on.

    Raises:
        ValueError: for an unknown target, a layer that the model does not have, or an empty answer.
    """
    adapter = ModelAdapter.of(model)
    check_layers(layers, len(adapter.layers))
    if target not in TARGETS:
        raise ValueError(f"unknown saliency target {target!r}; known: {', '.join(TARGETS)}")
    real = attention_mask.bool()
    predicted = real & (real.cumsum(1) > 1)  # nothing comes before the first token to predict it from
    wanted = predicted & answer_mask.bool() if target == "answer" else predicted
    if not wanted.any(dim=1).all():
        raise ValueError("a sample has no tokens whose likelihood the saliency could explain")
    inputs: dict[int, Tensor] = {}

    def capture(layer: int, module: nn.Module, args: tuple) -> tuple:
        hidden = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
        inputs[layer] = hidden
        return (hidden, *args[1:])

    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        for layer in layers:
            stack.callback(adapter.layers[layer].register_forward_pre_hook(partial(capture, layer)).remove)
        logits, labels, counted = target_logits(model, input_ids, real, wanted)
        likelihood = -nn.functional.cross_entropy(logits[counted].float(), labels[counted], reduction="sum")
    hidden = [inputs[layer] for layer in layers]
    gradients = torch.autograd.grad(likelihood, hidden)
    products = [(g.float() * h.detach().float()).sum(-1).abs() for g, h in zip(gradients, hidden, strict=True)]
    return torch.stack(products, dim=1).masked_fill(~real[:, None], 0.0)


def check_layers(layers: Sequence[int], num_layers: int) -> None:
    """Raise ValueError unless `layers` are different layers of a model of `num_layers`, at least one."""
    wrong = [layer for layer in layers if not 0 <= layer < num_layers]
    if wrong or not layers or len(set(layers)) < len(layers):
        problem = f"no layer {wrong[0]}" if wrong else "no empty or repeated layers to mark"
        raise ValueError(f"{problem}: the model has layers 0 to {num_layers - 1}, got {list(layers)}")


def salient_share(saliency: Tensor) -> Tensor:
    """Share of tokens above SALIENT_THRESHOLD of their layer's maximum (Fig. 2).

    Args:
        saliency: (layers, tokens) of one prompt, without pads.

    Returns:
        (layers,) shares from 0 to 1.

    Raises:
        ValueError: for a prompt without tokens.
    """
    if saliency.shape[-1] == 0:
        raise ValueError("saliency of no tokens has no salient share")
    return (saliency > SALIENT_THRESHOLD * saliency.amax(-1, keepdim=True)).float().mean(-1)


def mark(
    model: str | os.PathLike = "demo",
    data: str | os.PathLike = "demo",
    num_samples: int | None = None,
    *,
    output: str | os.PathLike,
    target: str = "answer",
    seed: int = 0,
    max_tokens: int | None = 2048,
    schedule: str = "paper",
    layers: Sequence[int] | str | None = None,
    batch_size: int = 4,
    chat_template: bool | None = None,
    dtype: str = "float32",
    device: str | None = None,
    revision: str | None = None,
) -> Marks:
    """Mark prompts and write them to the folder `output`; run again, it goes on where it was interrupted.

    Under `accelerate launch` or torchrun the processes share the shards, to the very same marks; all must see `output`.

    Args:
        model: see `models.load_model`; `dtype`, `device` and `revision` go there.
        data: "demo", "demo-dense", "dolly", a Hub name, or a file or folder with JSONL, see `data.pairs.read_pairs`.
        num_samples: prompts to mark; None for all that fit of a file or folder, NUM_SAMPLES of any other data.
        output: folder of the marks; may hold unfinished marks of the very same settings.
        target: see `token_saliency`.
        seed: which documents ("demo") or in which order they are taken (others).
        max_tokens: longer samples are passed over; None for no limit.
        schedule: preset whose stages' layers are marked, unless
        layers: names them, or is "all".
        batch_size: prompts in one pass.
        chat_template: whether prompts go into the model's chat template, see `encode_pairs`; None: if it has one.

    Raises:
        ValueError, FileNotFoundError: for an unknown name, a number out of range, bad records, chats without a template
            for them, an output that is the
            data or the model, or a folder of other marks, before anything is written; for saliency that is not finite,
            naming the sample.
        OSError: for an output that cannot be written, before a model is loaded.
    """
    if num_samples is None and not os.path.exists(data):
        num_samples = NUM_SAMPLES
    counts = {"num_samples": 1 if num_samples is None else num_samples, "batch_size": batch_size}
    for name, value in {**counts, "max_tokens": max_tokens or 1}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more, got {value}")
    check_seed(seed)
    if target not in TARGETS:
        raise ValueError(f"unknown saliency target {target!r}; known: {', '.join(TARGETS)}")
    check_apart(output, None if data in CORPORA else data, None if model in SHAPES else local_path(model))
    check_output(output, folder=True)
    check_output(Path(output) / MANIFEST_FILE)
    check_reads_text(model, "there is nothing to mark")
    workers, pairs = Workers.of_launch(device), training_pairs(data, num_samples, seed)
    network, tokenizer = load_model(model, dtype=dtype, device=workers.device(device), revision=revision)
    if tokenizer is None:
        raise ValueError(f"model {network.name_or_path!r} has no tokenizer, so there is nothing to mark")
    depth = len(ModelAdapter.of(network).layers)
    if layers is None:
        layers = PruningSchedule.preset(schedule, depth).layers
    layers = list(range(depth) if layers == "all" else layers)
    check_layers(layers, depth)
    chat = uses_template(tokenizer, chat_template)
    samples = encode_pairs(pairs, tokenizer, max_tokens, num_samples, chat, warn=True)
    settings = {
        "model": label(network.name_or_path), "fingerprint": fingerprint(network), "dtype": dtype_name(network),
        "tokenizer": tokenizer_digest(tokenizer), "data": label(data), "num_samples": len(samples), "seed": seed,
        "max_tokens": max_tokens, "layers": layers, "target": target, "batch_size": batch_size,
        "chat_template": template_digest(tokenizer, chat),
        "versions": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
    }  # fmt: skip
    make = partial(MarksWriter, output, settings, samples, SHARD_SIZE)
    writer = make() if workers.main else None
    workers.wait()  # the main process has made the folder, for the others to find
    mark_samples(network, writer or make(), layers, target, batch_size, workers)
    return load_marks(output)


def mark_samples(
    model: PreTrainedModel, writer: MarksWriter, layers: Sequence[int], target: str, batch_size: int,
    workers: Workers | None = None,
) -> None:  # fmt: skip
    """Write every shard that `writer` misses. Workers take one each, then one of them enters all in the manifest."""
    workers, missing = workers or Workers(), writer.missing()
    rounds = [list(missing)[start : start + workers.count] for start in range(0, len(missing), workers.count)]
    with workers.bar(total=sum(map(len, missing.values())), desc="mark", unit="prompt") as bar:
        for names in rounds:
            for name in (own := workers.share(names)):
                found: dict[str, Tensor] = {}
                by_length = sorted(missing[name], key=lambda sample: len(sample.input_ids))
                for start in range(0, len(by_length), batch_size):
                    group = by_length[start : start + batch_size]
                    found.update(_saliency_of(model, group, layers, target))
                    bar.update(len(group))
                writer.write(name, [found[sample.id] for sample in missing[name]])
            shards = workers.gather([(name, writer.manifest["shards"][name]) for name in own])
            workers.on_main(partial(writer.enter, dict(shards)))
            bar.update(sum(len(missing[name]) for name in names if name not in own))


def _saliency_of(
    model: PreTrainedModel, samples: Sequence[Sample], layers: Sequence[int], target: str
) -> dict[str, Tensor]:
    """Sample id -> saliency (layers, prompt_tokens) of a few samples, in one batch."""
    batch = Batch.of(samples, device=model.device)
    values = token_saliency(model, batch.input_ids, batch.attention_mask, batch.answer_mask, layers, target)
    rows = zip(samples, values, batch.prompt_mask, strict=True)
    found = {sample.id: row[:, prompt].cpu() for sample, row, prompt in rows}
    broken = [id for id, value in found.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"saliency of sample {broken[0]} is NaN or infinite")
    return found


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Tells tokenizers apart: a hash over the vocabulary."""
    return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()[:16]
