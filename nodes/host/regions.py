"""Regions of the video: where a conditioning's area and mask let its person stand, and the face latent in there.

The host crops an area out of the latents before the network sees them, and applies a mask to the network's output.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest

LATENT_PIXELS = 8  # of the video, along each side of one latent pixel


class Box(NamedTuple):
    """A rectangle of a frame, in the pixels of its latents."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, frame: Tensor) -> Tensor:
        """[..., H, W] -> [..., height, width]."""
        return frame[..., self.top : self.top + self.height, self.left : self.left + self.width]


def find_crop(area: tuple[int, ...] | None, height: int, width: int) -> Box:
    """What the network sees of a frame: all of it, or the part of the area inside it; areas are (T, H, W, t0, y0, x0),
    or the same without frames."""
    if area is None:
        return Box(0, 0, height, width)
    half = len(area) // 2
    (high, wide), (top, left) = area[half - 2 : half], area[-2:]
    return Box(top, left, min(high, height - top), min(wide, width - left))


def begins_later(area: tuple[int, ...] | None) -> bool:
    """Whether an area begins after the video's first frame."""
    return area is not None and len(area) > 4 and area[len(area) // 2] > 0


def find_region(crop: Box, mask: Tensor | None) -> Box | None:
    """Where in the crop the person stands in frame 0: all of it, or what encloses the mask; None if that is empty.

    mask is the host's, [1, 1 or T, H, W], in 0..1; what is above half its largest value counts.
    """
    if mask is None:
        return Box(0, 0, *crop[2:])
    first = mask.reshape(-1, *mask.shape[-2:])[0]
    inside = crop.cut((first > 0) & (first > first.max() / 2))
    if not inside.any():
        return None
    rows, columns = (inside.any(dim=dim).nonzero().flatten().tolist() for dim in (1, 0))
    return Box(rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)


def place_face(latent: Tensor, crop: Box, region: Box) -> Tensor:
    """The face of a face latent [1, 16, 1, h, w] in the middle of a region of what the network sees: [1, 16, 1, height,
    width] of the crop.

    The face picture is a square in the middle of the video's frame, as large as fits; so it is in the region, and what
    surrounds it is black, as the frame's corner is. A face latent made at the region's own size is not resampled.
    """
    placed = latent[..., :1, :1].expand(*latent.shape[:3], crop.height, crop.width).clone()
    there = region.cut(placed)
    if latent.shape[-2:] != there.shape[-2:]:
        latent, there = cut_square(latent), cut_square(there)
        latent = resize(latent, *there.shape[-2:])
    there.copy_(latent)
    return placed


def cut_square(frame: Tensor) -> Tensor:
    """The largest square in the middle of [..., H, W]."""
    height, width = frame.shape[-2:]
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side).cut(frame)


def resize(latent: Tensor, height: int, width: int) -> Tensor:
    """[1, C, 1, h, w] -> [1, C, 1, height, width]."""
    return F.interpolate(latent[:, :, 0], size=(height, width), mode="bilinear", antialias=True)[:, :, None]


def find_in_frames(conditioning: list[list[Any]], height: int, width: int) -> Box:
    """The region of a conditioning, of its first entry, in pixels of frames [H, W]: of what a mask shows in any frame.

    Raises InvalidRequest if nothing of it is inside the frames.
    """
    options = conditioning[0][1]
    mask = options.get("mask")
    if mask is not None:
        mask = mask.float().amax(0)[None, None]  # [1, 1, h, w]
        mask = F.interpolate(mask, (height, width), mode="bilinear")
    crop = find_crop(find_area(options.get("area"), height, width), height, width)
    region = find_region(crop, mask) if min(crop.height, crop.width) > 0 else None
    if region is None:
        raise InvalidRequest(
            f"nothing of the region lies inside the frames of {width} x {height}: connect the conditioning that the "
            "person was made with, behind its area or mask"
        )
    return Box(crop.top + region.top, crop.left + region.left, region.height, region.width)


def find_area(area: tuple[Any, ...] | None, height: int, width: int) -> tuple[int, ...] | None:
    """The host's area, in shares or in the latents' pixels, in pixels of frames [H, W]: (h, w, top, left)."""
    if area is None:
        return None
    shares, scale = (area[1:], (height, width)) if area[0] == "percentage" else (area, (LATENT_PIXELS,) * 2)
    half = len(shares) // 2
    ends = (*shares[half - 2 : half], *shares[-2:])
    return tuple(round(value * unit) for value, unit in zip(ends, (*scale, *scale), strict=True))
