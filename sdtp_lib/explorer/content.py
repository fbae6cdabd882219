"""What the pruning explorer shows: one prompt under several token scores, beside the true saliency of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import chat
from ..evaluation.answers import greedy
from ..models.identity import pruner_record
from ..models.model_files import position_limit
from ..models.named_schedules import resolve_schedule
from ..models.names import label
from ..pruning.context import TokenPruning
from ..pruning.schedule import UNPRUNED, PruningSchedule
from ..pruning.scoring import Scorer, ScoringContext, must_be_shown
from ..pruning.trace import last_layers
from ..training.saliency import token_saliency

PART = "\u25ab"  # stands for a token that holds the rest of a character, after the one that shows it


@dataclass
class RecordingScorer:
    """Scores as another scorer does and remembers it.

    Attributes:
        scorer: the other one; all else is asked of it.
        seen: layer -> (columns, scores) of the first row, as lists.
    """

    scorer: Scorer
    seen: dict[int, tuple[list[int], list[float]]] = field(default_factory=dict)

    def score(self, layer: int, hidden_states: Tensor, context: ScoringContext) -> Tensor:
        """(batch, tokens, hidden) -> (batch, tokens)."""
        scores = self.scorer.score(layer, hidden_states, context)
        self.seen[layer] = context.columns[0].tolist(), scores[0].detach().float().tolist()
        return scores

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["scorer"], name)


def exploration(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, scorers: Mapping[str, Scorer],
    schedule: str | PruningSchedule, answer: str | None = None, *, saliency: bool = True, new_tokens: int = 48,
    chat_template: bool | None = None,
) -> dict:  # fmt: skip
    """One prompt, full and pruned by each of `scorers`, as plain JSON values.

    Args:
        text: the prompt.
        scorers: name -> scorer, the one of interest first.
        schedule: a preset's name or a schedule, the same for all.
        answer: whose saliency is marked; None for the full model's own greedy answer.
        saliency: whether to mark it at all: that takes a backward pass through the full model.
        new_tokens: at most so many in each generated answer.
        chat_template: whether the prompt is the user's turn in the model's chat template; None: if it has one.

    Returns:
        `model`, `schedule`, `num_layers`; `chat_template`: its short SHA-256, or None if the prompt is in none;
        `tokens`: their texts, which together are the prompt as the model reads it; `full`: `answer`, and
        per layer `kv_lengths` and `kv_bytes`; `runs`: those of each scorer with `name`, `pruner` (see
        `models.identity.pruner_record`), `reason` (why nothing was cut, or None), `last_layer` (per token the last
        0-based layer it is present at), `present` (tokens a layer), `agreement` (per layer: of the as many tokens with
        the highest saliency, the share that is present; None without saliency) and `stages`: `layer`, `sinks` and
        `local_from` (tokens before the one column and from the other on were never up for a cut there) and `scores`
        (per token; None where it had left before; None for all if nothing was cut); `saliency`: None, or `answer`,
        `given` (or the full model's own) and `values`, (layers, tokens).

    Raises:
        ValueError: for a prompt that is empty or too long for the model, an empty answer, scores or saliency that are
            not finite.
    """
    depth, schedule = model.config.num_hidden_layers, resolve_schedule(schedule, model)
    templated = chat.uses_template(tokenizer, chat_template)
    template = chat.template_digest(tokenizer, templated)
    ids, tokens = token_texts(tokenizer, chat.prompt_text(tokenizer, text, templated), not templated)
    longest = position_limit(model.config)
    if longest is not None and len(ids) + new_tokens > longest:
        raise ValueError(f"a prompt of {len(ids)} tokens and {new_tokens} new ones: the model takes {longest} in all")
    found = {"model": label(model.name_or_path), "schedule": schedule.to_dict(), "num_layers": depth}
    found |= {"chat_template": template, "tokens": tokens}
    for scorer in scorers.values():
        chat.warn_of_other_template(scorer, template)
    with tqdm(total=1 + len(scorers) + saliency, desc="full", unit="run") as bar:
        full, own = _ask(model, tokenizer, ids, TokenPruning(UNPRUNED), new_tokens)[:2]
        bar.update()
        wanted = own if answer is None else answer_ids(tokenizer, text, answer, templated)
        values = None
        if saliency and wanted:
            bar.set_description("saliency")
            values = prompt_saliency(model, ids, wanted)
        bar.update(saliency)
        runs = []
        for name, scorer in scorers.items():
            bar.set_description(name)
            if must_be_shown(scorer):
                scorer.show(model, schedule.layers, [ids], [wanted])
            run = _run(model, tokenizer, ids, TokenPruning(schedule, RecordingScorer(scorer)), new_tokens)
            named = {"name": name, "pruner": pruner_record(scorer, model)}
            runs.append({**named, **run, "agreement": _agreement(values, run["last_layer"])})
            bar.update()
    shown = tokenizer.decode(wanted, skip_special_tokens=True).strip()
    marked = None if values is None else {"answer": shown, "given": answer is not None, "values": values.tolist()}
    return {**found, "full": full, "runs": runs, "saliency": marked}


def token_texts(tokenizer: PreTrainedTokenizerBase, text: str, special: bool = True) -> tuple[list[int], list[str]]:
    """Ids of a prompt, and the characters that each stands for: together the prompt, but for special tokens' names.

    Args:
        special: whether the tokenizer adds its special tokens.

    Raises:
        ValueError: for a prompt of no tokens, or a tokenizer that cannot say which characters a token stands for.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} cannot say which characters a token stands for; use a fast one")
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    ids, named, texts, done = encoded["input_ids"], set(tokenizer.all_special_ids), [], 0
    if not ids:
        raise ValueError("an empty prompt: it has no tokens")
    for token, (_, end) in zip(ids, encoded["offset_mapping"], strict=True):
        rest = tokenizer.convert_ids_to_tokens(token) if token in named else PART
        texts.append(text[done:end] or rest)
        done = max(done, end)
    texts[-1] += text[done:]  # white space that the tokenizer passed over
    return ids, texts


