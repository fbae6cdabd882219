"""Every way of generating: each is right under pruning, or refused by name before the model runs."""

from types import MethodType

import pytest
import torch
from helpers import Reference, close, generate, random_prompts, schedule_of, tiny_model, tiny_pruner
from transformers import DynamicCache, GenerationConfig, StaticCache, pipeline
from transformers.generation.streamers import BaseStreamer

from sdtp_lib import PruningSchedule, TokenPruning, load_model, load_pruner

SCHEDULE = schedule_of()
PRUNER = tiny_pruner(SCHEDULE.layers)


def pruned(model, **options):
    return TokenPruning(SCHEDULE, PRUNER, **options)(model)


def expected(model, sequence, prompt):
    """Reference logits of the tokens after the prompt, (new tokens, vocabulary)."""
    return Reference(model, SCHEDULE, PRUNER).run(sequence, prompt)[0][prompt - 1 : -1]


def test_sampling_draws_from_the_pruned_models_distribution():
    model = tiny_model("qwen3")
    ids, mask = random_prompts([40, 28])
    torch.manual_seed(0)
    with pruned(model):
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=5, min_new_tokens=5, do_sample=True, top_k=0,
            num_return_sequences=3, return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    logits = torch.stack(out.logits, dim=1)
    assert len({tuple(row.tolist()) for row in out.sequences}) > 2
    for row, sequence in enumerate(out.sequences):
        pads = int((mask[row // 3] == 0).sum())
        assert close(logits[row], expected(model, sequence[pads:], 40 - pads))


def test_beam_search_finds_the_beams_of_the_pruned_model():
    model = tiny_model("llama")
    ids, mask = random_prompts([40, 28])
    with pruned(model):
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=5, min_new_tokens=5, num_beams=4, do_sample=False,
            return_dict_in_generate=True, output_scores=True, length_penalty=0.0,
        )  # fmt: skip
        greedy = generate(model, ids, mask, steps=5)[0]
    for row, sequence in enumerate(out.sequences):
        pads = int((mask[row] == 0).sum())

        def likelihood(tokens, pads=pads):
            log_probs = expected(model, tokens[pads:], 40 - pads).log_softmax(-1)
            return log_probs.gather(1, tokens[40:, None]).sum().item()

        assert out.sequences_scores[row].item() == pytest.approx(likelihood(sequence), rel=1e-4)
        assert likelihood(sequence) >= likelihood(torch.cat([ids[row], greedy[row]])) - 1e-3


class Collector(BaseStreamer):
    """Keeps the new tokens that it is sent."""

    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.ended = True


def test_streaming_sends_what_is_generated():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    streamer = Collector()
    with pruned(model):
        tokens = generate(model, ids, mask)[0][0].tolist()
        generate(model, ids, mask, streamer=streamer)
    assert streamer.tokens == ids[0].tolist() + tokens and streamer.ended


@pytest.mark.parametrize("family", ["llama", "mistral-window", "gemma3"])
@pytest.mark.parametrize("plain", [True, False], ids=["plain-cache", "cache-of-the-config"])
def test_a_cache_handed_in_is_used(family, plain):
    model, (ids, mask) = tiny_model(family), random_prompts([40, 23])
    with pruned(model):
        tokens, logits = generate(model, ids, mask)
    cache = DynamicCache() if plain else DynamicCache(config=model.config)
    with pruned(model) as trace:
        same, again = generate(model, ids, mask, past_key_values=cache)
    assert torch.equal(tokens, same) and close(again, logits)
    lengths = SCHEDULE.lengths(40, 6)
    held = [n if not part.is_sliding else min(n, 7) for n, part in zip(lengths, cache.layers, strict=True)]
    assert trace.kv_lengths == held


def test_chunked_prefill_cuts_the_first_chunk():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    if not close(generate(model, ids, mask, prefill_chunk_size=24)[1], generate(model, ids, mask)[1]):
        pytest.skip("this transformers gives the chunks of generate(prefill_chunk_size=...) wrong positions")
    with pruned(model) as trace:
        tokens, logits = generate(model, ids, mask, prefill_chunk_size=24)
    assert len(trace.prefills) == 1 and trace.prefills[0].tokens == 24
    reference = Reference(model, SCHEDULE, PRUNER).run(torch.cat([ids[0], tokens[0]]), 24)[0][39:-1]
    assert close(logits[0], reference)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt_oss"])
def test_chunks_by_hand_attend_the_pruned_first_one(family):
    model, (ids, _) = tiny_model(family, None), random_prompts([40])
    cache, logits = DynamicCache(config=model.config), []
    with pruned(model) as trace, torch.no_grad():
        for chunk in ids.split([24, 10, 6], dim=1):
            logits.append(model(chunk, past_key_values=cache).logits[0])
    reference = Reference(model, SCHEDULE, PRUNER).run(ids[0], 24)[0]
    assert trace.last.uncut == 16 and "16 tokens came in later passes and were not cut" in str(trace)
    assert len(trace.prefills) == 1 and close(torch.cat(logits[1:]), reference[24:])


@pytest.mark.parametrize("family", ["llama", "gemma3", "bloom"])
def test_plain_forward_with_and_without_a_cache(family):
    model, (ids, mask) = tiny_model(family, None), random_prompts([40, 23])
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)
    inputs = dict(input_ids=ids, attention_mask=mask, position_ids=position_ids)
    with pruned(model) as trace, torch.no_grad():
        without = model(**inputs, use_cache=False)
        assert trace.pruned and trace.kv_lengths == [] and without.past_key_values is None
        cached = model(**inputs, use_cache=True)
        last = model(**inputs, use_cache=False, logits_to_keep=2).logits
    assert torch.equal(without.logits, cached.logits)
    assert close(last, cached.logits[:, -2:])  # the head's product of fewer rows may add in another order
    assert cached.logits.shape[1] == SCHEDULE.lengths(40, 6)[-1]
    for row, n in enumerate((40, 23)):
        reference, kept = Reference(model, SCHEDULE, PRUNER).run(ids[row, 40 - n :], n)
        assert close(cached.logits[row, -len(kept[5]) :], reference[kept[5]])


def test_embeddings_instead_of_tokens():
    model, (ids, mask) = tiny_model(), random_prompts([40, 23])
    embeds = model.get_input_embeddings()(ids)
    with pruned(model):
        tokens, _ = generate(model, ids, mask)
        out = model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=4, min_new_tokens=4)
    assert torch.equal(out, tokens)


