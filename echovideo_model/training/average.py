"""An average of the weights over the steps, which is what a run writes, since it is smoother than any single step's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Float32 copies of the parameters that follow them; with a share of 0 they are the parameters themselves."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], share: float) -> None:
        """`share` is what is kept of the average in each step, 0..1: 0.995 looks back about 200 steps."""
        self.parameters, self.share = parameters, share
        self.values: dict[str, Tensor] = (
            {name: parameter.detach().clone() for name, parameter in parameters.items()} if share else {}
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step number `step`, from 1. Early steps count for more, or the start would be remembered for long."""
        share = min(self.share, step / (step + 9))
        for name, value in self.values.items():
            value.lerp_(self.parameters[name], 1 - share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averaged weights in the network for the block's duration."""
        trained = {name: self.parameters[name].data for name in self.values}
        try:
            for name, value in self.values.items():
                self.parameters[name].data = value
            yield
        finally:
            for name, value in trained.items():
                self.parameters[name].data = value
