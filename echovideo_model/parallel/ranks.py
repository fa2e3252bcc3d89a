"""The processes of one run, one device each: their numbers, and what they exchange.

`torchrun` starts them, or parallel.launch on one machine; without either there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from ..errors import RankLost, is_out_of_memory

MAX_SILENCE = timedelta(minutes=30)
"""How long a rank waits for another during shared work, when all do the same."""
MAX_ALONE = timedelta(days=1)
"""How long the first rank may work alone (faces, text, decoding, files). A rank that ends is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run, or of a part of it."""

    rank: int = 0
    size: int = 1
    group: Any = None  # of torch.distributed; None is all processes
    control: Any = None  # the same processes, for `share` and `receive`

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.rank == 0

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor, in place, by its sum over all processes."""
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])  # one message instead of hundreds
        with _together():
            distributed.all_reduce(flat, group=self.group)
        for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def exchange(self, parts: Tensor) -> Tensor:
        """parts [size, ...]: part i goes to rank i; returns [size, ...] with what rank i sent here."""
        if self.size == 1:
            return parts
        parts = parts.contiguous()
        received = torch.empty_like(parts)  # else its strides would be those of `parts` before
        with _together():
            distributed.all_to_all_single(received, parts, group=self.group)
        return received

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor, all of one shape."""
        if self.size == 1:
            return [tensor]
        tensor = tensor.contiguous()
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        with _together():
            distributed.all_gather(gathered, tensor, group=self.group)
        return gathered

    def share(self, value: Any) -> None:
        """The first rank's side of `receive`; `value` may be anything that can be pickled."""
        if self.size > 1:
            with _together():
                distributed.broadcast_object_list([value], group=self.control, device=torch.device("cpu"))

    def receive(self) -> Any:
        """What the first rank shares next."""
        values: list[Any] = [None]
        with _together():
            distributed.broadcast_object_list(values, group=self.control, device=torch.device("cpu"))
        return values[0]

    def wait(self) -> None:
        """Waits until all processes are here."""
        if self.size > 1:
            with _together():
                distributed.barrier(group=self.group)


@contextmanager
def join(device: torch.device, **rendezvous: Any) -> Iterator[Ranks]:
    """This process's ranks: as torchrun says in the environment, or by init_process_group's `rendezvous` (store, rank
    and world_size). One process if neither says otherwise."""
    if not rendezvous and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _together():
        distributed.init_process_group(backend, timeout=MAX_SILENCE, **rendezvous)
    try:
        with _together():
            control = distributed.new_group(backend="gloo", timeout=MAX_ALONE)
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), control=control)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Turns what PyTorch raises when another rank is gone into one class for every backend."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        minutes = MAX_SILENCE.total_seconds() / 60
        raise RankLost(
            f"another rank has ended, or has not answered for {minutes:g} minutes: check its messages "
            "and the memory of its machine"
        ) from error
