"""Greedy answers of a model, pruned or not, to LongBench records, in left-padded batches, each with its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.chat import takes_template, template_digest, uses_template
from ..data.records import check_asked
from ..data.tasks import DATASETS
from ..models.model_files import position_limit
from ..models.workers import Workers
from ..pruning.context import TokenPruning
from ..pruning.scoring import must_be_shown
from .batches import end_token, left_pad, pad_token, tokens_per_layer
from .metrics import score
from .prompts import build_prompt, encode, encode_answer
from .sample_files import SampleFile, kept_answers
from .weighed_answers import weigh

# What a checkpoint may ask of `generate`, switched off: the likeliest token would be another one.
UNPUNISHED = {"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0}


@torch.inference_mode()
def score_records(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict],
    pruning: TokenPruning | None = None,
    *,
    batch_size: int = 8,
    templates: Mapping[str, str] | None = None,
    chat_template: bool | None = None,
    title: str | None = None,
    file: SampleFile | None = None,
    workers: Workers | None = None,
) -> list[dict]:
    """Answer every record greedily and score it; left-padded batches of one answer length, longest prompts first.

    Of a dataset whose answers are weighed (`Dataset.weighed`) the samples say also how likely the right one is.

    Args:
        records: LongBench records.
        pruning: prunes each prompt; None runs the model as it is. A scorer with a method `show` is shown each batch and
            its answers first.
        templates: dataset -> prompt template, see `load_templates`.
        chat_template: see `encode_record`.
        title: label of the progress bar (TQDM_DISABLE=1 hides it).
        file: gets the samples of each batch as soon as it is done; records that it holds are not asked again.
        workers: the processes that share the batches; each of them returns all samples.

    Returns:
        One dict per record, in order: `_id`, `dataset`, `prompt_tokens`, `truncated`, `tokens_per_layer` (tokens of the
        prompt present at each layer), `prediction`, `answers`, `score` (0 to 1); where answers are weighed what `weigh`
        gives, and `group` and `depth` of the record, if it has them.

    Raises:
        ValueError: before the model runs, for a `batch_size` below 1, an unknown dataset, an empty prompt, a record
            that cannot be scored (`records.ASKED`) or has the name of another, or one that `file` holds with another
            prompt.
    """
    check_batch_size(batch_size)
    workers = workers or Workers()
    encoded = [encode_record(model, tokenizer, record, templates, chat_template) for record in records]
    check_asked(records)
    texts, prompts = [text for text, *_ in encoded], [rest for _, *rest in encoded]
    chats = [in_chat(tokenizer, record, chat_template) for record in records]
    samples: list[dict | None] = [
        None if file is None else file.find(record, ids) for record, (ids, _) in zip(records, prompts, strict=True)
    ]
    kinds = [_kind(record["dataset"]) for record in records]
    order = sorted(range(len(records)), key=lambda i: (*kinds[i], len(prompts[i][0])), reverse=True)
    batches: list[list[int]] = []
    for i in order:
        if not batches or len(batches[-1]) == batch_size or kinds[batches[-1][0]] != kinds[i]:
            batches.append([])
        batches[-1].append(i)
    missing = workers.share([left for batch in batches if (left := [i for i in batch if samples[i] is None])])
    with workers.bar(total=sum(map(len, missing)), desc=title, unit="prompt") as bar:
        for batch in missing:
            asked, ids = [records[i] for i in batch], [prompts[i][0] for i in batch]
            if must_be_shown(scorer := getattr(pruning, "scorer", None)):
                known = [encode_answer(tokenizer, records[i], texts[i], chats[i]) for i in batch]
                scorer.show(model, pruning.schedule.layers, ids, known)
            if DATASETS[asked[0]["dataset"]].weighed:
                said = [texts[i] for i in batch]
                found, present = weigh(model, tokenizer, asked, said, ids, chats[batch[0]], pruning)
            else:
                found, present = _answer(model, tokenizer, asked, ids, pruning)
            for i, sample, tokens in zip(batch, found, present, strict=True):
                samples[i] = {
                    "_id": records[i]["_id"], "dataset": records[i]["dataset"], "prompt_tokens": len(prompts[i][0]),
                    "truncated": prompts[i][1], "tokens_per_layer": tokens, "answers": kept_answers(records[i]),
                    **sample,
                }  # fmt: skip
            if file is not None:
                file.write([samples[i] for i in batch], ids)
            bar.update(len(batch))
    for i, sample in workers.gather([(i, samples[i]) for batch in missing for i in batch]):
        samples[i] = sample
    if file is not None:
        file.close()
    return samples


def encode_record(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, record: dict,
    templates: Mapping[str, str] | None = None, chat_template: bool | None = None,
) -> tuple[str, list[int], bool]:  # fmt: skip
    """A record's prompt as text, its token ids as the model is asked them, and whether its middle was cut out.

    It is cut to what the model takes, or to the record's `longest` tokens, if that is less.

    Args:
        chat_template: whether the ids are those of the text in the model's chat template, where the dataset takes one;
            None: if the model has one.

    Raises:
        ValueError: for an unknown dataset, an empty prompt, or a chat template that is asked for and not there.
    """
    text, spec = build_prompt(record, templates), DATASETS[record["dataset"]]
    limit, longest = position_limit(model.config), record.get("longest")
    rooms = [longest, None if limit is None else limit - spec.max_new_tokens]
    room = min((room for room in rooms if room is not None), default=None)
    return text, *encode(tokenizer, text, room, in_chat(tokenizer, record, chat_template))


def in_chat(tokenizer: PreTrainedTokenizerBase, record: dict, chat_template: bool | None = None) -> bool:
    """Whether a record's prompt goes into the chat template, see `encode_record`."""
    return uses_template(tokenizer, chat_template) and takes_template(record["dataset"])


