"""What a pass enters into the trace and the prune log: its prompt, or that the prompt went on uncut."""

from __future__ import annotations

from .decoder_pass import ForwardPass
from .families import ModelAdapter
from .settings import PruningSettings
from .trace import Prefill, PruningTrace, append_log


def enter(trace: PruningTrace, forward: ForwardPass, adapter: ModelAdapter, settings: PruningSettings) -> None:
    """Enter a pass that has ended; a decode step leaves nothing."""
    earlier = forward.conversation.prefill
    if forward.prunes or (forward.tokens > 1 and earlier is None):  # never silently off
        kept = {stage.layer: stage.kept for stage in forward.stages}
        lengths, sizes = adapter.cache_lengths(forward.cache), adapter.cache_bytes(forward.cache)
        found = Prefill(forward.tokens, kept, lengths, sizes, _reason(forward, settings))
        found.never_cut = forward.named.columns
        trace.prefills.append(found)
        forward.conversation.prefill = found
        if settings.log is not None:
            append_log(settings.log, forward.stages)
    elif forward.tokens > 1:
        earlier.uncut += forward.tokens


def _reason(forward: ForwardPass, settings: PruningSettings) -> str | None:
    """Why this prompt lost nothing, or None if it did."""
    if not forward.prunes:
        return "the cache was not empty, and prune='first'"
    if any(kept < present for stage in forward.stages for present, _, kept, *_ in stage.counts):
        return None
    if not settings.schedule.layers:
        return "the schedule has no stages"
    if max(forward.prompt) < settings.min_prompt_tokens:
        return f"prompt shorter than min_prompt_tokens={settings.min_prompt_tokens}"
    if set(settings.schedule.ratios) == {1.0}:
        return "keep_ratio is 1"
    why = "prompt too short" if forward.named.mask is None else "keep names too much, or the prompt is too short"
    return f"{why}: all of its tokens are forced to stay"
