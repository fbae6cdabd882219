"""The model class `sdtp` of lm-evaluation-harness: log-likelihoods and answers under pruning, tasks, command line."""

import json
import subprocess
import sys
from functools import partial

import pytest
import torch
from helpers import Reference, schedule_of, tiny_model, tiny_pruner
from lm_eval.api.instance import Instance
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import Qwen2Config, Qwen2ForCausalLM

from sdtp_lib import PruningSchedule, TokenPruner, TokenPruning, cli
from sdtp_lib.data.corpora import longbench_records
from sdtp_lib.data.demo.corpus import TASKS, longbench_mini
from sdtp_lib.data.demo.questions import CHOICE_DATASETS, mini_choice
from sdtp_lib.data.tasks import LONGBENCH, MINI
from sdtp_lib.evaluation.answers import score_records
from sdtp_lib.evaluation.harness import command as harness_cli
from sdtp_lib.evaluation.harness.model import SDTPLM
from sdtp_lib.evaluation.methods import METHODS
from sdtp_lib.evaluation.oracle import OracleScorer
from sdtp_lib.evaluation.prompts import build_prompt
from sdtp_lib.experiments.table3_downstream import downstream
from sdtp_lib.scorers.simple import RandomScorer
from sdtp_lib.training.demo_model import build_tokenizer

SCHEDULE = schedule_of()
FAMILIES = ["qwen2", "demo", "mistral-window", "gemma3", "gpt_oss", "bloom"]
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No host is ever looked up; the harness and `evaluate` would go on quietly without an answer."""
    asked = []

    def refuse(host, *arguments, **options):
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    yield
    assert not asked


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(documents=200)


def random_requests(seed=0, contexts=(40, 1, 25, 33, 25), choices=((3, 1, 6), (2,), (1, 1), (5, 2), (4,))):
    """(name, context, continuation) with several continuations of unlike lengths for most contexts, shuffled."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count):
        return torch.randint(2, 97, (count,), generator=generator).tolist()

    rows = []
    for length, lengths in zip(contexts, choices, strict=True):
        context = tokens(length)
        rows += [((str(len(rows)), ""), context, tokens(count)) for count in lengths]
    return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]


def same(ours, expected):
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in expected]
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in expected], abs=TOLERANCE)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("hooks", [False, True], ids=["full", "hooks that cut nothing"])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_pruning_it_is_the_stock_class(tokenizer, family, hooks, batch_size):
    model, requests = tiny_model(family, None), random_requests()
    pruning = TokenPruning(PruningSchedule(layers=()), None) if hooks else None
    stock = HFLM(model, tokenizer=tokenizer, batch_size=2)._loglikelihood_tokens(requests, disable_tqdm=True)
    ours = SDTPLM(model, tokenizer, pruning, batch_size=batch_size)._loglikelihood_tokens(requests, True)
    same(ours, stock)


@pytest.mark.parametrize("family, positions", [(family, "original") for family in FAMILIES] + [("qwen2", "compact")])
def test_a_continuation_is_scored_on_what_is_left_of_its_context_and_never_cut(tokenizer, family, positions):
    """The reference is the full model under masks that hide the tokens cut from the context alone."""
    model, pruner = tiny_model(family, None), tiny_pruner(SCHEDULE.layers)
    pruning, requests = TokenPruning(SCHEDULE, pruner, positions=positions), random_requests()
    one, four = (SDTPLM(model, tokenizer, pruning, batch_size=size)._loglikelihood_tokens(requests) for size in (1, 4))
    same(four, one)
    reference = Reference(model, SCHEDULE, pruner, positions)
    for (_, context, continuation), (value, is_greedy) in zip(requests, one, strict=True):
        logits = reference.run(torch.tensor(context + continuation), len(context))[0][len(context) - 1 : -1]
        expected = logits.log_softmax(-1)[range(len(continuation)), continuation].sum()
        assert value == pytest.approx(float(expected), abs=TOLERANCE * 10 * len(continuation))
        assert is_greedy == (logits.argmax(-1).tolist() == continuation)
    full = SDTPLM(model, tokenizer)._loglikelihood_tokens(requests)
    assert max(abs(a - b) for (a, _), (b, _) in zip(full, one, strict=True)) > 0.01, "nothing was pruned"


