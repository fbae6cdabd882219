"""Quiet, offline, and away from the tracked results; set before any test module imports a Hugging Face library."""

import os
import signal

import hypothesis
import pytest

os.environ |= {
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "agg",
}
os.environ.setdefault("OMP_NUM_THREADS", "1")  # on tiny models threads mostly wait for each other: half the time

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell turns off in what it starts in the background

hypothesis.settings.register_profile("shared", deadline=None)  # on a busy machine an example may wait for its turn
hypothesis.settings.load_profile("shared")


@pytest.fixture(scope="session", autouse=True)
def away_from_tracked_results(tmp_path_factory):
    """Results and figures of all tests go to a temporary folder unless a test names another."""
    folder = tmp_path_factory.mktemp("output")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDTP_RESULTS", str(folder / "results"))
        patch.setenv("SDTP_FIGURES", str(folder / "figures"))
        yield
