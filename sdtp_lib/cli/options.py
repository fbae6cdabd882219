"""What each `sdtp` command takes; nothing is imported here that a parser does not need."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ..options import ASKED, COMPARED, DECODES, DEVICE_MAPS, DTYPES, METHODS, MODES, SENTENCES
from ..pruning.schedule import PRESET_NAMES, is_name

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
# The smallest value of every option that is a number, or a list of them.
SMALLEST = {
    "num_samples": 1, "max_tokens": 1, "seed": 0, "epochs": 1, "batch_size": 1, "lengths": 1, "repeats": 1, "chunk": 1,
    "limit": 1, "tokens": 64, "new_tokens": 1, "jobs": 1, "window": 1,
}  # fmt: skip
LARGEST = 2**32 - 1  # as a seed

PRUNER = "a pruner's folder, or paper, question_aware or tuned of a model that comes with it, such as smollm2-135m"
METHOD = f"{', '.join(METHODS)}; sdtp takes the pruner's scores"


def check_numbers(options: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the option, for a number that is too small or too large; before anything is loaded."""
    for name in SMALLEST.keys() & options.keys():
        values = options[name] if isinstance(options[name], (list, tuple)) else [options[name]]
        for value in values:
            if value is not None and not SMALLEST[name] <= value <= LARGEST:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} must be a whole number from {SMALLEST[name]} to {LARGEST}, got {value}")


def _model_options(parser: argparse.ArgumentParser, default: str, dtype: str, help: str) -> None:
    known = f"{help}; or a GGUF file, or a model that `sdtp fetch` took"
    parser.add_argument("--model", default=default, metavar="NAME|FOLDER|FILE", help=known)
    parser.add_argument("--revision", default=None, metavar="COMMIT", help="of a model on the Hub")
    parser.add_argument("--dtype", choices=DTYPES, default=dtype, help="of the weights; auto: the faster one here")
    parser.add_argument("--device", default=None, help="cpu, cuda, ...; by default the GPU if there is one")


def _placement_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device-map", choices=DEVICE_MAPS, default=None, help="lay the model over all devices")
    split = "split every layer over the processes that torchrun started"
    parser.add_argument("--tensor-parallel", action="store_true", help=split)


def _chat_template(parser: argparse.ArgumentParser, prompts: str) -> None:
    """`--chat-template` and `--no-chat-template`; neither of them is None."""
    meant = f"put {prompts} into the model's chat template, or not; by default if it has one"
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--chat-template", action=switch, default=argparse.SUPPRESS, help=meant)


def _any_model(parser: argparse.ArgumentParser) -> None:
    meant = "take a pruner also if it was trained on a model with other weights"
    parser.add_argument("--any-model", action="store_true", help=meant)


def _schedule(parser: argparse.ArgumentParser, default: str) -> None:
    cuts = (
        f"where and how much is cut: {', '.join(PRESET_NAMES)}; cuts such as 15:0.3 (one at layer 15 to 30%%); 1.6, "
        f"free and the like, if the pruner was tuned for it; by default what it was tuned for first, else {default}"
    )
    parser.add_argument("--schedule", default=None, metavar="NAME|LAYERS:RATIO", help=cuts)


def mark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the marks go")
    sources = "demo, dolly, squad, or JSONL of prompts with answers or of chats"
    parser.add_argument("--data", default="demo", metavar="NAME|FILE", help=sources)
    _chat_template(parser, "prompts")
    known = "prompts to mark; by default all that fit of a file, 1000 of other data"
    parser.add_argument("--num-samples", type=int, default=None, metavar="N", help=known)
    parser.add_argument("--schedule", choices=PRESET_NAMES, default="paper", help="its layers are marked")
    parser.add_argument("--target", choices=("answer", "all"), default="answer", help="whose likelihood counts")
    parser.add_argument("--max-tokens", type=int, default=2048, metavar="N", help="longer samples are passed over")
    parser.add_argument("--seed", type=int, default=0, help="of the samples drawn")
    _model_options(parser, "demo", "float32", "the frozen model: demo, a folder, or a name on the Hub")


