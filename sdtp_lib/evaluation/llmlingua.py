"""LLMLingua-2 (arXiv 2403.12968): a small classifier drops words from the context's text before the model sees it.

Written for this project on `AutoModelForTokenClassification`: the published package downloads files when it starts and
takes models by name alone. What is the same: the probability of the class "keep" per token, its mean over the tokens of
a word, and a threshold chosen so that the wanted share of tokens is kept. What is not: words are runs of letters and
digits, or single marks, whatever the tokenizer; the words that stay keep the white space before them; of equally
probable words the later ones stay, so that the share is met in any case.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from time import perf_counter

import torch
from torch import nn
from tqdm import tqdm
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..models.model_files import position_limit
from ..models.placement import pick_device
from ..pruning.schedule import PruningSchedule

Shorten = Callable[[Sequence[dict]], tuple[list[dict], float]]
ROW = "llmlingua2"  # of Table 1

UNLIMITED = 32768  # tokens of the prompt that the rate is read at where a model has no limit
KEEP = 1  # the class of LLMLingua-2's checkpoints that keeps a token
WORDS = re.compile(r"\n|[^\S\n]*(?:\w+|[^\w\s])|[^\S\n]+")
SENTENCE_ENDS = ".?!\n"
MAX_TOKENS = 512  # of the encoders that LLMLingua-2 is trained on


@dataclass(frozen=True)
class Compressor:
    """A token classifier that compresses texts.

    Args:
        model: two classes, the second of which keeps a token.
        tokenizer: its own, a fast one: it must tell which characters a token stands for.
        forced: words that always stay, such as a line end or a question mark.
        max_tokens: tokens the classifier reads at a time, special ones included.
        batch_size: such chunks at a time.

    Raises:
        ValueError: if model or tokenizer are of another kind.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    forced: tuple[str, ...] = ("\n",)
    max_tokens: int = MAX_TOKENS
    batch_size: int = 16

    def __post_init__(self):
        if self.model.config.num_labels != 2:
            raise ValueError(f"LLMLingua-2 needs two classes, this model has {self.model.config.num_labels}")
        if not self.tokenizer.is_fast:
            raise ValueError("LLMLingua-2 needs a fast tokenizer, which tells the characters of each token")

    @classmethod
    def load(
        cls,
        name: str | os.PathLike,
        revision: str | None = None,
        device: str | torch.device | None = None,
        **options,
    ) -> Compressor:
        """From a local folder or the Hub (microsoft/llmlingua-2-xlm-roberta-large-meetingbank); safetensors only.

        Args:
            revision: commit on the Hub.
            device: see `models.placement.pick_device`.
            options: fields of this class.

        Raises:
            FileNotFoundError: if there is no such model, or none with safetensors weights.
            ValueError: if the weights are not those of a classifier of two classes.
        """
        if os.path.isdir(name) and not Path(name, "config.json").is_file():
            raise FileNotFoundError(f"no LLMLingua-2 model {name}: the folder has no config.json")
        where = {"revision": revision, "trust_remote_code": False, "local_files_only": os.path.isdir(name)}
        try:
            model, info = AutoModelForTokenClassification.from_pretrained(
                os.fspath(name), use_safetensors=True, output_loading_info=True, **where
            )
            tokenizer = AutoTokenizer.from_pretrained(os.fspath(name), **where)
        except OSError as error:
            raise FileNotFoundError(f"no LLMLingua-2 model {name}: {str(error).splitlines()[0]}") from None
        if info["missing_keys"]:  # transformers would fill them with random numbers and go on
            raise ValueError(f"weights of {name} lack {sorted(info['missing_keys'])[0]}")
        return cls(model.to(pick_device(device)).eval().requires_grad_(False), tokenizer, **options)

    def compress(self, text: str, rate: float) -> str:
        """The words of `text` that are most worth keeping, about `rate` of its tokens as the classifier counts them.

        Forced words stay even if they alone are more than that, and at least one word that is no line end stays.

        Raises:
            ValueError: for a rate outside (0, 1].
        """
        if not 0 < rate <= 1:
            raise ValueError(f"rate must be in (0, 1], got {rate}")
        words = WORDS.findall(text)
        sizes, probabilities = self._probabilities(words)
        budget = rate * sum(sizes)
        forced = [word.strip(" \t") in self.forced for word in words]
        order = sorted(range(len(words)), key=lambda i: (forced[i], probabilities[i], i), reverse=True)
        kept: set[int] = set()
        says_something = False
        for i in order:
            budget -= sizes[i]
            if budget < 0 and says_something and not forced[i]:
                break
            kept.add(i)
            says_something |= bool(words[i].strip())
        return "".join(words[i] for i in sorted(kept))

    def _probabilities(self, words: Sequence[str]) -> tuple[list[int], list[float]]:
        """Tokens of each word, and the mean over them of the probability that they are kept (0 without tokens)."""
        encoded = self.tokenizer(
            "".join(words), add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        ends = list(accumulate(map(len, words)))
        owners = [bisect_right(ends, max(start, stop - 1)) for start, stop in encoded["offset_mapping"]]
        sizes, sums, done = [0] * len(words), [0.0] * len(words), 0
        pieces = self._pieces(words, encoded["input_ids"], owners)
        while group := list(islice(pieces, self.batch_size)):
            for value in self._classify(group):
                sizes[owners[done]] += 1
                sums[owners[done]] += value
                done += 1
        return sizes, [total / size if size else 0.0 for total, size in zip(sums, sizes, strict=True)]

    def _pieces(self, words: Sequence[str], ids: Sequence[int], owners: Sequence[int]) -> Iterator[Sequence[int]]:
        """Token ids in pieces that fit the classifier: up to the end of a sentence, else of a word, else as they fit.

        Args:
            owners: for each of the `ids` the place of its word among `words`.
        """
        room, start = self.max_tokens - 2, 0
        while start < len(ids):
            stop = min(start + room, len(ids))
            if stop < len(ids):
                whole = [i for i in range(start + 1, stop + 1) if owners[i] != owners[i - 1]]
                sentences = [i for i in whole if any(mark in SENTENCE_ENDS for mark in words[owners[i] - 1])]
                stop = max(sentences or whole or [stop])
            yield ids[start:stop]
            start = stop

    @torch.inference_mode()
    def _classify(self, pieces: Sequence[Sequence[int]]) -> list[float]:
        """The probability that a token is kept, for every token of the pieces in order."""
        first, last, pad = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.pad_token_id or 0
        rows = [torch.tensor([first, *piece, last]) for piece in pieces]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).to(self.model.device)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(ids.device)
        kept = self.model(input_ids=ids, attention_mask=mask).logits.float().softmax(dim=-1)[..., KEEP].cpu()
        return [value for row, piece in zip(kept, pieces, strict=True) for value in row[1 : len(piece) + 1].tolist()]


