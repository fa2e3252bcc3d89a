"""The autoencoder's convolutions with fewer multiplications: the same sums, rearranged.

Here frames are [H, W, C]. The rearrangements work with sums of kernels, so they need the weights themselves and
full float32 precision; they are used on CPUs, where multiplications are what takes the time. Everywhere else
(half precision, GPUs, layers that a host keeps to itself) the layer is called as it is.
Derived kernels live for one call: weights may be patched or moved between two calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MinimalFilter:
    """n outputs of a 3-tap filter from n + 2 inputs with n + 2 products instead of 3 n.

    outputs = combine @ ((taps @ filter) * (spread @ inputs)), exactly (Winograd 1980; Lavin & Gray,
    arXiv 1509.09308, section 4). Product 1 enters every output once, so it can carry the bias.
    """

    spread: Matrix  # [n + 2, n + 2]
    taps: Matrix  # [n + 2, 3]
    combine: Matrix  # [n, n + 2]


MINIMAL_FILTERS = {
    2: MinimalFilter(
        spread=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
        taps=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        combine=((1, 1, 1, 0), (0, 1, -1, 1)),
    ),
    4: MinimalFilter(
        spread=(
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        taps=(
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        combine=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
}


def rearranges(layer: Any, like: Tensor) -> bool:
    """Whether sums of the layer's kernels may take its place for inputs such as `like`."""
    at_hand = isinstance(layer.weight, Tensor) and layer.weight.device == like.device
    patched = getattr(layer, "weight_function", None) or getattr(layer, "bias_function", None)
    return at_hand and not patched and like.device.type == "cpu" and like.dtype == torch.float32


class TimeConvolution:
    """A 3 x 3 x 3 convolution, padded in space alone: n + 2 frames give n."""

    def __init__(self, layer: nn.Module, like: Tensor) -> None:
        self.layer: Any = layer
        self.rearranged = rearranges(layer, like)
        self.kernels: dict[int, list[Tensor]] = {}

    def runs(self, frames: int) -> Iterator[tuple[int, int]]:
        """(start, stop) of the pieces to convolve at a time: a single frame if need be, then fours and twos."""
        start = 0
        while start < frames:
            left = frames - start
            stop = start + (1 if left % 2 else 4 if self.rearranged and left >= 4 else 2)
            yield start, stop
            start = stop

    def __call__(self, frames: Sequence[Tensor], out: Tensor) -> None:
        """n + 2 frames [H, W, C] -> out [n, H, W, C out]."""
        if self.rearranged and frames[0] is frames[1] is frames[-1]:
            out[0] = convolve(frames[0], self.layer.weight.float().sum(2), self.layer.bias)
        elif self.rearranged and len(out) in MINIMAL_FILTERS:
            self._minimal(frames, out)
        else:
            clip = torch.stack(list(frames)).permute(3, 0, 1, 2)[None]  # [1, C, n + 2, H, W]
            out.copy_(self.layer(clip)[0].permute(1, 2, 3, 0))

    def _minimal(self, frames: Sequence[Tensor], out: Tensor) -> None:
        """One 3 x 3 convolution per product: here `filter` is three kernels and an input is a frame."""
        filters = MINIMAL_FILTERS[len(out)]
        if len(out) not in self.kernels:
            taps = self.layer.weight.float().unbind(2)  # 3 x [C out, C, 3, 3]
            self.kernels[len(out)] = [weighted_sum(row, taps) for row in filters.taps]
        for product, (row, kernel) in enumerate(zip(filters.spread, self.kernels[len(out)], strict=True)):
            bias = self.layer.bias if product == 1 else None
            image = convolve(weighted_sum(row, frames), kernel, bias)
            for frame, shares in zip(out, filters.combine, strict=True):
                if product == next(i for i, share in enumerate(shares) if share):
                    torch.mul(image, shares[product], out=frame)
                elif shares[product]:
                    frame.add_(image, alpha=shares[product])


def weighted_sum(weights: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    terms = [(weight, tensor) for weight, tensor in zip(weights, tensors, strict=True) if weight]
    total = terms[0][1] * terms[0][0]
    for weight, tensor in terms[1:]:
        total.add_(tensor, alpha=weight)
    return total


def convolve(frame: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """frame [H, W, C], kernel [C out, C, 3, 3] -> [H, W, C out], zeros beyond the edges."""
    bias = None if bias is None else bias.to(frame.dtype)
    return F.conv2d(frame.permute(2, 0, 1)[None], kernel, bias, padding=1)[0].permute(1, 2, 0)


def convolve_enlarged(layer: Any, frame: Tensor, out: Tensor) -> None:
    """frame [H, W, C], doubled in height and width (nearest), through a 3 x 3 layer -> out [2H, 2W, C out].

    An output pixel sees only 2 x 2 different input pixels, and there are four ways in which its 3 x 3 kernel
    falls on them, by its row and column being even or odd: four 2 x 2 kernels, 16 products instead of 36.
    """
    image = frame.permute(2, 0, 1)[None]  # [1, C, H, W]
    if not rearranges(layer, frame):
        out.copy_(layer(F.interpolate(image, scale_factor=2.0))[0].permute(1, 2, 0))
        return
    height, width, _ = frame.shape
    for row in (0, 1):
        kernel_rows = _fold(layer.weight.float(), row, dim=2)
        for column in (0, 1):
            kernel = _fold(kernel_rows, column, dim=3)  # [C out, C, 2, 2]
            phase = F.conv2d(image, kernel, layer.bias.float(), padding=1)[0].permute(1, 2, 0)
            out[row::2, column::2] = phase[row : row + height, column : column + width]


def _fold(kernel: Tensor, odd: int, dim: int) -> Tensor:
    """Three taps to two along `dim`: at an even pixel the last two meet the same input, at an odd one the first."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack([first + middle, last] if odd else [first, middle + last], dim)
