"""kvpress inside the pruning context: every layer's pruned cache is compressed further, and decoding stays right."""

from functools import lru_cache
from importlib.util import find_spec

import pytest
import torch
import transformers
from compression import CompressedReference, check_generation, check_later_input, held
from helpers import VOCABULARY, close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from packaging.version import Version
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sdtp_lib import TokenPruning

if find_spec("kvpress") is None:
    HINDRANCE = "kvpress is not installed: pip install -e '.[kv]'"
elif Version(transformers.__version__) >= Version("5.3"):
    HINDRANCE = (
        f"kvpress reads cache_position, which transformers {transformers.__version__} does not hand to attention"
    )
else:
    HINDRANCE = ""
pytestmark = [
    pytest.mark.skipif(bool(HINDRANCE), reason=HINDRANCE),
    pytest.mark.filterwarnings("ignore:'pipes' is deprecated:DeprecationWarning"),  # fire, which kvpress imports
]

LAYERS, PROMPT, RATIO = 6, 40, 0.4
PRESSES = {
    "KnormPress": {},
    "SnapKVPress": dict(window_size=5, kernel_size=3),
    "StreamingLLMPress": dict(n_sink=2),
    "ObservedAttentionPress": {},  # reads attention weights, which eager alone gives
}
CASES = [(name, "sdpa") for name in PRESSES if name != "ObservedAttentionPress"] + [(name, "eager") for name in PRESSES]
every_press = pytest.mark.parametrize(("name", "attention"), CASES)
both_families = pytest.mark.parametrize("family", ["llama", "mistral"])
cached_model = lru_cache(maxsize=None)(tiny_model)


@pytest.fixture(scope="module", autouse=True)
def kvpress():
    """The package; importing it wraps transformers' attention functions, which is undone for the tests that follow."""
    stock = dict(ALL_ATTENTION_FUNCTIONS.items())
    import kvpress

    yield kvpress
    for name, function in stock.items():
        ALL_ATTENTION_FUNCTIONS[name] = function


@pytest.fixture
def press_of(kvpress):
    return lambda name: getattr(kvpress, name)(compression_ratio=RATIO, **PRESSES[name])


def pruning_of(schedule=None, **options):
    schedule = schedule or schedule_of()
    return TokenPruning(schedule, tiny_pruner(schedule.layers), **options)


def reference_of(family, press, positions="original"):
    """The full model, eager; the press scores the keys and the attention of that model."""
    model, schedule = cached_model(family, "eager"), schedule_of()

    def choose(layer, keys, attention):
        tokens, module = keys.shape[2], model.model.layers[layer].self_attn
        scores = press.score(module, torch.empty(1, tokens, 1), keys, keys, attention, {})
        return scores[0].topk(int(tokens * (1 - RATIO))).indices

    return CompressedReference(model, schedule, tiny_pruner(schedule.layers), choose, positions)


def compressed(prompt=PROMPT):
    """Keys of each layer once the press has been there, layer 0 included."""
    return [int(n * (1 - RATIO)) for n in schedule_of().lengths(prompt, LAYERS)]


@pytest.mark.parametrize("positions", ["original", "compact"])
@every_press
@both_families
def test_decodes_as_the_full_model_that_hides_what_was_cut_and_dropped(family, name, attention, positions, press_of):
    model, press = cached_model(family, attention), press_of(name)
    reference = reference_of(family, press, positions)
    trace = check_generation(model, pruning_of(positions=positions), press(model), reference)
    assert trace.pruned and trace.kv_lengths == compressed()


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("pieces", [(7, 1, 1), (1, 1, 7)], ids=str)
@every_press
@both_families
def test_later_input_continues_behind_the_whole_prompt(family, name, attention, pieces, positions, press_of):
    model, press = cached_model(family, attention), press_of(name)
    reference = reference_of(family, press, positions)
    trace, before, after = check_later_input(model, pruning_of(positions=positions), press(model), reference, pieces)
    assert held(before) == trace.kv_lengths == compressed()
    assert held(after) == [n + 9 for n in compressed()] and len(trace.prefills) == 1  # not cut, not compressed


