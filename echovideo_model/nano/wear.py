"""Ears and what people wear on their heads: earrings, glasses, hats."""

from __future__ import annotations

import numpy as np

from .canvas import (
    EARRING,
    GLASSES,
    HAT,
    LEFT_EAR,
    RIGHT_EAR,
    Canvas,
    Colour,
    oval,
    ribbon,
    shade,
    smooth,
    tint,
)
from .hair import COVERS_EARS
from .head import Form
from .palette import ACCENTS, GOLD, SKINS
from .people import Person
from .shell import Shell, View

_EAR_Z = -0.12
RIM_Y = -0.52  # where a hat ends


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
        (turned, _), (place, lobe) = view.turned(ear), view(ear)
        if (turned[2] < 0.1) != behind:
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


def draw_glasses(canvas: Canvas, view: View, form: Form, person: Person) -> None:
    """Frames around both eyes, a bridge and the arms' beginnings."""
    if person.glasses == "none":
        return
    colour = ACCENTS[person.glasses_colour]
    inside = min(0.40, form.eye_x - 0.06)
    if person.glasses == "round":
        lens = oval(0, 0, inside, inside, corners=22)
    elif person.glasses == "square":
        corners = np.array(
            [
                (-1, -0.75),
                (-0.8, -0.86),
                (0.8, -0.86),
                (1, -0.75),
                (1, 0.62),
                (0.8, 0.84),
                (-0.8, 0.84),
                (-1, 0.62),
            ]
        )
        lens = corners * (inside, inside * 0.95)
    else:
        corners = np.array(
            [
                (-0.95, -0.45),
                (0.0, -0.7),
                (1.25, -1.0),
                (1.05, 0.2),
                (0.45, 0.8),
                (-0.45, 0.8),
                (-0.95, 0.2),
            ]
        )
        lens = smooth(corners * (inside, inside * 0.92), steps=3)
    parts = [ribbon(np.array([(-0.1, -0.02), (0, -0.06), (0.1, -0.02)]), 0.085)]
    for side in (-1, 1):
        parts.append(_ring(lens, 0.085) * (side, 1) + (side * form.eye_x, 0.03))
        parts.append(
            ribbon(np.array([(side * (form.eye_x + inside - 0.03), -0.12), (side * 1.0, -0.12)]), 0.085)
        )
    for part in parts:
        raised = np.column_stack([part, np.full(len(part), 0.08)])
        canvas.fill(form.shell.lift(view, raised), colour, GLASSES)


def draw_hat(canvas: Canvas, view: View, person: Person) -> None:
    """Drawn last, over the hair."""
    if person.hat == "none":
        return
    colour = ACCENTS[person.hat_colour]
    if person.hat == "headband":
        _band(canvas, view, _dome(0.17, 0.16), (-0.86, -0.66), colour)
    elif person.hat == "beanie":
        x, y = view(np.array([(0.0, -1.52, 0.0)]))[0]
        canvas.fill(oval(x, y, 0.2 * view.unit), tint(colour, 0.35), HAT)
        _crown(canvas, view, _dome(0.26, 0.2), colour)
        _band(canvas, view, _dome(0.26, 0.24), (RIM_Y - 0.2, RIM_Y + 0.08), tint(colour, 0.22))
    elif person.hat == "cap":
        _crown(canvas, view, _dome(0.2, 0.19), colour)
        _visor(canvas, view, shade(colour, 0.22))
    else:
        _brim(canvas, view, colour)
        _crown(canvas, view, _dome(0.34, 0.16, square=True), colour)
        _band(canvas, view, _dome(0.34, 0.17, square=True), (RIM_Y - 0.24, RIM_Y - 0.06), shade(colour, 0.4))


def _dome(top: float, thick: float, square: bool = False) -> Shell:
    """A hat's crown: `top` above the skull, `thick` around it."""
    upper = ((0.02, 0.62), (0.10, 0.80)) if square else ((0.03, 0.36), (0.14, 0.66))
    rows = [(-1.12 - top, 0.0), *((-1.12 - top + dy, width) for dy, width in upper)]
    rows += [
        (-0.86 - top / 2, 0.86 + thick / 2),
        (-0.6, 0.95 + thick),
        (-0.2, 1.0 + thick),
        (0.1, 1.0 + thick),
    ]
    return Shell(np.array([(y, width, width * 1.02, -0.04) for y, width in rows]))


def _crown(canvas: Canvas, view: View, dome: Shell, colour: Colour) -> None:
    top = float(dome._y[0])
    heights = np.linspace(top, RIM_Y, 10)
    canvas.fill(_over(dome, view, heights, RIM_Y + 0.02), colour, HAT)
    heights = np.linspace(top + 0.12, RIM_Y, 8)
    right, left = dome.rim(view, heights, 1), dome.rim(view, heights, -1)
    canvas.fill(np.concatenate([right, (right + (left - right) * 0.16)[::-1]]), shade(colour, 0.14), HAT)


def _over(dome: Shell, view: View, heights: np.ndarray, front: float) -> np.ndarray:
    """The outline above a front edge that runs round the dome."""
    x = np.linspace(-1.2, 1.2, 11)
    edge = dome.lift(view, np.stack([x, front + 0.05 * (1 - x**2)], 1))
    return np.concatenate([edge, dome.rim(view, heights[::-1], 1), dome.rim(view, heights, -1)])


def _band(canvas: Canvas, view: View, dome: Shell, span: tuple[float, float], colour: Colour) -> None:
    x = np.linspace(-1.25, 1.25, 13)
    upper, lower = (np.stack([x, y + 0.05 * (1 - x**2)], 1) for y in span)
    canvas.fill(dome.lift(view, np.concatenate([upper, lower[::-1]])), colour, HAT)


def _visor(canvas: Canvas, view: View, colour: Colour) -> None:
    angles = np.linspace(-1.25, 1.25, 11)
    inner = np.stack([1.08 * np.sin(angles), np.full(11, RIM_Y - 0.02), 1.08 * np.cos(angles)], 1)
    outer = np.stack([1.14 * np.sin(angles), RIM_Y + 0.2 * np.cos(angles), 0.5 + 1.15 * np.cos(angles)], 1)
    canvas.fill(view(np.concatenate([inner, outer[::-1]])), colour, HAT)


def _brim(canvas: Canvas, view: View, colour: Colour) -> None:
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    around = np.stack([1.72 * np.cos(angles), RIM_Y - 0.06 + 0.17 * np.sin(angles), 1.6 * np.sin(angles)], 1)
    canvas.fill(view(around), shade(colour, 0.16), HAT)
