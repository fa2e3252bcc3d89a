"""Muon for convolution kernels (Jordan 2024, https://kellerjordan.github.io/posts/muon/)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from echovideo_model.training.muon import look_ahead, orthogonalise


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is a nearly orthogonal matrix: [out, everything else] of a kernel."""

    def __init__(self, kernels: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(kernels, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                update = orthogonalise(look_ahead(kernel, self.state[kernel]).flatten(1))
                rate = group["lr"] * max(1, update.shape[0] / update.shape[1]) ** 0.5
                kernel.add_(update.view_as(kernel), alpha=-rate)
