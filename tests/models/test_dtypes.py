"""`auto`: the number format that is faster here, decided once, and what the commands say and write of it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from folders import save_model, save_pruner

from sdtp_lib.cli import main
from sdtp_lib.evaluation.harness.arguments import load
from sdtp_lib.latency.sweep_points import measure_point
from sdtp_lib.models import dtypes
from sdtp_lib.models.dtypes import DTYPES, resolve_dtype
from sdtp_lib.models.loading import load_model

SLOW, FAST = {"float32": 1.0, "bfloat16": 7.0}, {"float32": 1.0, "bfloat16": 0.3}  # seconds of a product
CHOICE = (
    "import torch; from sdtp_lib.models.dtypes import resolve_dtype; "
    "print(resolve_dtype('auto', 'cpu'), torch.cpu._is_amx_tile_supported())"
)


@pytest.fixture
def home(tmp_path):
    save_model(tmp_path / "model")
    save_pruner(tmp_path / "pruner")
    return tmp_path


@pytest.fixture
def machine(monkeypatch):
    """Stands for a processor: products take as long as told; gives back how often they were timed."""

    def stand(seconds):
        asked.clear()
        dtypes.faster_on_cpu.cache_clear()
        monkeypatch.setattr(dtypes, "product_seconds", lambda dtype: asked.append(dtype) or seconds[dtype])
        return asked

    asked = []
    yield stand
    dtypes.faster_on_cpu.cache_clear()


@pytest.mark.parametrize("seconds, expected", [(SLOW, "float32"), (FAST, "bfloat16")])
def test_the_faster_one_is_taken_on_a_cpu_and_timed_once(machine, seconds, expected):
    asked = machine(seconds)
    assert [resolve_dtype("auto", "cpu") for _ in range(3)] == [expected] * 3
    assert sorted(asked) == ["bfloat16", "float32"]


def test_a_named_one_stays_and_nothing_is_timed(machine):
    asked = machine(SLOW)
    assert [resolve_dtype(name, "cpu") for name in DTYPES] == [*DTYPES] and not asked


def test_a_gpu_takes_bfloat16(machine, monkeypatch):
    asked = machine(SLOW)
    monkeypatch.setattr(dtypes, "pick_device", lambda device: torch.device("cuda"))
    assert resolve_dtype("auto") == "bfloat16" and not asked


def test_an_unknown_one_is_refused():
    with pytest.raises(ValueError, match="unknown dtype 'int8'; known: auto, bfloat16, float16, float32"):
        resolve_dtype("int8")


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="the processor has no matrix units for bfloat16")
@pytest.mark.parametrize("best, expected", [("ALL", "bfloat16"), ("AVX2", "float32")])
def test_a_real_processor_with_and_without_units(best, expected):
    """ONEDNN_MAX_CPU_ISA keeps torch from the units that are there, so that products take as long as without them."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": best}
    said = subprocess.run([sys.executable, "-c", CHOICE], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == expected


@pytest.mark.parametrize("seconds, expected", [(SLOW, "float32"), (FAST, "bfloat16")])
def test_every_command_says_and_records_what_was_taken(machine, home, capsys, seconds, expected):
    machine(seconds)
    assert load_model(home / "model", device="cpu")[0].dtype == DTYPES[expected]
    loaded, _, _ = load(home / "model", home / "pruner", "keep07", device="cpu")
    assert loaded.dtype == DTYPES[expected]
    given = ["--model", str(home / "model"), "--pruner", str(home / "pruner"), "--device", "cpu"]
    evaluate = ["evaluate", "--tasks", "singledoc_qa", "--method", "sdtp", "--schedule", "keep07", "--limit", "1"]
    profile = ["profile", "--mode", "prefill", "--config", "keep07", "--lengths", "9", "--repeats", "1"]
    for command, *options in (evaluate, profile):
        out = home / f"{command}.json"
        assert main([command, *options, *given, "--output", str(out)]) == 0
        assert json.loads(out.read_text())["metadata"]["dtype"] == expected
    said = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(f"model in {expected} on ") for line in said) == 3


def test_a_run_goes_on_only_in_the_format_it_began_in(machine, home, capsys):
    again = ["evaluate", "--tasks", "singledoc_qa", "--method", "random", "--schedule", "keep07", "--limit", "1"]
    again += ["--model", str(home / "model"), "--device", "cpu", "--resume", "--output", str(home / "out.json")]
    statuses = []
    for seconds in (FAST, FAST, SLOW):
        machine(seconds)
        statuses.append(main(again))
    assert statuses == [0, 0, 2]
    assert "dtype was 'bfloat16' and is now 'float32'" in capsys.readouterr().err
    assert main([*again, "--dtype", "bfloat16"]) == 0


def test_a_point_of_a_sweep_is_called_after_the_format_taken(machine, home, monkeypatch):
    monkeypatch.setenv("SDTP_RESULTS", str(home / "results"))
    given = dict(pruner=home / "pruner", repeats=1)
    for seconds, options in ((FAST, {}), (SLOW, {}), (SLOW, {"dtype": "float32"}), (SLOW, {"dtype": "auto"})):
        machine(seconds)
        measure_point("p", str(home / "model"), "keep07", 9, "prefill", device="cpu", **given, **options)
    found = sorted(json.loads(file.read_text())["metadata"]["dtype"] for file in home.rglob("points/*.json"))
    assert found == ["bfloat16", "float32"]
