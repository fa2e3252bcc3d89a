"""The places that people are in: broad, soft shapes, a little different every time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..face import import_optional
from .canvas import OVERSIZE, Canvas, Colour, mix, oval, shade, smooth, tint
from .palette import CLOTHES, WHITE

MARGIN = 0.16  # of the frame's height and width, beyond each edge: what the camera may move
_SOFTNESS = 0.008  # of the frame's height: how far behind the person's sharpness the scene is


class Sheet:
    """A scene under construction. Coordinates are shares of the frame's height, (0, 0) its upper left corner."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self._unit = height
        self.wide = width / height
        self._margin = np.array([round(MARGIN * width), round(MARGIN * height)], float)
        rows, columns = (round(side * (1 + 2 * MARGIN)) * OVERSIZE for side in (height, width))
        self.pixels = np.zeros((rows, columns, 3), np.uint8)
        self._canvas = Canvas(self.pixels)

    def fill(self, points: np.ndarray, colour: Colour) -> None:
        self._canvas.fill(points * self._unit + self._margin, colour)

    def blend(self, top: Colour, bottom: Colour, start: float = -0.2, end: float = 1.2) -> None:
        """A gradient from height `start` to `end`, over the full width."""
        first, last = ((y * self._unit + self._margin[1]) * OVERSIZE for y in (start, end))
        first, last = max(round(first), 0), min(round(last), len(self.pixels))
        share = np.linspace(0, 1, last - first)[:, None]
        rows = np.array(top) + (np.array(bottom, float) - np.array(top)) * share
        self.pixels[first:last] = np.rint(rows)[:, None].astype(np.uint8)

    def box(self, x: float, y: float, wide: float, high: float, colour: Colour) -> None:
        self.fill(np.array([(x, y), (x + wide, y), (x + wide, y + high), (x, y + high)]), colour)

    def hills(self, y: float, rise: float, colour: Colour, count: int = 5) -> None:
        """A rolling line at height `y`, filled down to the ground."""
        x = np.linspace(-0.3, self.wide + 0.3, count)
        line = smooth(np.stack([x, y - rise * self.rng.random(count)], 1), closed=False, steps=8)
        ends = np.array([(self.wide + 0.3, 1.3), (-0.3, 1.3)])
        self.fill(np.concatenate([line, ends]), colour)

    def somewhere(self, low: float = 0.0, high: float = 1.0) -> float:
        """An x between these shares of the frame's width."""
        return float(self.rng.uniform(low, high)) * self.wide

    def beside(self) -> tuple[float, float]:
        """An x on either side of whoever stands in the middle: left one, right one."""
        return self.somewhere(-0.02, 0.16), self.somewhere(0.84, 1.02)


def _beach(s: Sheet) -> None:
    s.blend((112, 190, 232), (206, 234, 244), end=0.56)
    s.fill(oval(s.somewhere(0.08, 0.92), 0.14, 0.10), (255, 240, 180))
    s.blend((44, 140, 184), (110, 204, 208), start=0.54, end=0.8)
    for _ in range(3):
        s.fill(oval(s.somewhere(), float(s.rng.uniform(0.58, 0.72)), 0.16, 0.008), (196, 236, 236))
    s.hills(0.79, 0.06, (244, 220, 164))
    left, right = s.beside()
    x = left if s.rng.random() < 0.5 else right
    s.box(x - 0.01, 0.42, 0.022, 0.5, (250, 246, 236))
    dome = oval(x, 0.46, 0.24, 0.16, corners=24)
    s.fill(dome[12:], (226, 76, 66))
    s.fill(oval(x, 0.46, 0.09, 0.16, corners=24)[12:], (252, 240, 226))
    other = right if x == left else left
    s.fill(np.array([(other, 0.36), (other, 0.53), (other - 0.1, 0.53)]), WHITE)


