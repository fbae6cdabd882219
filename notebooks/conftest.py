"""For nbval: kernels as quiet and offline as those that stored the notebooks, and away from the tracked results."""

import os
import shutil
import tempfile

from sdtp_lib.runner.execution import KERNEL, OFFLINE

FOLDER = tempfile.mkdtemp()
OUTPUT = {"SDTP_RESULTS": f"{FOLDER}/results", "SDTP_FIGURES": f"{FOLDER}/figures"}
os.environ |= OUTPUT | dict(os.environ) | KERNEL | OFFLINE  # folders that are already set stay


def pytest_unconfigure():
    """Take the temporary results away again."""
    shutil.rmtree(FOLDER, ignore_errors=True)
