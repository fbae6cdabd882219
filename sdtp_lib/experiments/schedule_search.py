"""Beyond the paper: where a budget of prefill FLOPs is best spent, searched on training prompts.

A schedule of the family searched here has `stages` cuts spread evenly from layer `first` on, after the i-th of which
left ** ((i / stages) ** bend) of the prompt remains: `bend` 1 cuts by the same ratio at every stage, as the paper does,
a smaller one cuts harder at the first stages. `left` is what the budget asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise, product
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..data.pairs import training_pairs
from ..data.real.passages import SQUAD
from ..data.real.training_pairs import question_pairs
from ..data.samples import Sample, encode_pairs
from ..latency.flop_estimates import flop_ratio
from ..markdown import Markdown
from ..models.shapes import shape_config
from ..pruning.context import TokenPruning
from ..pruning.schedule import PruningSchedule
from ..pruning.scoring import Scorer, must_be_shown
from ..pruning.versions import with_cache
from ..results import markdown_table

HALVINGS = 40
HELD_OUT_SEED = 10_000
STAGES, BENDS = (1, 3, 5, 10), (1.0, 0.5)  # that are searched
TOKENS = 8192  # of the prompts on which FLOPs are counted
SHOWN = 4  # best schedules of a budget
LOCAL = 48  # last tokens that stay on real models; a tenth of the prompt would fill much of what a deep cut leaves


def last_tokens(local: int | None) -> dict[str, Any]:
    """Options of a schedule under which so many last tokens are never cut, and no more; None: its defaults, a tenth."""
    return {} if local is None else {"local_ratio": 0.0, "min_local_tokens": local}


def bent(
    first: int, stages: int, left: float, bend: float, num_layers: int, local: int | None = None
) -> PruningSchedule:
    """A schedule of the family above, see there.

    Args:
        local: see `last_tokens`.

    Raises:
        ValueError: if the stages do not fit the layers from `first` on, or a value is out of range.
    """
    if stages < 1 or not 0 < left <= 1 or not bend > 0:
        raise ValueError(f"needs stages >= 1, left in (0, 1], bend above 0; got {stages}, {left}, {bend}")
    even = PruningSchedule.spread(stages, num_layers, first, 1.0)
    remaining = [left ** ((stage / stages) ** bend) for stage in range(stages + 1)]
    kept = tuple(after / before for before, after in pairwise(remaining))
    return PruningSchedule(even.layers, kept, **last_tokens(local))


def within_budget(
    ratio: float, first: int, stages: int, bend: float, layers: int, config: PretrainedConfig, tokens: int,
    local: int | None = None,
) -> PruningSchedule | None:  # fmt: skip
    """The schedule of this family that leaves most tokens at a FLOP ratio of `ratio` or more; None if none does.

    Args:
        ratio: FLOPs full / pruned to reach on the shape of `config` at prompts of `tokens` tokens.
        layers: of the model that the schedule is for.
        local: see `last_tokens`.
    """
    return gentlest(lambda share: bent(first, stages, share, bend, layers, local), ratio, layers, config, tokens)


def gentlest(
    cut: Callable[[float], PruningSchedule], ratio: float, layers: int, config: PretrainedConfig, tokens: int,
    least: float = 1e-4,
) -> PruningSchedule | None:  # fmt: skip
    """The schedule of the largest share that reaches a FLOP ratio of `ratio` or more; None if none does.

    Args:
        cut: share of tokens, from `least` to 1 -> schedule; a larger share must leave more tokens.
        layers, config, tokens: as `within_budget`.
    """
    low, high = least, 1.0
    if flop_ratio(cut(low), layers, config, tokens) < ratio:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = flop_ratio(cut(middle), layers, config, tokens) >= ratio
        low, high = (middle, high) if enough else (low, middle)
    return cut(low)


def candidates(
    ratio: float, firsts: Sequence[int], stages: Sequence[int], bends: Sequence[float], layers: int
) -> dict[str, PruningSchedule]:
    """Every combination that fits the model and, on Mistral-7B's shape, `within_budget`: label -> schedule."""
    config, found = shape_config(), {}
    for first, count, bend in product(firsts, stages, bends):
        if count <= layers - first and (chosen := within_budget(ratio, first, count, bend, layers, config, TOKENS)):
            found[f"from layer {first}, {count} stages, bend {bend:g}"] = chosen
    return found


