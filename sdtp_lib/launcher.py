"""What a launcher, accelerate or torchrun, told this process through its environment."""

from __future__ import annotations

import os


def processes() -> int:
    """How many processes were launched together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def is_main() -> bool:
    """Whether this process is the first of them, or alone."""
    return processes() == 1 or os.environ.get("RANK", "0") == "0"
