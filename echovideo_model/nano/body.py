"""Neck, shoulders, clothes and a waving arm. They do not turn with the head."""

from __future__ import annotations

import numpy as np

from .canvas import CLOTH, HAND, NECK, Canvas, Colour, Shape, Shapes, mix, oval, ribbon, shade, smooth, tint
from .palette import CLOTHES, INK, SKINS
from .people import Person
from .shell import Pose, View

GARMENTS = ("pullover", "shirt", "hoodie", "jacket")


class Body:
    """Everything below the head, in head units around the point between the eyes of an upright head."""

    def __init__(self, person: Person, garment: str, colour: str) -> None:
        self._skin, self._cloth = SKINS[person.skin], CLOTHES[colour]
        self._slim = person.noun == "woman"
        self._half = 0.40 if self._slim else 0.5  # the neck's width
        dark = shade(self._cloth, 0.22)
        hood = _mirrored((0, 1.1), (0.8, 1.2), (1.12, 1.62), (0.9, 2.2), (0, 2.5))
        self._behind = Shapes([(hood, dark, CLOTH)] if garment == "hoodie" else [])
        self._before = Shapes([*self._trunk(), *_GARMENTS[garment](self._cloth, self._skin, self._half)])

    def draw(self, canvas: Canvas, pose: Pose, view: View, middle: tuple[float, float]) -> None:
        """`view` says where the head has taken the neck's upper end; `middle` is where it would be upright."""
        unit = view.unit
        neck_top = (view(np.array([(0.0, 0.9, -0.05)]))[0] - middle) / unit
        moving = [self._behind, Shapes(self._neck(*neck_top)), self._before]
        if pose.wave is not None:
            moving.append(Shapes(_waving_arm(pose.wave, pose.hand, self._cloth, self._skin)))
        for shapes in moving:
            canvas.fill_all(shapes.points[:, :2] * unit + middle, shapes)

    def _neck(self, x: float, y: float) -> list[Shape]:
        half = self._half
        right = [(x + half, y), (half, 1.5), (half + 0.16, 1.76), (0.3, 2.3)]
        left = [(-0.3, 2.3), (-half - 0.16, 1.76), (-half, 1.5), (x - half, y)]
        shadow = [(x + half, y), (half, 1.36), (0.0, 1.58), (-half, 1.36), (x - half, y)]
        return [
            (np.array([*right, *left]), self._skin, NECK),
            (smooth(np.array(shadow)), shade(self._skin, 0.24), NECK),
        ]

    def _trunk(self) -> list[Shape]:
        wide = 1.62 if self._slim else 1.85
        right = ((0.5, 1.62), (wide * 0.72, 1.86), (wide, 2.36), (wide + 0.12, 3.2), (wide + 0.1, 4.4))
        shapes: list[Shape] = [(_mirrored((0, 1.9), *right, (0, 4.4)), self._cloth, CLOTH)]
        for side in (-1, 1):
            fold = np.array([(wide - 0.42, 2.42), (wide - 0.36, 3.2), (wide - 0.4, 4.2)]) * (side, 1)
            shapes.append((ribbon(fold, 0.07), shade(self._cloth, 0.2), CLOTH))
        return shapes


def _shadow(half: float, skin: Colour) -> Shape:
    """The head's, on skin that a neckline shows."""
    points = [(-half, 1.2), (half, 1.2), (half * 0.95, 1.4), (0, 1.6), (-half * 0.95, 1.4)]
    return smooth(np.array(points)), shade(skin, 0.24), NECK


def _pullover(colour: Colour, skin: Colour, neck: float) -> list[Shape]:
    return [
        (oval(0, 1.66, 0.68, 0.40), shade(colour, 0.2), CLOTH),
        (oval(0, 1.60, 0.56, 0.32), skin, NECK),
        _shadow(neck, skin),
    ]


