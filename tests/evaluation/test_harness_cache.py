"""Answers kept by `sdtp lm-eval --use_cache`: found again by an equal run, and by no other."""

import errno
import json
import multiprocessing
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from helpers import schedule_of
from lm_eval.api.instance import Instance
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager
from tokenizers.normalizers import Lowercase
from transformers import Qwen2Config, Qwen2ForCausalLM

from sdtp_lib import TokenPruner, TokenPruning, cli
from sdtp_lib.data.demo.corpus import longbench_mini
from sdtp_lib.evaluation.harness import command as harness_cli
from sdtp_lib.evaluation.harness.cache import AnswerCache, read_answers
from sdtp_lib.evaluation.harness.model import SDTPLM
from sdtp_lib.models.identity import describe
from sdtp_lib.scorers.attention import LastWindowAttentionScorer
from sdtp_lib.scorers.blend import BlendScorer
from sdtp_lib.scorers.pooled import PooledScorer
from sdtp_lib.scorers.simple import HiddenNormScorer, RandomScorer, RecencyScorer
from sdtp_lib.training.demo_model import build_tokenizer

SCHEDULE = schedule_of()
WORDS = "The city of Anna is Oslo. Her brother lives in Rome, where he sells red apples. "
POSITIONS = 96


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(documents=200)


def make_model(size, seed=0, dtype=torch.float32, **changes):
    torch.manual_seed(seed)
    config = Qwen2Config(**{
        "vocab_size": size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3, "eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None, **changes,
    })  # fmt: skip
    return Qwen2ForCausalLM(config).to(dtype).eval().requires_grad_(False)


def make_pruner(seed=1):
    torch.manual_seed(seed)
    return TokenPruner(32, SCHEDULE.layers).eval().requires_grad_(False)


def last_number(module):
    """The module, after a change of a number that no short fingerprint reads."""
    [*module.parameters()][0].view(-1)[-1] += 0.5
    return module


def make(tokenizer, cache=None, *, model=make_model, scorer=make_pruner, schedule=SCHEDULE, pruning=None, change=None,
         **options):  # fmt: skip
    """A model as the harness has it, all of it new; `scorer` None prunes nothing, `change` is made to the tokenizer."""
    own = deepcopy(tokenizer)
    if change is not None:
        change(own)
    pruned = None if scorer is None else TokenPruning(schedule, scorer(), **(pruning or {}))
    return SDTPLM(model(len(tokenizer)), own, pruned, cache=cache, batch_size=2, **options)


def requests_of(kind):
    """Of prompts of unlike lengths; one does not fit the model."""
    prompts = [f"{i} {WORDS * i}" for i in (1, 2, 3, 8)]
    if kind == "generate_until":
        settings = {"until": [], "do_sample": False, "max_gen_toks": 6}
        return [Instance(kind, {}, (prompt, settings), 0, ("mine", i, 1)) for i, prompt in enumerate(prompts)]
    ends = [(prompt, end) for prompt in prompts for end in (" Oslo", " red apples")] + [("", "Rome")]
    return [Instance(kind, {}, pair, 0, ("mine", i, 1)) for i, pair in enumerate(ends)]


def answers(lm, kind):
    return getattr(lm, kind)(requests_of(kind))


def lower_case(tokenizer):
    tokenizer.backend_tokenizer.normalizer = Lowercase()


def add_template(tokenizer):
    tokenizer.chat_template = "{{ messages[0].content }}"


def end_of_text(size):
    model = make_model(size)
    model.generation_config.repetition_penalty = 1.5
    return model


