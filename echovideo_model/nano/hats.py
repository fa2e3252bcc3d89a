"""Hats and headbands, drawn last, over the hair."""

from __future__ import annotations

import numpy as np

from .canvas import HAT, Canvas, oval, shade, tint
from .palette import ACCENTS
from .people import Person
from .shell import Patch, Shell, View

_RIM_Y = -0.52  # where a hat ends


class Hat:
    """What one person wears on the head, if anything."""

    def __init__(self, person: Person) -> None:
        self._kind = person.hat
        self._colour = ACCENTS[person.hat_colour]
        if person.hat == "headband":
            self._band = _band(_dome(0.17, 0.16), -0.86, -0.66)
        elif person.hat == "beanie":
            self._set_crown(_dome(0.26, 0.2))
            self._band = _band(_dome(0.26, 0.24), _RIM_Y - 0.2, _RIM_Y + 0.08)
        elif person.hat == "cap":
            self._set_crown(_dome(0.2, 0.19))
        elif person.hat == "brimmed hat":
            self._set_crown(_dome(0.34, 0.16, square=True))
            self._band = _band(_dome(0.34, 0.17, square=True), _RIM_Y - 0.24, _RIM_Y - 0.06)

    def _set_crown(self, dome: Shell) -> None:
        x, heights = np.linspace(-1.2, 1.2, 11), np.linspace(dome.top, _RIM_Y, 10)
        edge = np.stack([x, _RIM_Y + 0.02 + 0.05 * (1 - x**2)], 1)  # runs round the forehead
        self._crown = (dome.patch(edge), dome.rim(heights[::-1], 1), dome.rim(heights, -1))
        heights = np.linspace(dome.top + 0.12, _RIM_Y, 8)
        self._sides = dome.rim(heights, 1), dome.rim(heights, -1)

    def draw(self, canvas: Canvas, view: View) -> None:
        colour = self._colour
        if self._kind == "headband":
            canvas.fill(self._band.seen(view), colour, HAT)
        elif self._kind == "beanie":
            x, y = view(np.array([(0.0, -1.52, 0.0)]))[0]
            canvas.fill(oval(x, y, 0.2 * view.unit), tint(colour, 0.35), HAT)
            self._draw_crown(canvas, view)
            canvas.fill(self._band.seen(view), tint(colour, 0.22), HAT)
        elif self._kind == "cap":
            self._draw_crown(canvas, view)
            canvas.fill(view(_VISOR), shade(colour, 0.22), HAT)
        elif self._kind == "brimmed hat":
            canvas.fill(view(_BRIM), shade(colour, 0.16), HAT)
            self._draw_crown(canvas, view)
            canvas.fill(self._band.seen(view), shade(colour, 0.4), HAT)

    def _draw_crown(self, canvas: Canvas, view: View) -> None:
        canvas.fill(np.concatenate([patch.seen(view) for patch in self._crown]), self._colour, HAT)
        right, left = (patch.seen(view) for patch in self._sides)
        shadow = np.concatenate([right, (right + (left - right) * 0.16)[::-1]])
        canvas.fill(shadow, shade(self._colour, 0.14), HAT)


def _dome(top: float, thick: float, square: bool = False) -> Shell:
    """A hat's crown: `top` above the skull, `thick` around it."""
    upper = ((0.02, 0.62), (0.10, 0.80)) if square else ((0.03, 0.36), (0.14, 0.66))
    rows = [(-1.12 - top, 0.0), *((-1.12 - top + dy, width) for dy, width in upper)]
    rows += [(-0.86 - top / 2, 0.86 + thick / 2), (-0.6, 0.95 + thick), (-0.2, 1 + thick), (0.1, 1 + thick)]
    return Shell(np.array([(y, width, width * 1.02, -0.04) for y, width in rows]))


def _band(dome: Shell, top: float, bottom: float) -> Patch:
    x = np.linspace(-1.25, 1.25, 13)
    upper, lower = (np.stack([x, y + 0.05 * np.maximum(1 - x**2, 0)], 1) for y in (top, bottom))
    return dome.patch(np.concatenate([upper, lower[::-1]]))


def _visor() -> np.ndarray:
    """Free points [22, 3]: from the rim to the front."""
    angles = np.linspace(-1.25, 1.25, 11)
    across, ahead = np.sin(angles), np.cos(angles)
    inner = np.stack([1.08 * across, np.full(11, _RIM_Y - 0.02), 1.08 * ahead], 1)
    outer = np.stack([1.14 * across, _RIM_Y + 0.2 * ahead, 0.5 + 1.15 * ahead], 1)
    return np.concatenate([inner, outer[::-1]])


def _brim() -> np.ndarray:
    """Free points [28, 3]: a disc around the head, lower in front."""
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    across, ahead = np.cos(angles), np.sin(angles)
    return np.stack([1.72 * across, _RIM_Y - 0.06 + 0.17 * ahead, 1.6 * ahead], 1)


_VISOR, _BRIM = _visor(), _brim()
