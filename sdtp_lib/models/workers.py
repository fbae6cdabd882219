"""The processes of one launch, by accelerate or torchrun: which of them this is, its share, and what all found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..launcher import processes

Item = TypeVar("Item")
PATIENCE = timedelta(days=7)  # one process may be done with its share hours before another


class Workers:
    """The processes of a launch. Without one a process is alone: the main one, whose share is everything.

    Args:
        state: accelerate's `PartialState` of several processes, or None; see `of_launch`.
        together: whether they hold one model between them (tensor parallelism), so that each does all of the work.

    Attributes:
        count: how many processes there are.
        index: which of them this is, from 0.
    """

    def __init__(self, state: Any = None, together: bool = False):
        self.state, self.together = state, together
        self.count, self.index = (1, 0) if state is None else (state.num_processes, state.process_index)

    @classmethod
    def of_launch(cls, device: str | torch.device | None = None, together: bool = False) -> Workers:
        """The processes that a launcher has started, talking to each other from now on; alone if there is no other.

        Args:
            device: "cpu" for processes that compute there, on a machine with GPUs as well.
            together: see `Workers`.
        """
        if processes() == 1:
            return cls()
        from accelerate import PartialState  # takes seconds, which a process alone shall not wait

        on_cpu = str(device).startswith("cpu") or not torch.cuda.is_available()
        return cls(PartialState(cpu=on_cpu, timeout=PATIENCE), together)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and draws bars."""
        return self.index == 0

    def device(self, wanted: str | torch.device | None = None) -> str | torch.device | None:
        """Where this process computes: its own GPU, of those wanted or by default; alone just what is wanted."""
        if self.state is None or self.state.device.type == "cpu":
            return wanted
        return self.state.device if wanted is None or str(wanted) == self.state.device.type else wanted

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `count`-th item, so that where they are sorted by length no process gets all of the long ones."""
        return items if self.together else items[self.index :: self.count]

    def gather(self, items: list[Item]) -> list[Item]:
        """The items of all shares, those of the main process first."""
        return items if self.together else sum(self.of_all(items), [])

    def of_all(self, value: Item) -> list[Item]:
        """The value of every process, that of the main one first."""
        if self.state is None:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])

    def on_main(self, call: Callable[[], Item]) -> Item:
        """What `call` returns in the main process, which alone makes it.

        Raises:
            ValueError, OSError: in every process, if the call raised it; RuntimeError in the others for another error.
        """
        if self.state is None:
            return call()
        from accelerate.utils import broadcast_object_list

        outcome: list = [None, None]
        if self.main:
            try:
                outcome[0] = call()
            except Exception as error:  # the others would wait for an answer until they are killed
                known, failed = isinstance(error, (ValueError, OSError)), error
                outcome[1] = error if known else RuntimeError(f"the main process failed: {error!r}")
        broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise failed if self.main else outcome[1]
        return outcome[0]

    def check_same(self, what: str, values: Mapping[str, Any]) -> None:
        """Raise ValueError, in every process, unless all have the same `values` (plain JSON values)."""
        first, *others = self.of_all(values)
        for other in others:
            for key in sorted({*first, *other}):
                if first.get(key) != other.get(key):
                    both = f"{first.get(key)!r} and {other.get(key)!r}"
                    raise ValueError(f"the processes of this launch differ in {what}: {key} is {both}")

    def total(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums over the processes, without gradients, of small tensors that have the same shapes in each."""
        values = {name: part.detach() for name, part in parts.items()}
        if self.state is None:
            return values
        from accelerate.utils import reduce

        sums = reduce(torch.cat([value.flatten().float() for value in values.values()]), "sum")
        cut = sums.split([value.numel() for value in values.values()])
        return {name: piece.view_as(value) for piece, (name, value) in zip(cut, values.items(), strict=True)}

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over the processes where there are several (DDP)."""
        return module if self.state is None else nn.parallel.DistributedDataParallel(module)

    def bar(self, **options) -> tqdm:
        """A progress bar, drawn by the main process alone."""
        return tqdm(**options) if self.main else tqdm(**options, disable=True)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.state is not None:
            self.state.wait_for_everyone()