# What is changed -> how `make` is told so.
CHANGES = {
    "no pruning": {"scorer": None},
    "schedule's ratio": {"schedule": schedule_of(0.6)},
    "schedule's layers": {"schedule": schedule_of(layers=(2, 3))},
    "schedule's sinks": {"schedule": schedule_of(sink_tokens=3)},
    "method random": {"scorer": RandomScorer},
    "method recency": {"scorer": RecencyScorer},
    "method norm": {"scorer": HiddenNormScorer},
    "method attention": {"scorer": LastWindowAttentionScorer},
    "blend": {"scorer": lambda: BlendScorer(make_pruner(), RecencyScorer(), 0.5)},
    "pooled": {"scorer": lambda: PooledScorer(make_pruner(), 3)},
    "pruner": {"scorer": partial(make_pruner, 2)},
    "a number of the pruner": {"scorer": lambda: last_number(make_pruner())},
    "positions": {"pruning": {"positions": "compact"}},
    "shortest prompt": {"pruning": {"min_prompt_tokens": 60}},
    "dtype": {"model": partial(make_model, dtype=torch.bfloat16)},
    "model": {"model": partial(make_model, seed=5)},
    "a number of the model": {"model": lambda size: last_number(make_model(size))},
    "configuration": {"model": partial(make_model, rms_norm_eps=0.1)},
    "generation's configuration": {"model": end_of_text},
    "tokenizer": {"change": lower_case},
    "template": {"change": add_template},
    "template's arguments": {"chat_template_args": {"reasoning": "low"}},
    "thinking": {"think_end_token": "Oslo"},
    "longest prompt": {"max_length": 50},
    "beginning": {"add_bos_token": True},
    "empty context": {"prefix_token_id": 7},
    "softmax": {"softmax_dtype": "bfloat16"},
}  # fmt: skip


@pytest.fixture(scope="module", params=["generate_until", "loglikelihood"])
def kept(request, tokenizer, tmp_path_factory):
    """(kind, file with the answers of the unchanged run, those answers)."""
    file = tmp_path_factory.mktemp("kept") / "answers"
    return request.param, file, answers(make(tokenizer, file), request.param)


def test_an_equal_run_finds_every_answer_and_asks_the_model_nothing(tokenizer, kept):
    kind, file, expected = kept
    again = make(tokenizer, file)
    again.model.forward = None  # any call would fail
    assert answers(again, kind) == expected == answers(make(tokenizer), kind)
    assert again.get_model_info()["answers_from_cache"] == len(expected)
    assert again.get_model_info()["compression"] is None, "nothing was run that could be counted"
    assert all(type(a) is type(b) for a, b in zip(answers(again, kind), expected, strict=True))


@pytest.mark.parametrize("change", CHANGES)
def test_no_other_run_finds_an_answer(tokenizer, kept, tmp_path, change):
    kind, file, _ = kept
    copy = tmp_path / "answers"
    copy.write_bytes(file.read_bytes())
    settings = CHANGES[change]
    changed, plain = make(tokenizer, copy, **settings), make(tokenizer, **settings)
    assert answers(changed, kind) == answers(plain, kind)
    assert changed.cache.found == 0
    for again in (make(tokenizer, copy, **settings), make(tokenizer, copy)):  # each finds its own
        assert len(answers(again, kind)) == again.cache.found > 0


@pytest.mark.parametrize("first, second", [((7,), (8,)), ((RandomScorer, 7), (RandomScorer, 8))])
def test_seeds_are_told_apart(first, second):
    made = [make_pruner(*seed) if len(seed) == 1 else seed[0](seed[1]) for seed in (first, second, first)]
    assert describe(made[0]) == describe(made[2]) != describe(made[1])


def test_blends_and_pools_are_told_apart_by_what_is_in_them():
    parts = [make_pruner(1), make_pruner(2), RecencyScorer()]
    found = [BlendScorer(a, b, share) for a in parts for b in parts for share in (0.25, 0.5)]
    found += [PooledScorer(part, width) for part in parts for width in (1, 3)]
    texts = [json.dumps(describe(scorer)) for scorer in found]
    assert len({*texts}) == len(found)


def test_tokens_that_are_never_cut_are_told_apart():
    def texts():
        for keep in (None, [5], [6], slice(5, 6), slice(5, 9), slice(5, 9, 2), torch.eye(9)[:1] > 0, torch.eye(9) > 0):
            yield json.dumps(describe(TokenPruning(SCHEDULE, make_pruner(), keep=keep).keep))

    assert [*texts()] == [*texts()] and len({*texts()}) == 8


def test_prompts_and_generation_settings_are_told_apart(tokenizer, tmp_path):
    lm = make(tokenizer, tmp_path / "answers")

    def ask(text, task="mine", **changes):
        settings = {"until": [], "do_sample": False, "max_gen_toks": 6, **changes}
        before = lm.cache.found
        (answer,) = lm.generate_until([Instance("generate_until", {}, (text, settings), 0, (task, 0, 1))])
        return answer, lm.cache.found - before

    long = WORDS * 8
    first, found = ask(long)
    assert found == 0 and ask(long) == (first, 1)
    assert ask(long[1:])[1] == ask(long, max_gen_toks=3)[1] == ask(long, until=["a"])[1] == 0
    middle, found = ask(long, task="sdtp_longbench_qasper")
    assert found == 0, "tasks of LongBench cut the middle out of this prompt"
    lm.cache.path, lm.cache._answers = None, {}
    assert ask(long, task="longbench") == (middle, 0)
    lm = make(tokenizer, tmp_path / "answers")
    assert ask(long, task="longbench_mini_few_shot") == (middle, 1) and ask(long) == (first, 1)


