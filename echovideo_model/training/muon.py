"""Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/): momentum whose every update is nearly orthogonal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..parallel.ranks import Ranks

MOMENTUM = 0.95
RATE = 0.2
"""An update's root mean square, as a share of the rate: about AdamW's, so that one rate suits both (Liu et al. 2025,
arXiv 2502.16982, section 2.2)."""


class MuonWithAdamW(torch.optim.AdamW):
    """Muon for `matrices`, AdamW for everything else; both decay their weights at the rate.

    The ranks share the matrices' orthogonalisation out among themselves; gradients must be the same on all of them.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        groups: Iterable[Mapping[str, object]],
        rate: float,
        betas: tuple[float, float],
        decay: float,
        ranks: Ranks,
    ) -> None:
        self.stacks = _stack(matrices)
        self.ranks = ranks
        super().__init__([dict(group) for group in groups], lr=rate, betas=betas)
        self.decay = decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step()
        rate = self.param_groups[0]["lr"]
        updates = [self._find_update(stack, number) for number, stack in enumerate(self.stacks)]
        self.ranks.add_up(updates)
        for stack, update in zip(self.stacks, updates, strict=True):
            for matrix, direction in zip(stack, update, strict=True):
                matrix.mul_(1 - rate * self.decay)
                matrix.add_(direction, alpha=-rate * RATE * max(matrix.shape) ** 0.5)

    def _find_update(self, stack: list[nn.Parameter], number: int) -> Tensor:
        """The directions [n, rows, columns] of one stack, or zeros if it is another rank's."""
        ahead = torch.stack([look_ahead(matrix, self.state[matrix]) for matrix in stack])
        return orthogonalise(ahead) if number % self.ranks.size == self.ranks.rank else ahead.zero_()


def look_ahead(parameter: nn.Parameter, state: dict[str, Tensor]) -> Tensor:
    """Nesterov's gradient, after the parameter's own has moved the momentum that its `state` keeps."""
    assert parameter.grad is not None
    momentum = state.setdefault("exp_avg", torch.zeros_like(parameter))
    momentum.lerp_(parameter.grad, 1 - MOMENTUM)
    return parameter.grad.lerp(momentum, MOMENTUM)


def orthogonalise(matrices: Tensor) -> Tensor:
    """matrices [..., rows, columns] -> about U V of each singular value decomposition U S V, by five Newton-Schulz
    steps in the matrices' own dtype: singular values come to lie between 0.5 and 1.2."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


def _stack(matrices: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Up to eight matrices of one shape in each: large enough for one product, small enough to share out."""
    by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
    for matrix in matrices:
        by_shape[matrix.shape].append(matrix)
    return [same[first : first + 8] for same in by_shape.values() for first in range(0, len(same), 8)]


__all__ = ["MuonWithAdamW", "look_ahead", "orthogonalise"]
