"""Two processes on this machine that talk over loopback, started as a user starts them, and gone when a test ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

TIMEOUT = 240


def launch(*arguments, processes=2):
    """Run `accelerate launch` on a Python script or `-m module`; returns the finished process, its output as text."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_ip", "127.0.0.1", "--main_process_port", "0"]  # 0: a free one
    places = [str(Path(__file__).parents[1]), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(places),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    process = subprocess.Popen(
        [*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = process.communicate(timeout=TIMEOUT)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # none is left
            pass
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)