@pytest.mark.parametrize("settings", [{"do_sample": True, "temperature": 0.8}, {"temperature": 0.8}])
def test_drawn_answers_are_neither_kept_nor_found(tokenizer, tmp_path, settings):
    file, request = tmp_path / "answers", Instance("generate_until", {}, (WORDS, {"max_gen_toks": 6, **settings}), 0)
    for seed in (1, 2):
        torch.manual_seed(seed)
        lm = make(tokenizer, file)
        assert lm.generate_until([request]) and lm.cache.found == 0
    assert not file.exists()


@pytest.mark.parametrize("answer", [float("nan"), float("-inf"), (float("-inf"), False)])
def test_an_answer_that_is_no_number_is_not_kept(tmp_path, answer):
    AnswerCache(tmp_path / "answers", {}).add_partial("loglikelihood", ("a", "b"), answer)
    assert not (tmp_path / "answers").exists()


def test_a_full_disk_is_failed_work(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sdtp_lib.evaluation.harness.cache.append_jsonl", full)
    with pytest.raises(RuntimeError, match="could not be written to .*answers: No space left on device"):
        AnswerCache(tmp_path / "answers", {}).add_partial("loglikelihood", ("a", "b"), (-1.5, True))


@pytest.mark.parametrize("kind, method", [("generate_until", "_model_generate"), ("loglikelihood", "_score")])
def test_an_interrupted_run_goes_on_where_it_stopped(tokenizer, tmp_path, monkeypatch, kind, method):
    file, asked = tmp_path / "answers", []
    whole, original = answers(make(tokenizer), kind), getattr(SDTPLM, method)

    def stop_at_second(self, *arguments, **options):
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(SDTPLM, method, stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        answers(make(tokenizer, file), kind)
    with open(file, "a") as torn:
        torn.write('{"key": "ab')
    lm = make(tokenizer, file)
    assert answers(lm, kind) == whole and 0 < lm.cache.found < len(whole)
    again = make(tokenizer, file)
    assert answers(again, kind) == whole and again.cache.found == len(whole)


def test_a_torn_line_spoils_no_other(tmp_path):
    cache = AnswerCache(tmp_path / "answers", {})
    cache.add_partial("loglikelihood", ("a", "b"), (-1.5, True))
    with open(tmp_path / "answers", "a") as file:
        file.write('{"key": "torn", "ans')
    AnswerCache(tmp_path / "answers", {}).add_partial("loglikelihood", ("a", "c"), (-2.5, False))
    assert sorted(read_answers(tmp_path / "answers").values()) == [[-2.5, False], [-1.5, True]]


def _keep(path, name):
    cache = AnswerCache(path, {})
    for i in range(50):
        cache.add_partial("loglikelihood_rolling", (f"{name} {i} " * 500,), float(i))


def test_several_processes_share_a_file(tmp_path):
    path, context = tmp_path / "answers", multiprocessing.get_context("fork")
    processes = [context.Process(target=_keep, args=(path, name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(read_answers(path)) == 150


@pytest.mark.parametrize("content", [b"hello\n", b"SQLite format 3\0" + bytes(range(256)), b'{"key": 1}\n', b"[1]\n"])
def test_another_file_is_refused_and_left_as_it_is(tmp_path, content):
    file = tmp_path / "answers"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="answers is no file of answers that sdtp wrote; name another one"):
        AnswerCache(file, {})
    assert file.read_bytes() == content


@dataclass
class OthersScorer:
    """Of other code than the library's; a change of it would not be seen."""

    def score(self, layer, hidden_states, context):
        return hidden_states[..., 0]


def test_a_scorer_that_may_hide_settings_is_refused(tokenizer, tmp_path):
    assert make(tokenizer, scorer=OthersScorer).cache.path is None
    with pytest.raises(ValueError, match="OthersScorer may hide settings"):
        make(tokenizer, tmp_path / "answers", scorer=OthersScorer)
    with pytest.raises(ValueError, match="Generator may hide settings"):
        make(tokenizer, tmp_path / "answers", pruning={"generator": torch.Generator()})


def test_rolling_likelihoods_are_kept_too(tokenizer, tmp_path):
    request = Instance("loglikelihood_rolling", {}, (WORDS * 3,), 0, ("wikitext", 0, 1))
    expected = make(tokenizer, scorer=None).loglikelihood_rolling([request], True)
    for found in (0, 1):
        lm = make(tokenizer, tmp_path / "answers", scorer=None)
        assert lm.loglikelihood_rolling([request], True) == expected and lm.cache.found == found


# The harness's own caches


def test_the_harness_own_cache_of_answers_is_refused(tokenizer, tmp_path):
    manager = TaskManager(include_path=str(harness_cli.TASKS), include_defaults=False)
    with pytest.raises(ValueError, match="give the model the argument cache=FILE"):
        simple_evaluate(make(tokenizer), tasks=["mini_choice_few_shot"], task_manager=manager, limit=1,
                        use_cache=str(tmp_path / "db"))  # fmt: skip


def test_the_harness_own_cache_of_prompts_is_refused(tokenizer):
    manager = TaskManager(include_path=str(harness_cli.TASKS), include_defaults=False)
    with pytest.raises(ValueError, match="cache_requests gives the prompts of other data"):
        simple_evaluate(make(tokenizer), tasks=["mini_choice_few_shot"], task_manager=manager, limit=1,
                        cache_requests=True)  # fmt: skip


# The command


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs `sdtp lm-eval` on the demo model and gives the scores."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))

    def run(tasks, model, *options, limit=5):
        output = tmp_path / f"out{len([*tmp_path.iterdir()])}"
        status = cli.main([
            "lm-eval", "--model", "sdtp", "--model_args", f"dtype=float32,{model}", "--tasks", tasks, "--batch_size",
            "4", "--limit", str(limit), "--output_path", str(output), *options,
        ])  # fmt: skip
        assert status == 0, capsys.readouterr().err
        (file,) = output.rglob("results_*.json")
        results = json.loads(file.read_text())["results"]
        return {task: row.get("acc,none", row.get("score,none")) for task, row in results.items()}

    return run


def no_model(monkeypatch):
    for name in ("_score", "_model_generate"):
        monkeypatch.setattr(SDTPLM, name, lambda *_, **__: pytest.fail("the model was asked"))


FULL, PRUNED = "method=full", "method=random,schedule=keep07"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["option", "configuration", "argument"])
def test_a_pruned_model_gets_its_own_answers_out_of_the_file_of_a_full_one(command, tmp_path, monkeypatch, how):
    cached = {"option": ["--use_cache", str(tmp_path / "db")], "argument": []}.get(how)
    if cached is None:
        (tmp_path / "run.yaml").write_text(f"use_cache: {tmp_path / 'db'}\n")
        cached = ["--config", str(tmp_path / "run.yaml")]
    extra = f",cache={tmp_path / 'db'}" if how == "argument" else ""
    tasks = "mini_choice_few_shot"
    assert command(tasks, PRUNED) == {tasks: 0.6}
    for _ in range(2):
        assert command(tasks, FULL + extra, *cached) == {tasks: 1.0}
        assert command(tasks, PRUNED + extra, *cached) == {tasks: 0.6}
        no_model(monkeypatch)  # the second time all answers are there


@pytest.mark.slow
def test_the_same_for_answers_that_are_generated_and_other_data_and_templates(command, tmp_path, monkeypatch):
    data, task, cached = tmp_path / "data", "longbench_mini_few_shot", ["--use_cache", str(tmp_path / "db")]
    data.mkdir()
    rows = longbench_mini("few_shot", 5, seed=7, tokens=(300, 400))
    (data / "few_shot.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["--metadata", f"data={data}"]
    full, pruned, other = command(task, FULL), command(task, PRUNED), command(task, FULL, *more)
    assert full != pruned
    template = data / "dataset2prompt.json"
    template.write_text(json.dumps({"few_shot": "{context}"}))
    unasked = command(task, FULL, *more)
    assert unasked != other
    for _ in range(2):
        assert (command(task, FULL, *cached), command(task, PRUNED, *cached)) == (full, pruned)
        assert command(task, FULL, *more, *cached) == unasked
        template.unlink()
        assert command(task, FULL, *more, *cached) == other
        template.write_text(json.dumps({"few_shot": "{context}"}))
        no_model(monkeypatch)