def test_the_greedy_continuation_is_told(tokenizer):
    model = tiny_model("qwen2")
    context = random_requests()[0][1]
    pruning = TokenPruning(SCHEDULE, tiny_pruner(SCHEDULE.layers))
    with pruning(model):
        best = model.generate(torch.tensor([context]), max_new_tokens=4, do_sample=False)[0, len(context) :].tolist()
    worse = [*best[:3], (best[3] + 1) % 97]
    requests = [(None, context, best), (None, context, worse), (None, context, best[:1])]
    lm = SDTPLM(model, tokenizer, pruning, batch_size=2)
    assert [greedy for _, greedy in lm._loglikelihood_tokens(requests)] == [True, False, True]


def test_a_context_is_prefilled_once_for_all_its_continuations(tokenizer):
    model, calls = tiny_model("qwen2"), []
    handle = model.base_model.register_forward_pre_hook(lambda *given: calls.append(given[2]["input_ids"].shape),
                                                        with_kwargs=True)  # fmt: skip
    lm = SDTPLM(model, tokenizer, TokenPruning(SCHEDULE, tiny_pruner(SCHEDULE.layers)), batch_size=8)
    lm._loglikelihood_tokens(random_requests())
    handle.remove()
    assert calls[0] == (5, 40) and 1 < len(calls) <= 1 + 3  # nine continuations of five contexts, three of one at most
    info = lm.get_model_info()
    lengths = [SCHEDULE.lengths(n, 6) for n in (40, 33, 25, 25, 1)]
    assert info["schedule"]["layers"] == SCHEDULE.layers and info["scorer"] == "TokenPruner"
    assert info["tokens_per_layer"] == [sum(column) / 5 for column in zip(*lengths, strict=True)]


def text_requests(pairs):
    return [Instance("loglikelihood", {}, pair, 0) for pair in pairs]


def test_an_empty_context_is_the_end_token(tokenizer):
    model = tiny_model("qwen2")
    model.resize_token_embeddings(len(tokenizer))
    pairs = text_requests([("", "The city of Anna"), ("The city", " of Anna is"), ("", "Oslo")])
    stock = HFLM(model, tokenizer=tokenizer, batch_size=1).loglikelihood(pairs, disable_tqdm=True)
    for pruning in (None, TokenPruning(SCHEDULE, tiny_pruner(SCHEDULE.layers))):
        same(SDTPLM(model, tokenizer, pruning, batch_size=3).loglikelihood(pairs), stock)


def test_long_contexts_lose_their_beginning_as_in_the_stock_class(tokenizer):
    model, requests = tiny_model("qwen2"), random_requests()
    stock = HFLM(model, tokenizer=tokenizer, batch_size=1, max_length=20)._loglikelihood_tokens(requests, True)
    same(SDTPLM(model, tokenizer, batch_size=4, max_length=20)._loglikelihood_tokens(requests), stock)
    for tokens in ([], [5] * 21):
        with pytest.raises(ValueError, match=f"continuation of {len(tokens)} tokens; it must have 1 to 20"):
            SDTPLM(model, tokenizer, max_length=20)._loglikelihood_tokens([(None, [3], tokens)])


