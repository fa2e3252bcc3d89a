"""Pictures made from a photo for the detector to look at, and the way from their pixels back to the photo's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class View:
    """`pixels`, uint8 [H, W, 3], and `back`, float64 [2, 3]: from x, y in them to x, y in the photo."""

    pixels: np.ndarray
    back: np.ndarray

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points [n, 2] of this view, in the photo's coordinates, float32."""
        return (points @ self.back[:, :2].T + self.back[:, 2]).astype(np.float32)

    def box(self, box: np.ndarray) -> np.ndarray:
        """A box [4] of this view, in the photo's coordinates, float32: left, top, right, bottom."""
        corners = self.points(box.reshape(2, 2))
        return np.concatenate([corners.min(0), corners.max(0)])


def take_whole(photo: np.ndarray) -> View:
    return View(photo, np.eye(2, 3))


def pad(photo: np.ndarray, share: float) -> View:
    """The photo with black on every side, `share` of its height and width."""
    rows, columns = round(photo.shape[0] * share), round(photo.shape[1] * share)
    pixels = np.pad(photo, ((rows, rows), (columns, columns), (0, 0)))
    return View(pixels, np.array([[1, 0, -columns], [0, 1, -rows]], np.float64))


def crop_around(photo: np.ndarray, box: np.ndarray) -> View:
    """The square twice as wide as `box` around its centre, black beyond the photo."""
    half = max(1, round(float(max(box[2] - box[0], box[3] - box[1]))))
    height, width = photo.shape[:2]
    x, y = np.clip((box[:2] + box[2:]) / 2, 0, (width - 1, height - 1))
    left, top = round(float(x)) - half, round(float(y)) - half
    inside = photo[max(0, top) : max(0, top + 2 * half), max(0, left) : max(0, left + 2 * half)]
    before = max(0, -top), max(0, -left)
    after = max(0, top + 2 * half - height), max(0, left + 2 * half - width)
    pixels = np.pad(inside, ((before[0], after[0]), (before[1], after[1]), (0, 0)))
    return View(pixels, np.array([[1, 0, left], [0, 1, top]], np.float64))


def turn(view: View, degrees: int) -> View:
    """The view turned counter-clockwise by 90, 180 or 270 degrees."""
    height, width = view.pixels.shape[:2]
    unturn = {  # x, y of the turned picture to x, y of this one
        90: [[0, -1, width - 1], [1, 0, 0]],
        180: [[-1, 0, width - 1], [0, -1, height - 1]],
        270: [[0, 1, 0], [-1, 0, height - 1]],
    }[degrees]
    back = view.back @ np.vstack([unturn, [0, 0, 1]])  # first unturned, then this view's own way
    return View(np.ascontiguousarray(np.rot90(view.pixels, degrees // 90)), back)


def measure_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Of two boxes [4]: intersection over union, 0..1."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0
