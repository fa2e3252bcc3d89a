"""The autoencoder's convolutions with fewer multiplications: the same sums, rearranged.

Here frames are [H, W, C]. The rearrangements work with sums of kernels, so they need the weights themselves and full
float32 precision; they are used on CPUs, where multiplications take most of the time. Everywhere else (half precision,
GPUs, layers that a host keeps to itself) the layer is called as it is. Derived kernels live for one call, because
weights may be patched or moved between calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
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


def can_rearrange(layer: Any, like: Tensor) -> bool:
    """Whether sums of kernels may replace the layer's own for inputs such as `like`."""
    at_hand = isinstance(layer.weight, Tensor) and layer.weight.device == like.device
    patched = getattr(layer, "weight_function", None) or getattr(layer, "bias_function", None)
    return at_hand and not patched and like.device.type == "cpu" and like.dtype == torch.float32


class TimeConvolution:
    """A 3 x 3 x 3 convolution, padded only in space: n + 2 frames give n."""

    def __init__(self, layer: Any, like: Tensor) -> None:
        """`like` has the dtype and device of the frames to come."""
        self.layer = layer
        self.rearranged = can_rearrange(layer, like)
        self.kernels: dict[MinimalFilter, list[Tensor]] = {}

    def runs(self, frames: int) -> list[int]:
        """The pieces in which to convolve this many frames: ones or, where that saves work, fours and twos."""
        if not self.rearranged:
            return [1] * frames
        return [1] * (frames % 2) + [4] * (frames // 4) + [2] * (frames % 4 // 2)

    def __call__(self, frames: list[Tensor]) -> list[Tensor]:
        """n + 2 frames [H, W, C] -> n frames [H, W, C out]; may drop the first one from the list early."""
        outputs, (height, width, _) = len(frames) - 2, frames[0].shape
        still = frames[0] is frames[1] is frames[-1]
        if self.rearranged and still:  # one kernel is enough: the sum over time
            return [convolve(frames[0], self._taps().sum(0), self.layer.bias)]
        if self.rearranged and outputs in MINIMAL_FILTERS and height * width >= MINIMAL_PIXELS:
            return self._minimal(frames, MINIMAL_FILTERS[outputs])
        clip = self.layer(rearrange(frames, "t h w c -> 1 c t h w"))
        return list(rearrange(clip, "1 c t h w -> t h w c"))

    def _minimal(self, frames: list[Tensor], filters: MinimalFilter) -> list[Tensor]:
        """One 3 x 3 convolution per product: what the filter calls a number is a frame here, or a kernel."""
        if filters not in self.kernels:
            taps = self._taps()
            self.kernels[filters] = [sum_weighted(row, taps) for row in filters.taps]
        results: dict[int, Tensor] = {}
        for product, (row, kernel) in enumerate(zip(filters.spread, self.kernels[filters], strict=True)):
            image = convolve(sum_weighted(row, frames), kernel, self.layer.bias if product == 1 else None)
            for output, shares in enumerate(filters.combine):
                if shares[product] and output in results:
                    results[output].add_(image, alpha=shares[product])
                elif shares[product]:
                    results[output] = image * shares[product]
            del image  # or it would stand beside the next one
            frames[0] = frames[1]  # product 0 alone needs the first frame, which is freed here
        return [results[output] for output in range(len(filters.combine))]

    def _taps(self) -> Tensor:
        """The layer's kernel as one spatial kernel per tap in time, [3, C out, 3, 3, C]."""
        return rearrange(self.layer.weight.float(), "out c t y x -> t out y x c").contiguous()


class EnlargedConvolution:
    """A frame, doubled in height and width (nearest neighbour), through a 3 x 3 convolution.

    An output pixel sees no more than 2 x 2 different input pixels, and its row and column being even or odd says
    how the 3 x 3 kernel falls on them: four 2 x 2 kernels on the small frame, 16 products instead of 36.
    """

    def __init__(self, layer: Any, like: Tensor) -> None:
        """`like` has the dtype and device of the frames to come."""
        self.layer = layer
        self.kernels: list[tuple[int, int, Tensor]] = []
        if can_rearrange(layer, like):
            taps = rearrange(layer.weight.float(), "out c y x -> y x out c")
            for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
                kernel = _fold(rearrange(_fold(taps, row), "y x out c -> x y out c"), column)
                self.kernels.append((row, column, rearrange(kernel, "x y out c -> out y x c").contiguous()))

    def __call__(self, frame: Tensor) -> Tensor:
        """frame [H, W, C] -> [2H, 2W, C out]."""
        height, width, _ = frame.shape
        if not self.kernels:
            image = F.interpolate(rearrange(frame, "h w c -> 1 c h w"), scale_factor=2.0)
            return rearrange(self.layer(image), "1 c h w -> h w c")
        enlarged = frame.new_empty(2 * height, 2 * width, self.layer.out_channels)
        for row, column, kernel in self.kernels:  # each for one in four of the output's pixels
            phase = convolve(frame, kernel, self.layer.bias)  # [H + 1, W + 1, C out]
            enlarged[row::2, column::2] = phase[row : row + height, column : column + width]
        return enlarged


def _fold(taps: Tensor, odd: int) -> Tensor:
    """[3, ...] -> [2, ...]: at an even pixel the last two taps meet the same input, at an odd one the first two."""
    first, middle, last = taps
    return torch.stack([first + middle, last] if odd else [first, middle + last])


def sum_weighted(weights: Sequence[float], tensors: Iterable[Tensor]) -> Tensor:
    """The sum of weight x tensor over all weights but zero."""
    (first, a), *rest = ((weight, x) for weight, x in zip(weights, tensors, strict=True) if weight)
    total = a * first
    for weight, x in rest:
        total.add_(x, alpha=weight)
    return total


def convolve(frame: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """frame [H, W, C], kernel [C out, k, k, C] -> [H', W', C out]; one row and column of zeros on every side."""
    bias = None if bias is None else bias.to(frame.dtype)
    image, kernel = rearrange(frame, "h w c -> 1 c h w"), rearrange(kernel, "out y x c -> out c y x")
    return rearrange(F.conv2d(image, kernel, bias, padding=1), "1 c h w -> h w c")