def train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--marks", required=True, metavar="FOLDER", help="what `sdtp mark` wrote")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the pruner goes")
    parser.add_argument("--schedule", choices=PRESET_NAMES, default="paper", help="its stages are trained")
    kinds = "mlp, the paper's module, or question_aware, which reads the question as well"
    parser.add_argument("--kind", default="mlp", metavar="NAME", help=kinds)
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="passes over the marks")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N", help="prompts in one step")
    parser.add_argument("--lr", type=float, default=1e-2, metavar="RATE", help="peak learning rate")
    parser.add_argument(
        "--classification", action=argparse.BooleanOptionalAction, default=True,
        help="the pruned model's cross-entropy counts too; its steps need gradients through the whole model",
    )  # fmt: skip
    parser.add_argument("--without", nargs="+", choices=("rank", "mse"), default=(), help="losses to leave out")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and noise")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of an interrupted run")
    _model_options(parser, "demo", "float32", "the frozen model that made the marks")


def tune(parser: argparse.ArgumentParser) -> None:
    _model_options(parser, "demo", "float32", "the frozen model: demo, a folder, or a name on the Hub")
    sources = "demo, dolly, squad, or JSONL of prompts with answers or of chats"
    parser.add_argument("--data", required=True, metavar="NAME|FILE", help=sources)
    ratios = "FLOPs full / pruned of the prefill to search schedules for; the first is the default"
    parser.add_argument("--flop-ratio", nargs="+", type=float, required=True, metavar="RATIO", help=ratios)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="gets pruner, schedules and model card")
    parser.add_argument("--quick", action="store_true", help="fewer prompts, epochs and candidates")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished work in the output")
    _chat_template(parser, "prompts")
    parser.add_argument("--max-tokens", type=int, default=2048, metavar="N", help="longer prompts are passed over")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the modules and their training")


def _config(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"unknown schedule {text!r}; known: {', '.join(PRESET_NAMES)}")
    return text


def _pool(text: str) -> int | str:
    if text != SENTENCES and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither an odd whole number nor {SENTENCES!r}")
    return text if text == SENTENCES else int(text)


def profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", required=True, choices=MODES, help="the prefill alone, or 128 new tokens as well")
    known = f"a schedule: {', '.join(PRESET_NAMES)} (the full model); or 1.6, free, ..., if --pruner was tuned for it"
    parser.add_argument("--config", type=_config, default=None, metavar="NAME", help=f"{known}; by default its first")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, metavar="N", help="prompt lengths in tokens")
    parser.add_argument("--pruner", default=None, metavar="FOLDER", help=f"{PRUNER}; a shape needs none")
    _any_model(parser)
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="timed runs of each side")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and of random weights")
    parser.add_argument("--output", default=None, metavar="FILE.json", help="without it only a table is shown")
    parser.add_argument("--resume", action="store_true", help="go on with the lengths that the file lacks")
    parser.add_argument(
        "--chunk", type=int, default=None, metavar="N", help="MLPs take so many tokens at once, both sides"
    )
    parser.add_argument("--decode", choices=DECODES, default="sdpa", help="attention of the decode steps, both sides")
    parser.add_argument("--memory", action="store_true", help="on a CPU, read peak memory too, in fresh processes")
    _model_options(parser, "scaled-mistral", "auto",
                   "a model, or a shape with random weights: scaled-mistral, mistral-7b")  # fmt: skip
    _placement_options(parser)


def evaluate(parser: argparse.ArgumentParser) -> None:
    tasks = "longbench_mini, longbench, real, datasets such as needle; with spaces or commas between them"
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help=tasks)
    parser.add_argument("--method", default="full", help=METHOD)
    _schedule(parser, "paper")
    near = (
        "every score is the mean of W neighbours', an odd number, or the highest of its sentence; by default as the "
        "pruner says, else 1"
    )
    parser.add_argument("--pool", type=_pool, default=None, metavar=f"W|{SENTENCES}", help=near)
    asks = f"last tokens that ask, of {', '.join(ASKED)}; by default 16 of attention, 32 of the others"
    parser.add_argument("--window", type=int, default=None, metavar="N", help=asks)
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="records per task")
    parser.add_argument("--pruner", default=None, metavar="FOLDER", help=PRUNER)
    _any_model(parser)
    parser.add_argument("--data", default=None, metavar="NAME|FOLDER", help="records from here, not the usual place")
    length = "of a prompt: real tasks are built to it (1024), all others cut in the middle to it"
    parser.add_argument("--tokens", type=int, default=None, metavar="N", help=length)
    _chat_template(parser, "prompts, but for few-shot and code tasks,")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="prompts at a time")
    parser.add_argument("--seed", type=int, default=0, help="of random scores and of the intervals")
    parser.add_argument("--output", default=None, metavar="FILE.json", help="without it only a table is shown")
    parser.add_argument("--resume", action="store_true", help="go on with the samples of an interrupted run")
    _model_options(parser, "demo", "auto", "demo, a folder, or a name on the Hub")
    _placement_options(parser)