def test_the_text_generation_pipeline_prunes():
    model, tokenizer = load_model("demo")
    texts = ["the colour of Hugo is teal . " * 30, "where is Ada ? " * 9]
    generator = pipeline("text-generation", model=model, tokenizer=tokenizer, batch_size=2)
    schedule = PruningSchedule.preset("paper", model.config.num_hidden_layers)
    with TokenPruning(schedule, load_pruner(None, model, schedule))(model) as trace:
        both = generator(texts, max_new_tokens=6, do_sample=False, return_full_text=False)
        alone = [generator(text, max_new_tokens=6, do_sample=False, return_full_text=False) for text in texts]
    assert trace.pruned and len(trace.prefills) == 3
    assert both == alone


REFUSED = {
    "assisted decoding": dict(assistant_model="self"),
    "prompt lookup": dict(prompt_lookup_num_tokens=3),
    "contrastive search": dict(penalty_alpha=0.6, top_k=4),
    "DoLa": dict(dola_layers="low"),
    "guidance_scale": dict(guidance_scale=2.0),
    "static": dict(cache_implementation="static"),
    "offloaded_static": dict(cache_implementation="offloaded_static"),
    "quantized": dict(cache_implementation="quantized"),
    "use_cache=False": dict(use_cache=False),
}


@pytest.mark.parametrize("in_config", [False, True], ids=["argument", "config"])
@pytest.mark.parametrize("name", REFUSED)
def test_decoding_that_cannot_be_right_is_refused_before_the_model_runs(name, in_config):
    model, (ids, mask) = tiny_model(), random_prompts([40])
    options = {key: model if value == "self" else value for key, value in REFUSED[name].items()}
    if in_config and name == "assisted decoding":
        pytest.skip("the assistant is an argument, not a setting")
    if in_config:
        config = GenerationConfig(max_new_tokens=4)
        for key, value in options.items():
            setattr(config, key, value)
        options = {"generation_config": config}
    ran = []
    handle = model.get_input_embeddings().register_forward_hook(lambda *args: ran.append(1))
    with pruned(model), pytest.raises(ValueError, match=name):
        model.generate(input_ids=ids, attention_mask=mask, **options)
    handle.remove()
    assert not ran
    assert isinstance(model.generate, MethodType) and "generate" not in vars(model)


