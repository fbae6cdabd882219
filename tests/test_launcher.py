"""What a process knows of the others that it was launched with."""

import torch

from sdtp_lib.launcher import leave_group


def test_a_process_leaves_its_group_once(tmp_path):
    leave_group()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    leave_group()
    assert not torch.distributed.is_initialized()
    leave_group()
