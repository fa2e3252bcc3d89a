"""The optimisers of a run: AdamW, or Muon for the blocks' matrices with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidRequest
from .recipe import Optimizer

HIDDEN = (".transformer_blocks.", ".layers.", ".block.")  # of the transformer, its IITF, and T5
MOMENTS = {"AdamW": ("exp_avg", "exp_avg_sq"), "Muon": ("momentum_buffer",)}


class Optimizers:
    """One or two of torch's, stepped together."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], recipe: Optimizer) -> None:
        """parameters: by their names in the state. Raises InvalidRequest for a kind that this PyTorch lacks."""
        matrices, others = [], []
        for name, parameter in parameters.items():
            (matrices if recipe.kind == "muon" and is_hidden(name, parameter) else others).append(parameter)
        self.all: list[torch.optim.Optimizer] = [_make_adamw(others, recipe)] if others else []
        if matrices:
            self.all.append(_make_muon(matrices, recipe))

    def set_rate(self, rate: float) -> None:
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        for optimizer in self.all:
            optimizer.step()

    def prepare_moments(self, step: int) -> None:
        """Makes each moment, as zeros, as it is after `step` steps: to be copied into."""
        for optimizer in self.all:
            for parameter in _parameters(optimizer):
                moments: dict[str, Any] = {name: torch.zeros_like(parameter) for name in _names(optimizer)}
                if isinstance(optimizer, torch.optim.AdamW):
                    moments["step"] = torch.tensor(float(step))
                optimizer.state[parameter] = moments

    def moments(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """Every moment as MOMENT.NAME."""
        of = {parameter: optimizer for optimizer in self.all for parameter in _parameters(optimizer)}
        return {
            f"{moment}.{name}": of[parameter].state[parameter][moment]
            for name, parameter in parameters.items()
            for moment in _names(of[parameter])
        }


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: matrices between hidden layers, neither embeddings nor the first and last ones
    (Jordan 2024, https://kellerjordan.github.io/posts/muon/)."""
    return parameter.ndim == 2 and any(part in name for part in HIDDEN)


def _make_adamw(parameters: Sequence[nn.Parameter], recipe: Optimizer) -> torch.optim.Optimizer:
    """Only what has two dimensions or more decays."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas)


def _make_muon(parameters: Sequence[nn.Parameter], recipe: Optimizer) -> torch.optim.Optimizer:
    """Its steps are scaled to be as long as AdamW's usually are, so that one rate serves both."""
    if not hasattr(torch.optim, "Muon"):
        raise InvalidRequest(
            f'[optimizer] kind "muon" needs PyTorch 2.9 or newer, not {torch.__version__}: choose "adamw"'
        )
    return torch.optim.Muon(
        parameters, lr=recipe.rate, weight_decay=recipe.decay, adjust_lr_fn="match_rms_adamw"
    )


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _names(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    return MOMENTS[type(optimizer).__name__]


__all__ = ["Optimizers", "is_hidden"]