def _park(s: Sheet) -> None:
    s.blend((142, 208, 240), (226, 244, 236), end=0.62)
    s.fill(oval(s.somewhere(0.1, 0.9), 0.12, 0.09), (255, 244, 190))
    s.hills(0.58, 0.10, (142, 200, 116))
    left, right = s.beside()
    for x, size in ((left, 0.20), (right, 0.24), (s.somewhere(0.3, 0.7), 0.12)):
        s.box(x - 0.022, 0.46, 0.045, 0.3, (132, 92, 66))
        for dx, dy, r in ((-0.5, 0.1, 0.7), (0.5, 0.1, 0.7), (0, -0.3, 0.85)):
            s.fill(oval(x + dx * size, 0.4 + dy * size, r * size), (74, 152, 88))
        s.fill(oval(x - 0.25 * size, 0.36 - 0.2 * size, 0.42 * size), (106, 180, 104))
    s.hills(0.78, 0.08, (110, 178, 92))


def _night_city(s: Sheet) -> None:
    s.blend((20, 24, 62), (84, 70, 128), end=0.9)
    s.fill(oval(s.somewhere(0.08, 0.92), 0.14, 0.075), (250, 240, 206))
    x = -0.25
    while x < s.wide + 0.25:
        wide, top = float(s.rng.uniform(0.14, 0.22)), float(s.rng.uniform(0.22, 0.52))
        s.box(x, top, wide, 1.0, (38, 38, 84) if s.rng.random() < 0.5 else (50, 46, 98))
        for row in range(4):
            for column in range(2):
                if s.rng.random() < 0.55:
                    window = x + 0.03 + column * (wide - 0.1), top + 0.05 + row * 0.12
                    s.box(*window, 0.04, 0.055, (255, 214, 120))
        x += wide + 0.015
    s.hills(0.94, 0.01, (28, 28, 62))


def _living_room(s: Sheet) -> None:
    s.blend((246, 226, 200), (236, 206, 178))
    left, right = s.beside()
    if s.rng.random() < 0.5:
        left, right = right, left
    s.box(left - 0.19, 0.06, 0.38, 0.46, WHITE)
    s.box(left - 0.16, 0.09, 0.32, 0.40, (170, 216, 236))
    s.box(left - 0.012, 0.09, 0.024, 0.4, WHITE)
    s.box(right - 0.012, 0.3, 0.024, 0.7, (120, 90, 74))
    shade_points = np.array(
        [(right - 0.09, 0.12), (right + 0.09, 0.12), (right + 0.15, 0.33), (right - 0.15, 0.33)]
    )
    s.fill(shade_points, (250, 194, 92))
    sofa = ((92, 140, 150), (178, 104, 96), (120, 126, 170))[int(s.rng.integers(3))]
    s.fill(
        smooth(
            np.array(
                [
                    (-0.2, 0.7),
                    (0.1, 0.64),
                    (s.wide - 0.1, 0.64),
                    (s.wide + 0.2, 0.7),
                    (s.wide + 0.3, 1.2),
                    (-0.3, 1.2),
                ]
            )
        ),
        sofa,
    )
    s.box(-0.3, 0.86, s.wide + 0.6, 0.4, shade(sofa, 0.18))


def _mountains(s: Sheet) -> None:
    s.blend((150, 190, 232), (250, 226, 212), end=0.6)
    for base, tone, count, high in ((0.62, (148, 164, 204), 4, 0.46), (0.72, (96, 118, 168), 3, 0.40)):
        for i in range(count):
            x = (i + 0.5 + float(s.rng.uniform(-0.3, 0.3))) / count * s.wide
            top = base - high * float(s.rng.uniform(0.75, 1))
            half = 0.36
            s.fill(np.array([(x, top), (x + half, base + 0.1), (x - half, base + 0.1)]), tone)
            cap = np.array(
                [
                    (x, top),
                    (x + 0.09, top + 0.12),
                    (x + 0.02, top + 0.09),
                    (x - 0.03, top + 0.14),
                    (x - 0.09, top + 0.12),
                ]
            )
            s.fill(cap, (250, 250, 252))
    s.hills(0.74, 0.06, (96, 148, 122))
    s.hills(0.88, 0.05, (74, 124, 98))