def answer_ids(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str, templated: bool = False) -> list[int]:
    """An answer as the model would go on from `prompt`: after a space, unless one is there, or as its template says."""
    before = "" if prompt[-1:].isspace() or answer[:1].isspace() else " "
    ids = chat.answer_ids(tokenizer, prompt, before + answer, templated)
    if not answer.strip() or not ids:
        raise ValueError("the answer is empty")
    return ids


def prompt_saliency(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Saliency (layers, prompt tokens) at the input of every layer of the full model, float32 on the CPU.

    Raises:
        ValueError: if it is not finite.
    """
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    asked = torch.arange(ids.shape[1], device=model.device)[None] >= len(prompt)
    layers = range(model.config.num_hidden_layers)
    values = token_saliency(model, ids, torch.ones_like(ids), asked, layers)[0, :, : len(prompt)].cpu()
    if not torch.isfinite(values).all():
        raise ValueError("the saliency is NaN or infinite")
    return values


def _agreement(saliency: Tensor | None, last_layer: Sequence[int]) -> list[float] | None:
    """Per layer, of as many tokens with the highest saliency (layers, tokens) as are present, the share present."""
    if saliency is None:
        return None
    last, shares = torch.tensor(last_layer), []
    for layer, values in enumerate(saliency):
        here = last >= layer
        best = values.argsort(descending=True, stable=True)[: int(here.sum())]
        shares.append(here[best].float().mean().item())
    return shares


def _ask(model, tokenizer, ids: Sequence[int], pruning: TokenPruning, new_tokens: int) -> tuple[dict, list[int], Any]:
    """(answer and cache, the answer's ids without special ones, trace) of one greedy answer."""
    prompt = torch.tensor([ids], device=model.device)
    with pruning(model) as trace:
        out = greedy(model, tokenizer, prompt, torch.ones_like(prompt), new_tokens)[0, len(ids) :].tolist()
    text = tokenizer.decode(out, skip_special_tokens=True).strip()
    own = [token for token in out if token not in set(tokenizer.all_special_ids)]
    return {"answer": text, "kv_lengths": trace.kv_lengths, "kv_bytes": trace.kv_bytes}, own, trace


def _run(model, tokenizer, ids: Sequence[int], pruning: TokenPruning, new_tokens: int) -> dict:
    """What `exploration` says of one run, but for its name and what needs the saliency."""
    found, _, trace = _ask(model, tokenizer, ids, pruning, new_tokens)
    tokens, depth, seen = len(ids), model.config.num_hidden_layers, pruning.scorer.seen
    last, before, stages = last_layers(trace.kept_positions, tokens, depth), list(range(tokens)), []
    for layer, kept in trace.kept_positions.items():
        sinks, local = pruning.schedule.forced(len(before))
        columns, scores = seen.get(layer, ([], []))
        by_column = dict(zip(columns, scores, strict=True))
        ends = {"sinks": sinks, "local_from": before[len(before) - local]}
        stages.append({"layer": layer, **ends, "scores": [by_column.get(column) for column in range(tokens)]})
        before = kept[0].tolist()
    present = [sum(at >= layer for at in last) for layer in range(depth)]
    return {**found, "reason": trace.reason, "last_layer": last, "present": present, "stages": stages}
