"""Neck, shoulders, clothes and a waving arm. They do not turn with the head."""

from __future__ import annotations

import numpy as np

from .canvas import CLOTH, HAND, NECK, Canvas, Colour, mix, oval, ribbon, shade, smooth, tint
from .palette import CLOTHES, INK, SKINS
from .people import Person
from .shell import Pose, View

GARMENTS = ("pullover", "shirt", "hoodie", "jacket")


class Body:
    """Draws below the head, in head units around the point between the eyes of an upright head."""

    def __init__(self, canvas: Canvas, person: Person, middle: tuple[float, float], unit: float) -> None:
        self._canvas = canvas
        self._middle = np.array(middle)
        self._unit = unit
        self._skin = SKINS[person.skin]
        self._slim = person.noun == "woman"

    def _fill(self, points: np.ndarray, colour: Colour, label: int) -> None:
        self._canvas.fill(points * self._unit + self._middle, colour, label)

    def draw(self, garment: str, colour_name: str, view: View) -> None:
        """Neck and trunk; `view` says where the head has taken the neck's upper end."""
        colour = CLOTHES[colour_name]
        if garment == "hoodie":
            self._fill(
                _mirrored((0, 1.1), (0.8, 1.2), (1.12, 1.62), (0.9, 2.2), (0, 2.5)),
                shade(colour, 0.22),
                CLOTH,
            )
        self._neck(view)
        width = 1.62 if self._slim else 1.85
        trunk = _mirrored(
            (0, 1.9),
            (0.5, 1.62),
            (width * 0.72, 1.86),
            (width, 2.36),
            (width + 0.12, 3.2),
            (width + 0.1, 4.4),
            (0, 4.4),
        )
        self._fill(trunk, colour, CLOTH)
        for side in (-1, 1):
            sleeve = np.array(
                [(side * (width - 0.42), 2.42), (side * (width - 0.36), 3.2), (side * (width - 0.4), 4.2)]
            )
            self._fill(ribbon(sleeve, 0.07), shade(colour, 0.2), CLOTH)
        getattr(self, f"_{garment}")(colour)

    def _neck(self, view: View) -> None:
        half = 0.40 if self._slim else 0.5
        top = (view(np.array([(0.0, 0.9, -0.05)]))[0] - self._middle) / self._unit
        x, y = top
        sides = [(x + half, y), (half, 1.5), (half + 0.16, 1.76), (0.3, 2.3)]
        other = [(-0.3, 2.3), (-half - 0.16, 1.76), (-half, 1.5), (x - half, y)]
        self._fill(np.array([*sides, *other]), self._skin, NECK)
        shadow = [(x + half, y), (half, 1.36), (0.0, 1.58), (-half, 1.36), (x - half, y)]
        self._fill(smooth(np.array(shadow)), shade(self._skin, 0.24), NECK)

    def _pullover(self, colour: Colour) -> None:
        self._fill(oval(0, 1.66, 0.68, 0.40), shade(colour, 0.2), CLOTH)
        self._fill(oval(0, 1.60, 0.56, 0.32), self._skin, NECK)
        self._shadow(0.5)

    def _shirt(self, colour: Colour) -> None:
        self._fill(np.array([(-0.42, 1.6), (0.42, 1.6), (0.0, 2.22)]), self._skin, NECK)
        self._shadow(0.44)
        light = tint(colour, 0.45)
        for side in (-1, 1):
            flap = np.array([(0.36, 1.44), (0.62, 1.62), (0.54, 2.16), (0.02, 2.2), (0.3, 1.8)]) * (side, 1)
            self._fill(flap, light, CLOTH)
        self._fill(ribbon(np.array([(0, 2.2), (0, 4.3)]), 0.06), shade(colour, 0.22), CLOTH)
        for y in (2.5, 2.95, 3.4):
            self._fill(oval(0.12, y, 0.06, corners=10), light, CLOTH)

    def _hoodie(self, colour: Colour) -> None:
        self._fill(np.array([(-0.46, 1.5), (0.46, 1.5), (0.2, 1.98), (-0.2, 1.98)]), self._skin, NECK)
        self._shadow(0.44)
        for side in (-1, 1):
            edge = np.array([(side * 0.62, 1.5), (side * 0.46, 1.82), (side * 0.04, 2.12)])
            self._fill(ribbon(smooth(edge, closed=False), 0.26, 0.8), shade(colour, 0.12), CLOTH)
            self._fill(
                ribbon(np.array([(side * 0.26, 2.1), (side * 0.3, 2.8)]), 0.07), tint(colour, 0.7), CLOTH
            )

    def _jacket(self, colour: Colour) -> None:
        inner = mix((250, 248, 242), INK, 0.72) if sum(colour) > 640 else (250, 246, 238)
        self._fill(np.array([(-0.6, 1.6), (0.6, 1.6), (0.34, 4.4), (-0.34, 4.4)]), inner, CLOTH)
        self._fill(oval(0, 1.60, 0.5, 0.26), self._skin, NECK)
        self._shadow(0.44)
        for side in (-1, 1):
            lapel = np.array([(0.46, 1.5), (0.86, 1.72), (0.92, 2.3), (0.36, 3.1), (0.42, 2.2)]) * (side, 1)
            self._fill(lapel, shade(colour, 0.2), CLOTH)

    def _shadow(self, half: float) -> None:
        """The head's, on skin that a neckline shows."""
        points = [(-half, 1.3), (half, 1.3), (half * 0.9, 1.42), (0, 1.6), (-half * 0.9, 1.42)]
        self._fill(smooth(np.array(points)), shade(self._skin, 0.24), NECK)

    def draw_wave(self, pose: Pose, colour_name: str) -> None:
        """The raised arm; it swings about the elbow."""
        if pose.wave is None:
            return
        side, colour = pose.hand, CLOTHES[colour_name]
        elbow = np.array([side * 1.74, 2.45])
        angle = np.radians(3 + 20 * pose.wave) * side
        up = np.array([np.sin(angle), -np.cos(angle)])
        across = np.array([-up[1], up[0]])
        upper = np.stack([(side * 1.2, 2.2), (side * 1.55, 2.5), elbow + np.array([0, 0.1])])
        self._fill(ribbon(upper, 0.62), shade(colour, 0.1), CLOTH)
        self._fill(
            ribbon(np.stack([elbow + np.array([0, 0.12]), elbow + up * 0.7, elbow + up * 1.25]), 0.56),
            colour,
            CLOTH,
        )
        palm = elbow + up * 1.75
        self._fill(ribbon(np.stack([elbow + up * 1.2, palm]), 0.3), self._skin, HAND)
        for spread, reach in ((-0.34, 0.56), (-0.12, 0.66), (0.12, 0.66), (0.34, 0.56)):
            tip = palm + up * reach + across * spread * 1.1
            self._fill(ribbon(np.stack([palm + across * spread * 0.6, tip]), 0.17), self._skin, HAND)
        thumb = palm - across * side * 0.46 + up * 0.16
        self._fill(ribbon(np.stack([palm, thumb]), 0.16), self._skin, HAND)
        self._fill(palm + _turned(oval(0, 0, 0.30, 0.34), angle), self._skin, HAND)
        crease = palm + _turned(oval(0, 0.02, 0.17, 0.17, corners=16)[1:8], angle)
        self._fill(ribbon(crease, 0.05, 0.4), shade(self._skin, 0.2), HAND)


def _mirrored(*half: tuple[float, float]) -> np.ndarray:
    """A smooth closed shape: `half` runs down its right side from the middle to the middle."""
    right = np.array(half)
    return smooth(np.concatenate([right, (right[1:-1] * (-1, 1))[::-1]]))


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    sin, cos = np.sin(angle), np.cos(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])
