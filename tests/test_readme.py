"""The README's first two minutes: the snippet runs as it stands there, and the output is what the command says."""

import re
import subprocess
import sys

from sdtp_lib import paths
from sdtp_lib.explorer.demo import demo, report

SECTION = (paths.ROOT / "README.md").read_text().split("## The first two minutes\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", SECTION, re.DOTALL)


def test_the_snippet_runs_as_pasted(tmp_path):
    (snippet,) = [text for language, text in BLOCKS if language == "python"]
    assert len([line for line in snippet.splitlines() if line]) <= 14
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer, trace, *_, lengths = done.stdout.splitlines()
    assert answer == " Nina. The animal of Nina is otter." and "tokens, pruned, KV cache" in trace
    assert lengths.startswith("[7, 7") and not list(tmp_path.iterdir())


def test_the_output_shown_is_that_of_the_command(tmp_path):
    """All of it but the seconds."""
    found = demo(tmp_path / "demo.html", repeats=1, dtype="float32", device="cpu")
    known = [line.split() for line in report(found).splitlines()]  # columns are as wide as their numbers
    shown = next(text for _, text in BLOCKS if text.startswith("Model "))
    kept = {words[0] for line in shown.splitlines() if (words := line.split()) and words in known}
    others = [words[0] for line in shown.splitlines() if (words := line.split()) and words not in known]
    assert others == ["prefill", "Prefill:", "Token"]
    assert kept == {"Model", "Prompt", "...", "right", "full", "pruned", "cut", "KV", "tokens"}
