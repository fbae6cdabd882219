"""What a launcher, accelerate or torchrun, told this process through its environment."""

from __future__ import annotations

import os
import sys


def processes() -> int:
    """How many processes were launched together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def is_main() -> bool:
    """Whether this process is the first of them, or alone."""
    return processes() == 1 or os.environ.get("RANK", "0") == "0"


def leave_group() -> None:
    """Leave torch's group of processes, if this one is in it: its threads end a process that exits over them."""
    distributed = sys.modules.get("torch.distributed")  # not imported for a command that ran alone
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