@every_press
@both_families
def test_keeping_everything_is_bit_equal_to_the_press_alone(family, name, attention, press_of):
    model, press, prompt = cached_model(family, attention), press_of(name), random_prompts([PROMPT])
    with press(model):
        alone = generate(model, *prompt, steps=9)
    with pruning_of(schedule_of(keep=1.0))(model) as trace, press(model):
        both = generate(model, *prompt, steps=9)
    assert trace.kv_lengths == [int(PROMPT * (1 - RATIO))] * LAYERS
    assert torch.equal(alone[0], both[0]) and torch.equal(alone[1], both[1])


@every_press
def test_contexts_compose_either_way_round_and_leave_no_hooks(name, attention, press_of):
    model, press, prompt = tiny_model("llama", attention), press_of(name), random_prompts([PROMPT])
    stock = generate(model, *prompt)
    with pruning_of()(model), press(model):
        inside = generate(model, *prompt)
    with press(model), pruning_of()(model):
        outside = generate(model, *prompt)
    assert torch.equal(inside[1], outside[1]) and not torch.equal(inside[1], stock[1])
    assert torch.equal(generate(model, *prompt)[1], stock[1])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("positions", ["original", "compact"])
def test_kvpress_own_pipeline_answers_as_the_reference(positions, press_of):
    """It presses the context alone, runs the decoder without the head, hands each question its position ids, and crops
    the cache back to the context after every answer."""
    model, press = cached_model("llama", "sdpa"), press_of("SnapKVPress")
    words = Tokenizer(WordLevel({f"<{number}>": number for number in range(VOCABULARY)}, unk_token="<0>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<1>")
    ids, questions = random_prompts([PROMPT - 1])[0][0].tolist(), [[5, 6, 7], [60, 8], [9, 10, 11, 12]]
    pipe = transformers.pipeline("kv-press-text-generation", model=model, tokenizer=tokenizer)
    with pruning_of(positions=positions)(model) as trace:
        context, *asked = [" ".join(f"<{number}>" for number in numbers) for numbers in (ids, *questions)]
        answers = pipe(context, questions=asked, press=press, max_new_tokens=6)["answers"]
    assert trace.kv_lengths == compressed() and len(trace.prefills) == 1
    for question, answer in zip(questions, answers, strict=True):
        sequence = [1, *ids, *question, *(int(word[1:-1]) for word in answer.split())]
        expected, _ = reference_of("llama", press, positions).run(torch.tensor(sequence), PROMPT)
        asked_up_to = PROMPT + len(question)
        assert expected[asked_up_to - 1 : -1].argmax(-1).tolist() == sequence[asked_up_to:]


def test_rows_of_a_batch_without_padding_are_compressed_one_by_one(press_of):
    model, press = cached_model("llama", "sdpa"), press_of("KnormPress")
    ids, mask = random_prompts([PROMPT, PROMPT])
    with pruning_of()(model), press(model):
        _, logits = generate(model, ids, mask)
        alone = [generate(model, ids[row : row + 1], mask[row : row + 1])[1][0] for row in range(2)]
    assert close(logits, torch.stack(alone))


@pytest.mark.parametrize(
    ("family", "lengths", "message"),
    [
        ("llama", [PROMPT, 31], "layer 0 was compressed, .* padded batches"),  # kvpress takes pads for tokens
        ("mistral-window", [PROMPT], "layer 0 was compressed, .* sliding-window layers"),  # and ignores windows
    ],
)
def test_presses_that_cannot_be_right_are_refused(family, lengths, message, press_of):
    model = cached_model(family, "sdpa")
    with pytest.raises(ValueError, match=message), pruning_of()(model), press_of("KnormPress")(model):
        generate(model, *random_prompts(lengths))
