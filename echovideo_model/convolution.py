"""The autoencoder's convolutions with fewer multiplications: the same sums, rearranged.

Here frames are [H, W, C]. The rearrangements work with sums of kernels, so they need the weights themselves and
full float32 precision; they are used on CPUs, where multiplications are what takes the time. Everywhere else
(half precision, GPUs, layers that a host keeps to itself) the layer is called as it is.
Derived kernels live for one call: weights may be patched or moved between two calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Matrix = tuple[tuple[float, ...], ...]
MINIMAL_PIXELS = 2048  # in smaller frames, deriving the kernels takes longer than they save


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

    def __init__(self, layer: Any, like: Tensor) -> None:
        """`like` has the dtype and device of the frames to come."""
        self.layer = layer
        self.rearranged = rearranges(layer, like)
        self.kernels: dict[int, list[Tensor]] = {}

    def runs(self, frames: int) -> Iterator[tuple[int, int]]:
        """(start, stop) of the pieces to convolve at a time: single frames, or fours and twos after an odd one."""
        start = 0
        while start < frames:
            left = frames - start
            stop = start + (1 if left % 2 or not self.rearranged else 4 if left >= 4 else 2)
            yield start, stop
            start = stop

    def __call__(self, frames: Sequence[Tensor], out: Tensor) -> None:
        """n + 2 frames [H, W, C] -> out [n, H, W, C out]."""
        still = frames[0] is frames[1] is frames[-1]  # then one kernel, the sum over time, does it
        if self.rearranged and still:
            out[0] = convolve(frames[0], self._taps().sum(0), self.layer.bias)
        elif self.rearranged and len(out) in MINIMAL_FILTERS and out[0, ..., 0].numel() >= MINIMAL_PIXELS:
            self._minimal(frames, out)
        else:
            clip = torch.stack(list(frames)).permute(3, 0, 1, 2)[None]  # [1, C, n + 2, H, W]
            out.copy_(self.layer(clip)[0].permute(1, 2, 3, 0))

    def _minimal(self, frames: Sequence[Tensor], out: Tensor) -> None:
        """One 3 x 3 convolution per product: what the filter calls a number is a frame here, or a kernel."""
        filters = MINIMAL_FILTERS[len(out)]
        if len(out) not in self.kernels:
            taps = self._taps()
            self.kernels[len(out)] = [weighted_sum(row, taps) for row in filters.taps]
        for product, (row, kernel) in enumerate(zip(filters.spread, self.kernels[len(out)], strict=True)):
            image = convolve(weighted_sum(row, frames), kernel, self.layer.bias if product == 1 else None)
            for target, shares in zip(out, filters.combine, strict=True):
                if not any(shares[:product]):
                    torch.mul(image, shares[product], out=target)
                elif shares[product]:
                    target.add_(image, alpha=shares[product])

    def _taps(self) -> Tensor:
        """The layer's kernel as one spatial kernel per tap in time, [3, C out, 3, 3, C]."""
        return self.layer.weight.float().permute(2, 0, 3, 4, 1).contiguous()


class EnlargedConvolution:
    """A frame, doubled in height and width (nearest neighbour), through a 3 x 3 convolution.

    An output pixel sees no more than 2 x 2 different input pixels, and its row and column being even or odd says
    how the 3 x 3 kernel falls on them: four 2 x 2 kernels on the small frame, 16 products instead of 36.
    """

    def __init__(self, layer: Any, like: Tensor) -> None:
        """`like` has the dtype and device of the frames to come."""
        self.layer = layer
        self.kernels: list[tuple[int, int, Tensor]] = []
        if rearranges(layer, like):
            taps = layer.weight.float().permute(2, 3, 0, 1)  # [3, 3, C out, C]
            for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
                kernel = _fold(_fold(taps, row).transpose(0, 1), column)  # columns, rows, C out, C
                self.kernels.append((row, column, kernel.permute(2, 1, 0, 3).contiguous()))

    def __call__(self, frame: Tensor, out: Tensor) -> None:
        """frame [H, W, C] -> out [2H, 2W, C out]."""
        height, width, _ = frame.shape
        for row, column, kernel in self.kernels:  # each for one in four of the output's pixels
            phase = convolve(frame, kernel, self.layer.bias)  # [H + 1, W + 1, C out]
            out[row::2, column::2] = phase[row : row + height, column : column + width]
        if not self.kernels:
            image = F.interpolate(frame.permute(2, 0, 1)[None], scale_factor=2.0)  # [1, C, 2H, 2W]
            out.copy_(self.layer(image)[0].permute(1, 2, 0))


def _fold(taps: Tensor, odd: int) -> Tensor:
    """[3, ...] -> [2, ...]: at an even pixel the last two taps meet the same input, at an odd one the first two."""
    first, middle, last = taps
    return torch.stack([first + middle, last] if odd else [first, middle + last])


def weighted_sum(weights: Sequence[float], tensors: Iterable[Tensor]) -> Tensor:
    """The sum of weight x tensor over all weights but zero."""
    (first, a), *rest = ((weight, x) for weight, x in zip(weights, tensors, strict=True) if weight)
    total = a * first
    for weight, x in rest:
        total.add_(x, alpha=weight)
    return total


def convolve(frame: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """frame [H, W, C], kernel [C out, k, k, C] -> [H', W', C out]; one row and column of zeros on every side."""
    bias = None if bias is None else bias.to(frame.dtype)
    image, kernel = frame.permute(2, 0, 1)[None], kernel.permute(0, 3, 1, 2)
    return F.conv2d(image, kernel, bias, padding=1)[0].permute(1, 2, 0)