def _snow(s: Sheet) -> None:
    s.blend((176, 200, 220), (232, 238, 242), end=0.7)
    s.hills(0.66, 0.08, (214, 226, 236))
    left, right = s.beside()
    for x, size in ((s.somewhere(0.25, 0.75), 0.5), (left, 0.8), (right, 0.7)):
        for level in range(3):
            top, half = 0.76 - size * (1 - 0.24 * level), size * (0.16 + 0.07 * level)
            tree = np.array([(x, top), (x + half, top + size * 0.4), (x - half, top + size * 0.4)])
            s.fill(tree, (64, 104, 108))
            s.fill(tree * (1, 1) * 0.45 + 0.55 * tree[0], (240, 246, 250))
    s.hills(0.84, 0.06, (250, 252, 254))
    for _ in range(14):
        s.fill(oval(s.somewhere(-0.1, 1.1), float(s.rng.uniform(-0.05, 0.8)), 0.014, corners=10), WHITE)


def _library(s: Sheet) -> None:
    s.blend((112, 74, 56), (92, 58, 46))
    tones = [
        mix(CLOTHES[name], (112, 74, 56), 0.35)
        for name in ("red", "green", "blue", "yellow", "purple", "white")
    ]
    for row in range(4):
        y = -0.1 + row * 0.3
        x = -0.2
        while x < s.wide + 0.2:
            wide, high = float(s.rng.uniform(0.085, 0.14)), float(s.rng.uniform(0.17, 0.24))
            if s.rng.random() < 0.88:
                s.box(x, y + 0.26 - high, wide * 0.92, high, tones[int(s.rng.integers(len(tones)))])
            x += wide
        s.box(-0.3, y + 0.255, s.wide + 0.6, 0.04, (150, 104, 74))


def _desert(s: Sheet) -> None:
    s.blend((124, 72, 132), (252, 164, 96), end=0.62)
    s.fill(oval(s.somewhere(0.1, 0.9), 0.40, 0.15), (255, 226, 140))
    s.hills(0.64, 0.08, (222, 120, 76))
    left, right = s.beside()
    x = left if s.rng.random() < 0.5 else right
    green = (70, 112, 92)
    s.box(x - 0.035, 0.36, 0.07, 0.5, green)
    s.fill(oval(x, 0.36, 0.035), green)
    for side, y in ((-1, 0.52), (1, 0.46)):
        s.box(x + side * 0.06 - 0.06, y, 0.12, 0.05, green)
        s.box(x + side * 0.12 - 0.022, y - 0.12, 0.045, 0.17, green)
    s.hills(0.78, 0.09, (240, 156, 96))
    s.hills(0.94, 0.07, (250, 182, 120))


PLACES: dict[str, Callable[[Sheet], None]] = {
    "beach": _beach,
    "park": _park,
    "city at night": _night_city,
    "living room": _living_room,
    "mountains": _mountains,
    "snow": _snow,
    "library": _library,
    "desert": _desert,
}


def draw_scene(place: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A place with MARGIN around the frame, at OVERSIZE: uint8 [2 (1 + 2 MARGIN) height, ..., 3]."""
    sheet = Sheet(height, width, rng)
    PLACES[place](sheet)
    cv2 = import_optional("cv2")
    return cv2.GaussianBlur(sheet.pixels, (0, 0), max(_SOFTNESS * height * OVERSIZE, 0.3))


def draw_backdrop(height: int, width: int, colour: Colour) -> np.ndarray:
    """What portraits stand before: a plain wall with a lighter disc, uint8 [2 height, 2 width, 3]."""
    backdrop = np.empty((OVERSIZE * height, OVERSIZE * width, 3), np.uint8)
    backdrop[:] = colour
    disc = oval(width / 2, height * 0.46, min(height, width) * 0.46, corners=72)
    Canvas(backdrop).fill(disc, tint(colour, 0.32))
    return backdrop


BACKDROPS: tuple[Colour, ...] = (
    (95, 179, 172),
    (111, 143, 208),
    (226, 158, 122),
    (168, 140, 196),
    (216, 184, 110),
    (134, 172, 120),
    (206, 136, 150),
    (150, 156, 168),
)
