"""One timed generation: a prompt's prefill and a greedy decode on the cache it left."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..models.placement import gpus_of
from ..pruning.versions import with_cache


@dataclass(frozen=True)
class Run:
    """What one generation took.

    Attributes:
        prompt_tokens: tokens of the prompt.
        prefill, decode, total: seconds, each between its own two readings of the clock; the total runs from the prompt
            to the last new token without a halt. Decode and total are None if nothing was decoded.
        kv_lengths: keys per layer, and `kv_bytes` of keys and values of `kv_dtype`, read from the cache right after the
            prefill.
        new_tokens: (batch, new) token ids.
        peak_bytes: most memory allocated during the run, of several GPUs their sum; None on a CPU, where only the
            process has a peak.
    """

    prompt_tokens: int
    prefill: float
    decode: float | None
    total: float | None
    kv_lengths: list[int]
    kv_bytes: int
    kv_dtype: torch.dtype
    new_tokens: Tensor
    peak_bytes: int | None


class Clock:
    """Readings of the device's own time: CUDA events on a GPU, which never halt it, `perf_counter` on a CPU."""

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    def read(self) -> float | torch.cuda.Event:
        """A reading for `seconds`."""
        if self.stream is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self.stream)
        return event

    def seconds(self, start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
        """Seconds between two readings; waits for a GPU to reach the second."""
        if self.stream is None:
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000


@torch.no_grad()
def timed_run(model: PreTrainedModel, input_ids: Tensor, new_tokens: int) -> Run:
    """Prefill `input_ids` (batch, tokens), then decode greedily until there are exactly `new_tokens` new tokens.

    The first new token comes from the prefill's last-token logits, so `new_tokens - 1` steps follow; an end-of-sequence
    token does not stop them. Enter a `TokenPruning` context around the call to time the pruned model.
    """
    cache, clock, gpus = DynamicCache(config=model.config), Clock(model.device), gpus_of(model)

    def next_token(ids: Tensor) -> Tensor:
        output = model(input_ids=ids, use_cache=True, **with_cache(model, cache), logits_to_keep=1)
        return output.logits[:, -1].argmax(dim=-1, keepdim=True)

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()  # of processes that share a model none shall wait for another inside the time
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
        torch.cuda.synchronize(gpu)
    start = clock.read()
    tokens = [next_token(input_ids)]
    prefilled = clock.read()
    kv_lengths = [layer.keys.shape[-2] for layer in cache.layers]
    kv_bytes = sum(part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values))
    decoding = clock.read()
    for _ in range(new_tokens - 1):
        tokens.append(next_token(tokens[-1]))
    end = clock.read()
    decoded = new_tokens > 1
    return Run(
        prompt_tokens=input_ids.shape[1],
        prefill=clock.seconds(start, prefilled),
        decode=clock.seconds(decoding, end) if decoded else None,
        total=clock.seconds(start, end) if decoded else None,
        kv_lengths=kv_lengths,
        kv_bytes=kv_bytes,
        kv_dtype=cache.layers[0].keys.dtype,
        new_tokens=torch.cat(tokens, dim=1),
        peak_bytes=sum(map(torch.cuda.max_memory_allocated, gpus)) if gpus else None,
    )