def fetch(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", default=None, metavar="NAME", help="of the model, as --list shows it")
    which.add_argument("--list", dest="show", action="store_true", help="what there is, licence, sizes")


def lm_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="those of lm-eval; --help lists them")


def demo(parser: argparse.ArgumentParser) -> None:
    own = "UTF-8 text, - for stdin; by default a record of the demo"
    parser.add_argument("--prompt-file", default=None, metavar="FILE", help=own)
    parser.add_argument("--output", default="runs/demo.html", metavar="FILE.html", help="the explorer's page")
    _pruned_prompt(parser, "paper")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed prefills of each side")
    _model_options(parser, "demo", "auto", "demo, demo-dense, a folder, or a name on the Hub")


def explore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt-file", required=True, metavar="FILE", help="UTF-8 text, - for stdin")
    parser.add_argument("--output", required=True, metavar="FILE.html", help="one page that needs nothing else")
    _pruned_prompt(parser, "keep07")
    beside = f"the score beside it: {', '.join(COMPARED)}, or a pruner's folder"
    parser.add_argument("--compare", default="random", metavar="NAME|FOLDER", help=beside)
    parser.add_argument("--answer", default=None, metavar="TEXT", help="its saliency; by default the full model's own")
    parser.add_argument("--seed", type=int, default=0, help="of random scores")
    _model_options(parser, "demo", "auto", "demo, demo-dense, a folder, or a name on the Hub")


def _pruned_prompt(parser: argparse.ArgumentParser, schedule: str) -> None:
    parser.add_argument("--pruner", default=None, metavar="FOLDER", help=PRUNER)
    _any_model(parser)
    _schedule(parser, schedule)
    parser.add_argument("--no-saliency", dest="saliency", action="store_false", help="leave out the backward pass")
    _chat_template(parser, "the prompt")
    parser.add_argument("--new-tokens", type=int, default=48, metavar="N", help="of each generated answer, at most")


def report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--html", default=None, metavar="FILE.html", help="all results of --profile on one page instead"
    )
    parser.add_argument("--profile", default="demo", help="whose results --html shows")
    points = "latency files of single points, as notebook 11 writes them, in one table instead"
    parser.add_argument("--points", default=None, metavar="FOLDER", help=points)
    parser.add_argument("--baseline", default=None, metavar="FILE", help="what `sdtp profile --config none` wrote")
    for ratio in ("09", "08", "07"):
        parser.add_argument(f"--sdtp{ratio}", default=None, metavar="FILE", help=f"the same for keep{ratio}")
    parser.add_argument("--mode", default=None, choices=MODES, help="which times to compare")
    parser.add_argument("--lengths", nargs="+", type=int, default=None, metavar="N", help="by default all measured")
    parser.add_argument("--output", default=None, metavar="FILE.md", help="the table, in Markdown")


def reproduce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="demo", help="a folder of notebooks/profiles")
    parser.add_argument("--only", default=None, metavar="NN", help="run this notebook alone")
    instead = "load this model in every notebook, whatever the profile names"
    parser.add_argument("--model", default=None, metavar="NAME|FOLDER|FILE", help=instead)
    parser.add_argument("--resume", action="store_true", help="skip notebooks that are done and unchanged")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="notebooks at a time, in processes of their own"
    )
    parser.add_argument("--shard", default=None, metavar="I/N", help="slice I of N of the notebooks alone")
    stored = "from a tree without changes; then renew results/PROFILE and figures/PROFILE (make store)"
    parser.add_argument("--store", action="store_true", help=stored)
