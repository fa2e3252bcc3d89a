"""A picture drawn at twice its size and reduced, with the class of every pixel beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..face import import_optional

OVERSIZE = 2
_BITS = 4  # of a pixel, in the coordinates that OpenCV takes
Colour = tuple[int, int, int]
Shape = tuple[np.ndarray, Colour, int]  # points [N, 2 or 3], colour, class

# The parser's classes (CelebAMask-HQ), and one more for what is a person but none of them: a hand.
BACKGROUND, SKIN, LEFT_BROW, RIGHT_BROW, LEFT_EYE, RIGHT_EYE, GLASSES, LEFT_EAR, RIGHT_EAR, EARRING = range(
    10
)
NOSE, MOUTH, UPPER_LIP, LOWER_LIP, NECK, NECKLACE, CLOTH, HAIR, HAT, HAND = range(10, 20)


class Shapes:
    """Polygons, colours and classes, in the order in which they are filled."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        counts = [len(points) for points, _, _ in shapes]
        ends = np.cumsum(counts).tolist()
        self.points = np.zeros((sum(counts), 3))  # a third coordinate that is not given is 0
        self.parts: list[tuple[slice, Colour, int]] = []
        for (points, colour, label), count, end in zip(shapes, counts, ends, strict=True):
            part = slice(end - count, end)
            self.points[part, : points.shape[1]] = points
            self.parts.append((part, colour, label))


class Canvas:
    """Filled shapes over a background. Coordinates are pixels of the finished picture, x to the right, y down."""

    def __init__(self, background: np.ndarray, with_classes: bool = False) -> None:
        """background: uint8 [2 H, 2 W, 3], drawn on in place."""
        self._cv2 = import_optional("cv2")
        self._large = background
        self._classes = np.zeros(background.shape[:2], np.uint8) if with_classes else None

    def fill(self, points: np.ndarray, colour: Colour, label: int = BACKGROUND) -> None:
        """A closed polygon through points [N, 2], smooth at its edges."""
        corners = [np.rint(points * (OVERSIZE << _BITS)).astype(np.int32)]
        self._cv2.fillPoly(self._large, corners, colour, self._cv2.LINE_AA, _BITS)
        if self._classes is not None:
            self._cv2.fillPoly(self._classes, corners, label, self._cv2.LINE_8, _BITS)

    def fill_all(self, points: np.ndarray, shapes: Shapes) -> None:
        """`shapes`, whose corners have landed at points [N, 2]."""
        corners = np.rint(points * (OVERSIZE << _BITS)).astype(np.int32)
        for part, colour, label in shapes.parts:
            self._cv2.fillPoly(self._large, [corners[part]], colour, self._cv2.LINE_AA, _BITS)
            if self._classes is not None:
                self._cv2.fillPoly(self._classes, [corners[part]], label, self._cv2.LINE_8, _BITS)

    def picture(self) -> np.ndarray:
        """What is drawn: uint8 [H, W, 3]."""
        height, width = (side // OVERSIZE for side in self._large.shape[:2])
        return self._cv2.resize(self._large, (width, height), interpolation=self._cv2.INTER_AREA)

    def classes(self) -> np.ndarray:
        """The class of every pixel: uint8 [H, W]. Only of a canvas made `with_classes`."""
        assert self._classes is not None
        return self._classes[1::OVERSIZE, 1::OVERSIZE].copy()


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with that share of `other`."""
    r, g, b = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return r, g, b


def shade(colour: Colour, share: float) -> Colour:
    """Darker and a little warmer, as flat illustrations shade."""
    return mix(colour, (60, 20, 50), share)


def tint(colour: Colour, share: float) -> Colour:
    return mix(colour, (255, 248, 235), share)


@lru_cache(maxsize=64)
def _spline_basis(count: int, steps: int, closed: bool) -> np.ndarray:
    """[curve points, count]: what turns corners into a Catmull-Rom curve through them."""
    spans = count if closed else count - 1
    basis = np.zeros((spans * steps + (not closed), count))
    for i in range(spans):
        around = [(i + k) % count if closed else min(max(i + k, 0), count - 1) for k in (-1, 0, 1, 2)]
        for step in range(steps):
            t = step / steps
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            for corner, weight in zip(around, weights, strict=True):
                basis[i * steps + step, corner] += weight / 2
    if not closed:
        basis[-1, -1] = 1
    return basis


def smooth(points: np.ndarray, closed: bool = True, steps: int = 4) -> np.ndarray:
    """A smooth curve through points [N, D]."""
    return _spline_basis(len(points), steps, closed) @ points


@lru_cache(maxsize=8)
def _circle(corners: int) -> np.ndarray:
    angles = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def oval(x: float, y: float, rx: float, ry: float | None = None, corners: int = 20) -> np.ndarray:
    """An ellipse (a circle without `ry`) as a polygon [corners, 2]."""
    return _circle(corners) * (rx, rx if ry is None else ry) + (x, y)


def ribbon(points: np.ndarray, width: float, taper: float = 1.0) -> np.ndarray:
    """A line through points [N, 2] as a polygon with round ends; `taper` is the ends' width as a share."""
    along = np.empty_like(points, dtype=float)
    along[1:-1] = points[2:] - points[:-2]
    along[0], along[-1] = points[1] - points[0], points[-1] - points[-2]
    along /= np.sqrt((along**2).sum(1, keepdims=True)) + 1e-9
    half = _profile(len(points), taper) * (width / 2)  # [N, 1]
    across = along[:, ::-1] * half
    across[:, 0] *= -1
    start, end = points[:1] - along[:1] * half[0], points[-1:] + along[-1:] * half[-1]
    return np.concatenate([start, points + across, end, (points - across)[::-1]])


@lru_cache(maxsize=32)
def _profile(count: int, taper: float) -> np.ndarray:
    return taper + (1 - taper) * (1 - np.linspace(-1, 1, count)[:, None] ** 2)
