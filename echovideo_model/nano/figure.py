"""A person in a picture, and everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Body
from .canvas import HAND, Canvas
from .hair import Hairdo
from .head import Form, draw_face
from .people import Person
from .shell import Pose, View
from .wear import draw_ears, draw_glasses, draw_hat


@dataclass(frozen=True)
class Truth:
    """What the drawing knows. Coordinates are pixels of the finished picture; they may lie outside it."""

    landmarks: np.ndarray  # float32 [5, 2]: eyes, nose tip, mouth corners, left as the viewer sees it
    box: np.ndarray  # float32 [4], x0 y0 x1 y1: forehead to chin, without ears and hair
    classes: np.ndarray  # uint8 [H, W]: the parser's 19 classes
    person: np.ndarray  # bool [H, W]: where somebody is, clothes and hands included


def draw_figure(
    canvas: Canvas,
    person: Person,
    pose: Pose,
    middle: tuple[float, float],
    unit: float,
    garment: str = "pullover",
    colour: str = "blue",
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one person, head and shoulders; returns landmarks [5, 2] and box [4].

    middle: pixels of the point between the eyes for a pose at rest; unit: pixels of half a face's width.
    """
    middle = middle[0] + pose.x * unit, middle[1] + pose.y * unit
    view, form, hairdo = View(pose, middle, unit), Form(person), Hairdo(person)
    body = Body(canvas, person, middle, unit)
    hairdo.draw_behind(canvas, view)
    body.draw(garment, colour, view)
    body.draw_wave(pose, colour)
    draw_ears(canvas, view, form, person, behind=True)
    draw_face(canvas, view, form, person, pose)
    hairdo.draw_front(canvas, view)
    draw_ears(canvas, view, form, person, behind=False)
    draw_glasses(canvas, view, form, person)
    draw_hat(canvas, view, person)
    return form.landmarks(view, pose, person), form.box(view)


def truth(canvas: Canvas, landmarks: np.ndarray, box: np.ndarray) -> Truth:
    """Of a canvas made `with_classes`."""
    classes = canvas.classes()
    return Truth(
        landmarks.astype(np.float32),
        box.astype(np.float32),
        np.where(classes == HAND, 0, classes).astype(np.uint8),
        classes > 0,
    )