def answer_loss(model: PreTrainedModel, samples: Sequence[Sample], pruning: TokenPruning | None = None) -> float:
    """Mean over samples of `sample_loss`.

    Raises:
        ValueError: without samples.
    """
    if not samples:
        raise ValueError("no samples to take the loss of")
    return sum(sample_loss(model, sample, pruning) for sample in samples) / len(samples)


@torch.inference_mode()
def sample_loss(model: PreTrainedModel, sample: Sample, pruning: TokenPruning | None = None) -> float:
    """Cross-entropy of an answer, nats per token, on the cache that the pruned prefill leaves; the answer is not cut.

    Args:
        sample: a prompt with its answer.
        pruning: a scorer with a method `show`, such as the oracle, is shown the answer first.
    """
    if must_be_shown(scorer := getattr(pruning, "scorer", None)):
        parts = sample.input_ids.tolist()
        scorer.show(model, pruning.schedule.layers, [parts[: sample.prompt_tokens]], [parts[sample.prompt_tokens :]])
    ids, prompt = sample.input_ids.to(model.device)[None], sample.prompt_tokens
    cache = DynamicCache(config=model.config)
    logits = [_forward(model, ids[:, :prompt], cache, pruning, logits_to_keep=1).logits]
    if ids.shape[1] > prompt + 1:
        logits.append(_forward(model, ids[:, prompt:-1], cache, pruning).logits)
    return F.cross_entropy(torch.cat(logits, 1)[0].float(), ids[0, prompt:]).item()


def _forward(model, ids, cache, pruning, **options):
    with pruning(model) if pruning else nullcontext():
        return model(input_ids=ids, use_cache=True, **with_cache(model, cache), **options)


def search(
    model: PreTrainedModel, samples: Sequence[Sample], scorer: Scorer, schedules: Mapping[str, PruningSchedule]
) -> list[dict[str, Any]]:
    """Every schedule with its `answer_loss`, the best first: `name`, `schedule` as plain values, `loss`.

    Args:
        samples: that the scorer was not trained on.
        scorer: scores at every schedule's layers.
    """
    bar = tqdm(schedules.items(), desc="schedules", unit="schedule")
    rows = [
        {"name": name, "schedule": each.to_dict(), "loss": answer_loss(model, samples, TokenPruning(each, scorer))}
        for name, each in bar
    ]
    return sorted(rows, key=lambda row: row["loss"])


def search_budgets(
    model: PreTrainedModel, samples: Sequence[Sample], scorer: Scorer, flop_ratios: Sequence[float],
    first_layers: Sequence[int],
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """FLOP ratio -> `search` of the schedules that reach it; see `candidates` for the layers that they begin at."""
    layers = model.config.num_hidden_layers
    return {
        f"{ratio:g}": search(model, samples, scorer, candidates(ratio, first_layers, STAGES, BENDS, layers))
        for ratio in flop_ratios
    }


def held_out(tokenizer: PreTrainedTokenizerBase, data: str, count: int) -> list[Sample]:
    """`count` prompts with answers of a corpus, apart from those that `training.saliency.mark` takes with its seed 0.

    Of the demo they are other documents; of another corpus they come from the other end of the same order.

    Raises:
        ValueError: if there are fewer.
    """
    if data.startswith("demo"):
        return encode_pairs(training_pairs(data, count, HELD_OUT_SEED), tokenizer, None, count)
    if data == SQUAD:
        return encode_pairs(question_pairs(data, count, 0, backwards=True), tokenizer, None, count)
    return encode_pairs(training_pairs(data, count, 0)[::-1], tokenizer, None, count)


def search_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Markdown:
    """The best and the worst schedules of each budget: FLOP ratio -> what `search` gave."""
    return Markdown(markdown_table([
        {"FLOPs full / pruned": ratio, "schedule": row["name"], "loss of the answer": row["loss"],
         "keep ratios": ", ".join(f"{x:.2f}" for x in PruningSchedule(**row["schedule"]).ratios)}
        for ratio, each in found.items()
        for row in [*each[:SHOWN], *each[SHOWN:][-1:]]
    ]))  # fmt: skip