def compress_records(records: Sequence[dict], compressor: Compressor, rate: float) -> tuple[list[dict], float]:
    """LongBench records with compressed contexts, all else as it was, and the seconds that took.

    The seconds come on top of the model's own time to its first token.

    Args:
        rate: share of each context's tokens to keep, in (0, 1]; 1 / compression of a schedule for its budget.

    Raises:
        ValueError: for a rate outside (0, 1].
    """
    start = perf_counter()  # every probability is read on the CPU, so no work is left on a GPU when a record is done
    bar = tqdm(records, desc="LLMLingua-2", unit="record", disable=len(records) == 1 or None)
    compressed = [{**record, "context": compressor.compress(record["context"], rate)} for record in bar]
    return compressed, perf_counter() - start


def at_budget(
    name: str | os.PathLike | None, model: PreTrainedModel, revision: str | None = None
) -> dict[str, Shorten]:
    """LLMLingua-2 as `compare` and `speed` take a method that shortens records: `compress_records` at one rate.

    The rate is 1 / compression of the `paper` schedule for a prompt that fills the model's positions, or of UNLIMITED
    tokens: as many tokens of each context go through all layers as the schedule leaves on the mean over layers. What is
    not context stays whole.

    Args:
        name: of the classifier, see `Compressor.load`; without one there is no such method.
        model: the one that reads the shortened prompts; the classifier goes to its device.

    Raises:
        FileNotFoundError, ValueError: as `Compressor.load`.
    """
    if name is None:
        return {}
    layers = model.config.num_hidden_layers
    paper = PruningSchedule.preset("paper", layers)
    rate = 1 / paper.compression(position_limit(model.config) or UNLIMITED, layers)
    compressor = Compressor.load(name, revision, model.device)
    return {ROW: partial(compress_records, compressor=compressor, rate=rate)}
