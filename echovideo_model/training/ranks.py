"""Several devices: each process takes its slice of the global batch, and gradients are added up.

`torchrun --nproc-per-node N -m echovideo_model train RECIPE.toml` starts N of them; without torchrun there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from ..errors import InvalidRequest


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.rank == 0

    def slice(self, batch: int) -> range:
        """This process's places in a global batch. Raises InvalidRequest if it cannot be shared out evenly."""
        if batch % self.size:
            raise InvalidRequest(
                f"[batch] size {batch} cannot be shared by {self.size} devices: choose a multiple of {self.size}"
            )
        share = batch // self.size
        return range(self.rank * share, (self.rank + 1) * share)

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes the sum of all processes' ones, in place."""
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])  # one message instead of hundreds
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def join(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """This process's ranks and device, as torchrun has set them; one process on `device` without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()
