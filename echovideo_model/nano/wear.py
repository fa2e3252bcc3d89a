"""Ears, earrings and glasses."""

from __future__ import annotations

import numpy as np

from .canvas import (
    EARRING,
    GLASSES,
    LEFT_EAR,
    RIGHT_EAR,
    Canvas,
    Shapes,
    oval,
    ribbon,
    shade,
    smooth,
)
from .hair import COVERS_EARS
from .head import Form
from .palette import ACCENTS, GOLD, SKINS
from .people import Person
from .shell import View

_EAR_Z = -0.12


def draw_ears(canvas: Canvas, view: View, form: Form, person: Person, behind: bool) -> None:
    """The ears that the head hides in part (`behind`), or those turned towards the viewer, with their rings."""
    if person.hair in COVERS_EARS:
        return
    skin = SKINS[person.skin]
    unit = view.unit
    for side in (-1, 1):
        ear = np.array(
            [(side * (form.cheek + 0.06), 0.2, _EAR_Z), (side * (form.cheek + 0.09), 0.47, _EAR_Z)]
        )
        place, lobe = view(ear)
        if (view.faces_us(ear[0, 0], _EAR_Z) < 0.1) != behind:
            continue
        label = LEFT_EAR if side < 0 else RIGHT_EAR
        canvas.fill(place + oval(0, 0, 0.16 * unit, 0.25 * unit), skin, label)
        canvas.fill(
            place + oval(side * 0.03 * unit, 0.01 * unit, 0.08 * unit, 0.15 * unit), shade(skin, 0.18), label
        )
        _earring(canvas, person, lobe, unit)


def _earring(canvas: Canvas, person: Person, lobe: np.ndarray, unit: float) -> None:
    x, y = lobe
    if person.earrings == "stud":
        canvas.fill(oval(x, y, 0.075 * unit), GOLD, EARRING)
    elif person.earrings == "hoop":
        canvas.fill(_ring(oval(x, y + 0.2 * unit, 0.2 * unit), 0.055 * unit), GOLD, EARRING)
    elif person.earrings == "drop":
        canvas.fill(oval(x, y, 0.05 * unit), GOLD, EARRING)
        canvas.fill(
            oval(x, y + 0.2 * unit, 0.09 * unit, 0.15 * unit), ACCENTS[person.glasses_colour], EARRING
        )


def _ring(loop: np.ndarray, width: float) -> np.ndarray:
    """A closed loop [N, 2] as a band."""
    middle = loop.mean(0)
    radius = np.linalg.norm(loop - middle, axis=1, keepdims=True)
    inner = middle + (loop - middle) * (1 - width / radius)
    return np.concatenate([loop, loop[:1], inner[:1], inner[::-1]])


_LENSES = {  # corners of the right one, in half-widths
    "round": oval(0, 0, 1, corners=22),
    "square": np.array(
        [(-1, -0.7), (-0.8, -0.82), (0.8, -0.82), (1, -0.7), (1, 0.6), (0.8, 0.8), (-0.8, 0.8), (-1, 0.6)]
    ),
    "cat-eye": smooth(
        np.array(
            [(-0.9, -0.4), (0, -0.65), (1.2, -0.95), (1.05, 0.2), (0.45, 0.75), (-0.45, 0.75), (-0.9, 0.2)]
        ),
        steps=3,
    ),
}
_FRAME = 0.085  # the width of a frame


class Glasses:
    """Frames around both eyes, a bridge and the beginnings of the arms."""

    def __init__(self, person: Person, form: Form) -> None:
        if person.glasses == "none":
            self._shapes = None
            return
        half = min(0.40, form.eye_x - 0.06)
        lens = _ring(_LENSES[person.glasses] * half, _FRAME)
        parts = [ribbon(np.array([(-0.1, -0.02), (0, -0.06), (0.1, -0.02)]), _FRAME)]
        for side in (-1, 1):
            hinge = side * (form.eye_x + half - 0.03)
            parts.append(lens * (side, 1) + (side * form.eye_x, 0.03))
            parts.append(ribbon(np.array([(hinge, -0.12), (side * 1.0, -0.12)]), _FRAME))
        self._shapes = Shapes([(part, ACCENTS[person.glasses_colour], GLASSES) for part in parts])
        self._shapes.points[:, 2] = 0.08  # in front of the face
        self._patch = form.shell.patch(self._shapes.points)

    def draw(self, canvas: Canvas, view: View) -> None:
        if self._shapes is not None:
            canvas.fill_all(self._patch.seen(view), self._shapes)