def test_a_setting_of_the_models_own_is_found_beside_the_callers():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    model.generation_config.prompt_lookup_num_tokens = 3
    with pruned(model), pytest.raises(ValueError, match="prompt lookup"):
        model.generate(input_ids=ids, attention_mask=mask, generation_config=GenerationConfig(max_new_tokens=4))


def test_continuous_batching_is_refused_in_the_callers_thread():
    model = tiny_model()
    with pruned(model), pytest.raises(ValueError, match="continuous batching"):
        model.generate_batch([[1, 2, 3]])
    assert "generate_batch" not in vars(model)


def test_a_generate_of_the_users_own_comes_back():
    model = tiny_model()
    own = model.generate = lambda *args, **kwargs: "mine"
    with pruned(model):
        assert model.generate() == "mine"
    assert vars(model)["generate"] is own


def test_a_crop_behind_the_guards_back_is_noticed():
    model, (ids, mask) = tiny_model(), random_prompts([40])
    with pruned(model), pytest.raises(ValueError, match="cropped"):
        type(model).generate(
            model,
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=20,
            prompt_lookup_num_tokens=3,
            do_sample=False,
            eos_token_id=96,
        )


def test_caches_that_cannot_be_cut_are_refused():
    model, (ids, _) = tiny_model(), random_prompts([40])
    cache = StaticCache(config=model.config, max_cache_len=64)
    with pruned(model), pytest.raises(ValueError, match="StaticCache"):
        model(ids, past_key_values=cache)


def test_arguments_that_point_at_cut_tokens_are_refused():
    model, (ids, _) = tiny_model("mixtral"), random_prompts([40])
    with pruned(model):
        for name, value in {"labels": ids, "logits_to_keep": torch.tensor([3]), "output_router_logits": True}.items():
            with pytest.raises(ValueError, match=name):
                model(ids, **{name: value})
    with torch.no_grad():
        assert model(ids, labels=ids).loss.isfinite()  # outside all is as before


@pytest.mark.parametrize("how", ["wrapper", "module", "forward", "layer"])
def test_compiled_models_are_refused(how):
    model = tiny_model()
    target = model
    if how == "wrapper":
        target = torch.compile(model, backend="eager")
    elif how == "module":
        model.compile(backend="eager")
    elif how == "forward":
        model.forward = torch.compile(model.forward, backend="eager")
    else:
        model.model.layers[3] = torch.compile(model.model.layers[3], backend="eager")
    with pytest.raises(ValueError, match="torch.compile"), pruned(target):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral-window"])
@pytest.mark.parametrize("lengths", [[40], [40, 23]], ids=["one", "padded"])
def test_flex_attention_equals_sdpa(lengths, family):
    if (family == "mistral-window" or len(lengths) > 1) and not torch.cuda.is_available():
        pytest.skip("the C++ that torch writes for FlexAttention on a CPU does not compile for masks over several rows")
    if not torch.cuda.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX2":
        pytest.skip("without AVX-512, what torch compiles for FlexAttention is wrong here with no pruning at all")
    model, (ids, mask) = tiny_model(family), random_prompts(lengths)
    with pruned(model):
        expected = generate(model, ids, mask)[1]
    model.set_attn_implementation("flex_attention")
    try:
        generate(model, ids, mask)
    except Exception as error:  # it compiles kernels, which takes a compiler
        pytest.skip(f"FlexAttention does not run here: {type(error).__name__}")
    with pruned(model):
        assert close(generate(model, ids, mask)[1], expected)


def test_flash_attention_equals_sdpa():
    pytest.importorskip("flash_attn", reason="flash_attn is not installed")
    if not torch.cuda.is_available():
        pytest.skip("FlashAttention needs a GPU")
    ids, mask = (part.cuda() for part in random_prompts([40, 23]))
    schedule, logits = schedule_of(), []
    for attention in ("sdpa", "flash_attention_2"):
        model = tiny_model("llama", attention, dtype=torch.bfloat16).cuda()
        with TokenPruning(schedule, tiny_pruner(schedule.layers).to("cuda", torch.bfloat16))(model):
            logits.append(generate(model, ids, mask)[1].float())
    assert (logits[1] - logits[0]).abs().max() / logits[0].abs().max() < 0.05  # bfloat16