def used_template(
    tokenizer: PreTrainedTokenizerBase, records: Sequence[dict], chat_template: bool | None = None
) -> str | None:
    """`template_digest` of the chat template if any of the records goes into it, see `in_chat`; None if none does."""
    return template_digest(tokenizer, any(in_chat(tokenizer, record, chat_template) for record in records))


def _kind(dataset: str) -> tuple[int, str]:
    """What the records of one batch have in common, longest answers last."""
    spec = DATASETS[dataset]
    return spec.max_new_tokens, dataset if spec.weighed else ""


def _answer(model, tokenizer, records: Sequence[dict], prompts: list[list[int]], pruning: TokenPruning | None):
    """`prediction` and `score` of each record of one batch, and the prompt tokens present at every layer."""
    ids, mask = left_pad(prompts, pad_token(tokenizer), model.device)
    with pruning(model) if pruning else nullcontext() as trace:
        out = greedy(model, tokenizer, ids, mask, DATASETS[records[0]["dataset"]].max_new_tokens)
    present = tokens_per_layer(trace, [len(prompt) for prompt in prompts], model.config.num_hidden_layers)
    predictions = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [
        {"prediction": said, "score": score(record["dataset"], said, record["answers"], record.get("all_classes"))}
        for record, said in zip(records, predictions, strict=True)
    ], present


def greedy(model, tokenizer, ids: Tensor, mask: Tensor, new_tokens: int, **options) -> Tensor:
    """`model.generate` without sampling, beams or penalties: prompts (batch, tokens) and up to `new_tokens` more."""
    end, pad = end_token(model, tokenizer), pad_token(tokenizer)
    return model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, num_beams=1,
        temperature=None, top_p=None, top_k=None, pad_token_id=pad, eos_token_id=end, **UNPUNISHED, **options,
    )  # fmt: skip


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError unless `batch_size` is a whole number of 1 or more."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number, 1 or more, got {batch_size}")
