"""Which frames of a video a metric looks at, and how it makes them smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLED = 16  # frames of a video that ConsisID's scripts look at

Frames = Sequence[np.ndarray]  # each uint8 RGB [H, W, 3]


def spread(count: int, wanted: int = SAMPLED) -> list[int]:
    """`wanted` frame numbers from the first to the last of `count`; one comes up several times if there are fewer."""
    return [int(number) for number in np.linspace(0, count - 1, wanted, dtype=int)]


def as_tensor(frames: Frames) -> Tensor:
    """float32 [F, 3, H, W] in 0..255."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()  # [F, H, W, 3] -> [F, 3, H, W]


def shrink_short_side(pictures: Tensor, short: int, mode: str) -> Tensor:
    """`pictures` [F, 3, H, W] with the shorter side `short` pixels long and the longer rounded down.

    Not antialiased, as VBench's `Resize(antialias=False)` on tensors is not; bicubic may leave 0..255.
    """
    height, width = pictures.shape[-2:]
    side = min(height, width)
    return resize(pictures, int(short * height / side), int(short * width / side), mode)


def resize(pictures: Tensor, height: int, width: int, mode: str = "bilinear") -> Tensor:
    """`pictures` [F, 3, H, W] resampled, without antialiasing."""
    return F.interpolate(pictures, (height, width), mode=mode, align_corners=False)


def crop_centre(pictures: Tensor, side: int) -> Tensor:
    """The middle `side` x `side` of `pictures` [F, 3, H, W], which are at least as large."""
    top, left = (round((length - side) / 2) for length in pictures.shape[-2:])
    return pictures[..., top : top + side, left : left + side]


def normalise(pictures: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / deviation for each channel of `pictures` [F, 3, H, W] in 0..255."""
    channels = (torch.tensor(values)[:, None, None] for values in (mean, deviation))  # each [3, 1, 1]
    return (pictures / 255 - next(channels)) / next(channels)
