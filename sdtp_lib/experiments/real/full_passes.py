"""One full pass of a real model over each of some prompts, kept on disk: what scores are tried on without generating.

A record's evidence, the sentence that the answer can be read from, lies beside it for those who judge; no scorer sees
it.
"""

from __future__ import annotations

import argparse
import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...data.chat import prompt_text
from ...data.real.build import real_records
from ...data.real.passages import Passage, pieces, read_passages
from ...evaluation.answers import encode_record, in_chat
from ...evaluation.prompts import encode_answer
from ...pruning.families import ModelAdapter
from ...pruning.scoring import ScoringContext
from ...results import write_bytes
from ...training.saliency import token_saliency

TASKS = ("needle", "documents_qa")  # that are tuned on
SEED = 19  # of records to tune on; those that evaluate have `data.real.build.SEED`


@dataclass(frozen=True)
class FullPass:
    """What one prompt leaves at the inputs of some layers, and what is known about it.

    Attributes:
        layers: 0-based.
        hidden: (layers, tokens, hidden) float32.
        saliency: (layers, tokens) float32, of the right answer (Eq. 3).
        evidence, question: (tokens,) bool.
        sentence: (tokens,) number of the sentence that a token begins in.
    """

    layers: tuple[int, ...]
    hidden: Tensor
    saliency: Tensor
    evidence: Tensor
    question: Tensor
    sentence: Tensor

    def at(self, model: PreTrainedModel, layer: int) -> tuple[Tensor, ScoringContext]:
        """Hidden states (1, tokens, hidden) and context as a cut at `layer` hands them to a scorer."""
        adapter, hidden = ModelAdapter.of(model), self.hidden[self.layers.index(layer)][None].to(model.device)
        columns = torch.arange(hidden.shape[1], device=hidden.device)[None]
        embeddings = adapter.positions(layer, hidden, columns)
        mask = torch.ones_like(columns, dtype=torch.bool)
        return hidden, ScoringContext(adapter.layers[layer], mask, columns, embeddings, 0, columns=columns)


def study_parser(description: str, stem: str, limit: int) -> argparse.ArgumentParser:
    """What a study on tuning records takes on its command line.

    Args:
        stem: of the two files that it writes.
        limit: records of each task by default.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("output", help=f"folder that gets {stem}.json and {stem}.md")
    parser.add_argument("--model", required=True, help="folder or name")
    parser.add_argument("--profile", required=True, help="that the results belong to")
    parser.add_argument("--work", required=True, help="folder of unfinished work, which a second run goes on with")
    parser.add_argument("--source", default="squad", help="squad, or a folder of paragraphs with questions")
    parser.add_argument("--tokens", type=int, default=1024, help="of a prompt")
    parser.add_argument("--limit", type=int, default=limit, help="records of each task")
    return parser


def tuning_records(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str, source: str | os.PathLike, tokens: int,
    limit: int, seed: int = SEED,
) -> list[dict]:  # fmt: skip
    """Records of one task as `real_records`, of articles that evaluate nothing.

    Raises:
        ValueError, FileNotFoundError: as `read_passages` and `real_records`.
    """

    def length_of(record: dict) -> int:
        return len(encode_record(model, tokenizer, record)[1])

    return real_records(task, read_passages(source, training=True), tokens, length_of, limit, seed)


def full_pass(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    record: dict,
    layers: Sequence[int],
    folder: str | os.PathLike,
) -> FullPass:
    """The pass over one record, from `<_id>.safetensors` in `folder`, or made now and written there.

    Args:
        layers: 0-based; a file with others, or of another prompt or answer, is made anew.
        folder: of this model's passes alone.
    """
    path, chat = Path(folder) / f"{record['_id']}.safetensors", in_chat(tokenizer, record)
    text, ids, _ = encode_record(model, tokenizer, record)
    answer = encode_answer(tokenizer, record, text, chat)
    asked = {"layers": torch.tensor(layers), "ids": torch.tensor([*ids, *answer])}
    known = load_file(path) if path.exists() else {}
    if any(name not in known or not torch.equal(known[name], each) for name, each in asked.items()):
        known = {**asked, **_run(model, ids, answer, layers), **places(tokenizer, record, text, chat)}
        write_bytes(path, save(known))
    return FullPass(tuple(layers), **{name: each for name, each in known.items() if name not in asked})


def _run(model, ids: Sequence[int], answer: Sequence[int], layers: Sequence[int]) -> dict[str, Tensor]:
    adapter, hidden = ModelAdapter.of(model), {}

    def capture(layer: int, module, args: tuple) -> None:
        hidden[layer] = args[0].detach()[0, : len(ids)].cpu()

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(adapter.layers[layer].register_forward_pre_hook(partial(capture, layer)).remove)
        whole = torch.tensor([[*ids, *answer]], device=model.device)
        asked = torch.arange(whole.shape[1], device=model.device)[None] >= len(ids)
        saliency = token_saliency(model, whole, torch.ones_like(whole), asked, layers)[0, :, : len(ids)]
    return {
        "hidden": torch.stack([hidden[layer] for layer in layers]).float(), "saliency": saliency.cpu().contiguous(),
    }  # fmt: skip


def places(tokenizer: PreTrainedTokenizerBase, record: dict, text: str, chat: bool) -> dict[str, Tensor]:
    """Which tokens of a prompt are evidence and question, (tokens,) bool, and which sentence each begins in.

    Args:
        text: of the prompt, outside of the chat template that `chat` puts it into.
    """
    read = prompt_text(tokenizer, text, chat)
    spans = tokenizer(read, add_special_tokens=not chat, return_offsets_mapping=True)["offset_mapping"]
    context, asked = read.index(record["context"]), read.rindex(record["input"])
    ends = [*accumulate(map(len, pieces([Passage("", read)])))]

    def inside(start: int, end: int) -> Tensor:
        return torch.tensor([first < end and last > start for first, last in spans])

    return {
        "evidence": inside(*(context + place for place in record["evidence"])),
        "question": inside(asked, asked + len(record["input"])),
        "sentence": torch.tensor([bisect_right(ends, (first + last) // 2) for first, last in spans]),
    }
