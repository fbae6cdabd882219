"""A pruned cache that something else compresses further: the reference for it, and the two checks against it."""

from __future__ import annotations

from copy import deepcopy

import torch
from helpers import VOCABULARY, Reference, close, generate, random_prompts


class CompressedReference(Reference):
    """Like `Reference`; what follows the prompt does not see the keys that a press dropped from the cache either.

    `choose(layer, keys, attention)` gets the keys (1, key heads, kept, head size) of the tokens that the layer holds
    and their attention among each other (1, heads, kept, kept), both from the full model, and answers which of them
    stay: places (key heads, n), or None for a layer that is left alone. The model must be eager to show its attention.
    """

    def __init__(self, model, schedule, scorer, choose, positions="original"):
        super().__init__(model, schedule, scorer, positions)
        self.stock, self.model, self.choose = model, self.observe, choose
        self.dropped, self.observed = {}, None  # layer -> (heads, prompt) bool; what the model gave last

    def observe(self, input_ids, use_cache):
        self.observed = self.stock(input_ids=input_ids, use_cache=True, output_attentions=True)
        return self.observed

    def mask(self, layer, here, dtype):
        """(1, heads, tokens, tokens): each head drops keys of its own."""
        mask, dropped = super().mask(layer, here, dtype), self.dropped.get(layer)
        if dropped is None:
            return mask
        heads, prompt = dropped.shape
        mask = mask.repeat(1, heads, 1, 1)
        mask[0, :, prompt:, :prompt].masked_fill_(dropped[:, None], torch.finfo(dtype).min)
        return mask

    def run(self, ids, prompt):
        """One pass over the prompt, for the press to choose, and one over everything."""
        self.dropped = {}
        _, kept = super().run(ids[:prompt], prompt)
        dropped = {}
        for layer, attention in enumerate(self.observed.attentions):
            columns = kept[max(stage for stage in kept if stage <= layer)] if layer >= min(kept) else range(prompt)
            columns = torch.tensor(columns)
            keys = self.observed.past_key_values.layers[layer].keys
            keys = keys[:, :, columns] if keys.shape[2] == prompt else None  # a window caches the last ones alone
            staying = self.choose(layer, keys, attention[:, :, columns][..., columns])
            if staying is not None:
                gone = torch.ones(len(staying), prompt, dtype=torch.bool).scatter(1, columns[staying], False)
                dropped[layer] = gone.repeat_interleave(attention.shape[1] // len(staying), dim=0)
        self.dropped = dropped
        return super().run(ids, prompt)


def check_generation(model, pruning, press, reference, prompt=40, steps=9):
    """The prefill and every decode step of a pruned and compressed prompt; `press` is a context. Returns the trace."""
    ids, mask = random_prompts([prompt])
    with pruning(model) as trace, press:
        new, logits = generate(model, ids, mask, steps)
    sequence = torch.cat([ids[0], new[0]])
    expected, kept = reference.run(sequence, prompt)
    assert {layer: columns[0].tolist() for layer, columns in trace.kept_positions.items()} == kept
    assert close(logits[0], expected[prompt - 1 : -1])
    uncompressed, _ = Reference(reference.stock, reference.schedule, reference.scorer, reference.positions).run(
        sequence, prompt
    )
    assert not torch.allclose(uncompressed[prompt:], expected[prompt:], rtol=0, atol=0.1)  # compression matters
    return trace


def check_later_input(model, pruning, press, reference, pieces, prompt=40):
    """Later input of `pieces` tokens each, without position ids; returns the trace and the cache before and after."""
    ids, more = random_prompts([prompt])[0], random_prompts([sum(pieces)], seed=5)[0]
    logits = []
    with pruning(model) as trace, press, torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        before = deepcopy(past)
        for piece in more.split(pieces, dim=1):
            other, branch = piece.clone(), deepcopy(past)
            other[0, -1] = (piece[0, -1] + 1) % VOCABULARY
            logits.append(model(piece, past_key_values=past).logits[0])
            changed = model(other, past_key_values=branch).logits[0]
            assert torch.equal(changed[:-1], logits[-1][:-1]), "a token sees the one after it"
            assert not torch.equal(changed[-1], logits[-1][-1])
    expected, _ = reference.run(torch.cat([ids[0], more[0]]), prompt)
    assert close(torch.cat(logits), expected[prompt:])
    return trace, before, past


def held(cache):
    """Keys in each layer's cache."""
    return [layer.keys.shape[2] for layer in cache.layers]