def test_rolling_likelihoods_are_refused_while_pruning(tokenizer):
    model = tiny_model("qwen2")
    model.resize_token_embeddings(len(tokenizer))
    request = Instance("loglikelihood_rolling", {}, ("The city of Anna is Oslo. " * 5,), 0, ("wikitext", 0, 1))
    stock = HFLM(model, tokenizer=tokenizer, batch_size=1, max_length=16).loglikelihood_rolling([request], True)
    ours = SDTPLM(model, tokenizer, batch_size=2, max_length=16).loglikelihood_rolling([request], True)
    assert ours == pytest.approx(stock, abs=1e-3)
    with pytest.raises(ValueError, match=r"loglikelihood_rolling \(wikitext\) .* nothing can be pruned"):
        SDTPLM(model, tokenizer, TokenPruning(SCHEDULE, RandomScorer())).loglikelihood_rolling([request])


# Tasks


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(model, tokenizer, tmp_path_factory):
    """A folder with `model`, `pruner`, and `data`: LongBench-mini's records, a third of them too long for the model."""
    root = tmp_path_factory.mktemp("harness")
    model.save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    torch.manual_seed(1)
    TokenPruner(32, (1, 2, 3, 4, 5)).save_pretrained(root / "pruner")
    (root / "data").mkdir()
    for name in TASKS:
        rows = longbench_mini(name, 2, seed=7, tokens=(60, 140)) + longbench_mini(name, 1, seed=8, tokens=(300, 400))
        (root / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def run_tasks(lm, tasks, limit=None, **metadata):
    """{task: its samples in order} and the harness's results, without a look at the harness's own 14,000 tasks."""
    manager = TaskManager(include_path=str(harness_cli.TASKS), include_defaults=False, metadata=metadata)
    found = simple_evaluate(lm, tasks=tasks, task_manager=manager, limit=limit, bootstrap_iters=0)
    samples = {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in found["samples"].items()}
    return samples, found


@pytest.mark.parametrize("pruned", [False, True], ids=["full", "sdtp"])
def test_harness_and_evaluate_give_the_same_answers_and_scores(model, tokenizer, folder, pruned):
    pruning = TokenPruning(SCHEDULE, TokenPruner.from_pretrained(folder / "pruner")) if pruned else None
    lm = SDTPLM(model, tokenizer, pruning, batch_size=3)
    samples, found = run_tasks(lm, ["longbench_mini"], data=str(folder / "data"))
    means, layers = [], []
    for name in MINI:
        records = longbench_records(name, folder / "data")
        expected = score_records(model, tokenizer, records, pruning, batch_size=2)
        rows = samples[f"longbench_mini_{name}"]
        assert [row["resps"][0][0] for row in rows] == [sample["prediction"] for sample in expected]
        assert [row["score"] for row in rows] == [sample["score"] for sample in expected]
        assert {sample["truncated"] for sample in expected} == {False, True}
        means.append(sum(sample["score"] for sample in expected) / len(expected))
        assert found["results"][f"longbench_mini_{name}"]["score,none"] == pytest.approx(means[-1])
        layers += [sample["tokens_per_layer"] for sample in expected]
    assert found["results"]["longbench_mini"]["score,none"] == pytest.approx(sum(means) / len(means))
    assert any(sample["prediction"] for sample in expected)
    assert found["config"]["tokens_per_layer"] == pytest.approx(
        [sum(column) / 15 for column in zip(*layers, strict=True)], abs=1e-4
    )
    json.dumps(found["config"]["schedule"])


def test_only_longbench_loses_the_middle(model, tokenizer):
    lm, seen = SDTPLM(model, tokenizer, batch_size=2), []
    words = " ".join(longbench_mini("singledoc_qa", 1, tokens=(400, 400))[0]["context"].split())
    ids = tokenizer(words)["input_ids"]
    lm._model_generate = lambda context, **options: (seen.append(context), context)[1]
    for task in ("sdtp_longbench_qasper", "gsm8k"):
        request = Instance("generate_until", {}, (words, {"until": [], "max_gen_toks": 56}), 0, (task, 0, 1))
        assert lm.generate_until([request, request]) == ["", ""]
    assert seen[0].tolist() == [ids[:100] + ids[-100:]] * 2
    assert seen[1].tolist() == [ids[-200:]] * 2


def test_every_dataset_is_a_task_in_its_group():
    manager = TaskManager(include_path=str(harness_cli.TASKS), include_defaults=False)
    assert manager.all_groups == ["longbench_mini", "mini_choice", "sdtp_longbench"]
    expected = [f"longbench_mini_{name}" for name in MINI] + [f"sdtp_longbench_{name}" for name in LONGBENCH]
    choices = [f"mini_choice_{name}" for name in CHOICE_DATASETS]
    assert manager.all_subtasks == sorted([*expected, *choices, "documents_choice"])
    for name, members in {"longbench_mini": MINI, "sdtp_longbench": LONGBENCH, "mini_choice": CHOICE_DATASETS}.items():
        assert manager._index[name].cfg["task"] == [f"{name}_{member}" for member in members]


def official(tmp_path, **changes):
    """A folder with two qasper records in LongBench's own schema."""
    record = {"input": "Who?", "context": "Anna lives here. " * 40, "answers": ["Anna"], "length": 9, "language": "en",
              "dataset": "qasper", "all_classes": None, "_id": "a1"}  # fmt: skip
    rows = [record, {**record, "_id": "b2", **changes}]
    (tmp_path / "qasper.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_official_records_are_asked_in_the_harness_own_wording(model, tokenizer, tmp_path):
    data = official(tmp_path)
    samples, _ = run_tasks(SDTPLM(model, tokenizer, batch_size=2), ["sdtp_longbench_qasper"], data=str(data))
    prompts = [row["arguments"][0][0] for row in samples["sdtp_longbench_qasper"]]
    assert prompts == [build_prompt(record) for record in longbench_records("qasper", data)]
    assert prompts[0].startswith("You are given a scientific article and a question.")
    assert "\n\nArticle: Anna lives here. " in prompts[0] and prompts[0].endswith("\n\nQuestion: Who?\n\nAnswer:")
    (data / "dataset2prompt.json").write_text(json.dumps({"qasper": "{input} {context}"}))
    samples, _ = run_tasks(SDTPLM(model, tokenizer), ["sdtp_longbench_qasper"], limit=1, data=str(data))
    assert samples["sdtp_longbench_qasper"][0]["arguments"][0][0].startswith("Who? Anna lives")


def test_every_dataset_of_longbench_has_its_wording():
    for name in LONGBENCH:
        prompt = build_prompt({"dataset": name, "context": "{{context}} {x}", "input": "{{question}}?", "_id": "1"})
        assert "{{context}} {x}" in prompt, "texts are not read as templates"
        assert ("{{question}}?" in prompt) == (name not in ("gov_report", "multi_news", "lcc"))


def test_a_record_without_context_is_refused_by_name(model, tokenizer, tmp_path):
    data = official(tmp_path, context="")
    with pytest.raises(ValueError, match="qasper record b2 has no context"):
        run_tasks(SDTPLM(model, tokenizer), ["sdtp_longbench_qasper"], data=str(data))
    with pytest.raises(FileNotFoundError, match="has no file trec.jsonl"):
        run_tasks(SDTPLM(model, tokenizer), ["sdtp_longbench_trec"], data=str(data))


def test_a_chat_template_is_left_out_where_longbench_leaves_it_out(model, tokenizer, tmp_path):
    official(tmp_path)
    row = {"input": "Q", "context": "C", "answers": ["a"], "all_classes": ["a", "b"], "_id": "1"}
    (tmp_path / "trec.jsonl").write_text(json.dumps(row))
    manager = TaskManager(include_path=str(harness_cli.TASKS), include_defaults=False, metadata={"data": str(tmp_path)})
    tasks = manager.load(["sdtp_longbench_qasper", "sdtp_longbench_trec"])["tasks"]
    for name, chat in (("qasper", True), ("trec", False)):
        task = tasks[f"sdtp_longbench_{name}"]
        prompt = task.fewshot_context(task.dataset["test"][0], 0, apply_chat_template=True,
                                      chat_template=lambda turns, **_: f"[{turns[0]['content']}]")  # fmt: skip
        assert prompt.startswith("[") == chat and prompt.endswith("]") == chat


@pytest.mark.parametrize("dataset", CHOICE_DATASETS)
def test_wrong_choices_answer_other_questions_on_the_same_document(dataset):
    records = mini_choice(dataset, 20, seed=3)
    assert records == mini_choice(dataset, 20, seed=3) and records[:5] == mini_choice(dataset, 5, seed=3)
    for record in records:
        assert len(set(record["choices"])) == 4 and record["choices"][record["gold"]] == record["answers"][0]
        if dataset == "few_shot":
            assert set(record["choices"]) == set(record["all_classes"])
        else:
            assert all(choice.split()[-1].strip("().:") in record["context"] for choice in record["choices"])
    assert {record["gold"] for record in records} == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="unknown multiple-choice dataset 'report_summary'"):
        mini_choice("report_summary", 1)


def test_the_demo_model_chooses_better_than_chance():
    lm = SDTPLM.create_from_arg_obj({"method": "full"}, {"batch_size": "4", "device": "cuda:0"})
    _, found = run_tasks(lm, ["mini_choice"], limit=6)
    assert found["results"]["mini_choice"]["acc,none"] >= 0.6  # chance: 0.25, and 0.6 of 24 happens once in 10,000


# Names and command line


@pytest.fixture
def few_tasks(monkeypatch):
    """Spare the tests the ten seconds in which the harness reads its own tasks."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "oracle"])
def test_every_method_is_a_model_argument(folder, method):
    arguments = f"pretrained={folder / 'model'},pruner={folder / 'pruner'},method={method},schedule=low,dtype=float32"
    lm = SDTPLM.create_from_arg_string(arguments, {"batch_size": 2, "max_batch_size": None, "device": "cpu"})
    assert (lm.pruning is None) == (method == "full") and lm.batch_size == 2 and lm.model.dtype == torch.float32
    assert SDTPLM.create_from_arg_string(f"{arguments},schedule=none").pruning is None
    if method not in ("full", "sdtp"):
        seeded = SDTPLM.create_from_arg_string(f"{arguments},seed=5,positions=compact,batch_size=3", {"batch_size": 1})
        assert seeded.pruning.positions == "compact" and seeded.batch_size == 3
        assert getattr(seeded.pruning.scorer, "seed", 5) == 5


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--model", "sdpt"], "unknown model 'sdpt'"),
        (["--model_args", "pretrained=nothing"], "unknown model 'nothing'"),
        (["--model_args", "pretrained=missing/model/here"], "missing/model/here does not exist"),
        (["--model_args", "pretrained=mistral-7b"], "mistral-7b has no tokenizer"),
        (["--model_args", "schedule=keep05"], "unknown schedule 'keep05'"),
        (["--model_args", "method=best"], "unknown method 'best'"),
        (
            ["--model_args", "pretrained=missing/model/here,method=oracle"],
            "it works in `sdtp evaluate --method oracle`",
        ),
        (["--model_args", "positions=odd"], "positions must be"),
        (["--model_args", "pruner=missing/pruner"], "missing/pruner does not exist"),
        (["--model_args", "dtype=int8"], "unknown dtype 'int8'"),
        (["--model_args", "peft=adapter"], "unknown model argument 'peft'; known: pretrained, pruner"),
        (["--trust_remote_code"], "unknown model argument 'trust_remote_code'"),
        (["--batch_size", "auto"], "batch_size must be a whole number"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--tasks", "nothing"], "Tasks not found: nothing"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(few_tasks, capsys, arguments, word):
    assert cli.main(["lm-eval", "--model", "sdtp", "--tasks", "mini_choice_few_shot", *arguments]) == 2
    error = capsys.readouterr().err.rstrip().splitlines()  # the harness's log may come first
    assert error[-1].startswith("sdtp: error: ") and word in error[-1]


def test_the_oracle_is_refused_before_anything_runs(model, tokenizer):
    with pytest.raises(ValueError, match="method 'oracle' must be shown each prompt's answer.*sdtp evaluate"):
        SDTPLM(model, tokenizer, TokenPruning(SCHEDULE, OracleScorer()))
    with pytest.raises(ValueError, match="method 'oracle' must be shown"):
        downstream(None, None, ["mini_choice"], ["full", "oracle"])


def test_the_command_hands_every_argument_over(few_tasks, folder, tmp_path, capsys):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mine.yaml").write_text(
        "task: mine\nclass: !function sdtp_lib.evaluation.harness.tasks.LongBenchTask\ndataset_name: few_shot\n"
    )
    arguments = sys.argv[:]
    model = f"pretrained={folder / 'model'},pruner={folder / 'pruner'},schedule=paper,dtype=float32"
    status = cli.main([
        "lm-eval", "--model", "sdtp", "--model_args", model, "--tasks", "mine,mini_choice_few_shot", "--limit", "2",
        "--include_path", str(tmp_path / "more"), "--metadata", f"data={folder / 'data'}", "--batch_size", "2",
        "--output_path", str(tmp_path / "out"), "--log_samples",
    ])  # fmt: skip
    assert status == 0 and sys.argv == arguments
    table = capsys.readouterr().out
    assert "|Tasks" in table.replace(" ", "") and "mine" in table and "mini_choice_few_shot" in table
    (results,) = (tmp_path / "out").rglob("results_*.json")
    stored = json.loads(results.read_text())
    assert stored["config"]["model"] == "sdtp" and stored["config"]["pretrained"] == str(folder / "model")
    assert stored["config"]["compression"] > 1 and stored["config"]["scorer"] == "TokenPruner"
    assert stored["n-samples"]["mine"]["effective"] == 2
    assert len([*(tmp_path / "out").rglob("samples_*.jsonl")]) == 2


@pytest.mark.parametrize("arguments", [["--help"], [], ["run", "--help"]])
def test_help_is_the_harness_own(capsys, arguments):
    with pytest.raises(SystemExit) if arguments else pytest.MonkeyPatch.context():
        cli.main(["lm-eval", *arguments])
    assert capsys.readouterr().out.startswith("usage: lm-eval")


def test_the_projects_tasks_are_listed_and_valid(few_tasks, capsys):
    assert cli.main(["lm-eval", "ls", "groups"]) == 0
    assert cli.main(["lm-eval", "validate", "--tasks", "longbench_mini,mini_choice"]) == 0
    shown = capsys.readouterr().out
    assert "longbench_mini" in shown and "sdtp_longbench" in shown and "valid" in shown.lower()


def test_the_harness_learns_of_the_model_only_when_asked():
    code = (
        "import sys, sdtp_lib, sdtp_lib.cli; assert 'lm_eval' not in sys.modules\n"
        "from lm_eval.api.registry import model_registry; assert 'sdtp' not in model_registry\n"
        "from sdtp_lib.evaluation.harness.command import register; register(); register()\n"
        "assert 'sdtp' in model_registry and 'sdtp_lib.evaluation.harness.model' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_whole_command_without_a_network(tmp_path):
    """In a process of its own, with all the harness's tasks, which ends where it looks up a host."""
    code = (
        "import os, socket, sys\n"
        "socket.getaddrinfo = lambda *_, **__: os._exit(9)\n"
        "from sdtp_lib.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = ["lm-eval", "--model", "sdtp", "--model_args", "pretrained=demo,schedule=paper", "--tasks",
               "longbench_mini,mini_choice", "--limit", "2", "--batch_size", "4"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert "longbench_mini_report_summary" in done.stdout and "mini_choice_code_completion" in done.stdout