def _shirt(colour: Colour, skin: Colour, neck: float) -> list[Shape]:
    light = tint(colour, 0.45)
    flap = np.array([(0.36, 1.44), (0.62, 1.62), (0.54, 2.16), (0.02, 2.2), (0.3, 1.8)])
    return [
        (np.array([(-0.42, 1.6), (0.42, 1.6), (0.0, 2.22)]), skin, NECK),
        _shadow(neck, skin),
        (flap * (-1, 1), light, CLOTH),
        (flap, light, CLOTH),
        (ribbon(np.array([(0, 2.2), (0, 4.3)]), 0.06), shade(colour, 0.22), CLOTH),
        *((oval(0.12, y, 0.06, corners=10), light, CLOTH) for y in (2.5, 2.95, 3.4)),
    ]


def _hoodie(colour: Colour, skin: Colour, neck: float) -> list[Shape]:
    neckline = np.array([(-0.46, 1.5), (0.46, 1.5), (0.2, 1.98), (-0.2, 1.98)])
    shapes: list[Shape] = [(neckline, skin, NECK), _shadow(neck, skin)]
    edge = ribbon(smooth(np.array([(0.62, 1.5), (0.46, 1.82), (0.04, 2.12)]), closed=False), 0.26, 0.8)
    cord = ribbon(np.array([(0.26, 2.1), (0.3, 2.8)]), 0.07)
    for side in (-1, 1):
        shapes.append((edge * (side, 1), shade(colour, 0.12), CLOTH))
        shapes.append((cord * (side, 1), tint(colour, 0.7), CLOTH))
    return shapes


def _jacket(colour: Colour, skin: Colour, neck: float) -> list[Shape]:
    shirt = mix((250, 248, 242), INK, 0.72) if sum(colour) > 640 else (250, 246, 238)
    lapel = np.array([(0.46, 1.5), (0.86, 1.72), (0.92, 2.3), (0.36, 3.1), (0.42, 2.2)])
    return [
        (np.array([(-0.6, 1.6), (0.6, 1.6), (0.34, 4.4), (-0.34, 4.4)]), shirt, CLOTH),
        (oval(0, 1.60, 0.5, 0.26), skin, NECK),
        _shadow(neck, skin),
        (lapel * (-1, 1), shade(colour, 0.2), CLOTH),
        (lapel, shade(colour, 0.2), CLOTH),
    ]


_GARMENTS = {"pullover": _pullover, "shirt": _shirt, "hoodie": _hoodie, "jacket": _jacket}


def _waving_arm(wave: float, side: int, cloth: Colour, skin: Colour) -> list[Shape]:
    """Raised; it swings about the elbow."""
    elbow = np.array([side * 1.80, 2.45])
    angle = np.radians(2 + 20 * wave) * side
    up = np.array([np.sin(angle), -np.cos(angle)])
    across = np.array([-up[1], up[0]])
    palm = elbow + up * 1.75
    bent = elbow + np.array([0, 0.11])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shapes: list[Shape] = [
        (ribbon(np.stack([(side * 1.2, 2.2), (side * 1.6, 2.5), bent]), 0.62), shade(cloth, 0.1), CLOTH),
        (ribbon(np.stack([bent, elbow + up * 0.7, elbow + up * 1.25]), 0.56), cloth, CLOTH),
        (ribbon(np.stack([elbow + up * 1.2, palm]), 0.3), skin, HAND),
    ]
    for spread, reach in ((-0.34, 0.56), (-0.12, 0.66), (0.12, 0.66), (0.34, 0.56)):
        finger = np.stack([palm + across * spread * 0.6, palm + up * reach + across * spread * 1.1])
        shapes.append((ribbon(finger, 0.17), skin, HAND))
    thumb = palm - across * side * 0.46 + up * 0.16
    crease = oval(0, 0.02, 0.17, corners=16)[1:8]
    return [
        *shapes,
        (ribbon(np.stack([palm, thumb]), 0.16), skin, HAND),
        (palm + oval(0, 0, 0.30, 0.34) @ turn, skin, HAND),
        (ribbon(palm + crease @ turn, 0.05, 0.4), shade(skin, 0.2), HAND),
    ]


def _mirrored(*half: tuple[float, float]) -> np.ndarray:
    """A smooth closed shape: `half` runs down its right side from the middle to the middle."""
    right = np.array(half)
    return smooth(np.concatenate([right, (right[1:-1] * (-1, 1))[::-1]]))
