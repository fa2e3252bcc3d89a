"""A person in a picture, and everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Body
from .canvas import HAND, Canvas
from .hair import Hairdo
from .hats import Hat
from .head import Face, Form
from .people import Person
from .shell import Pose, View
from .wear import Glasses, draw_ears


@dataclass(frozen=True)
class Truth:
    """What the drawing knows. Coordinates are pixels of the finished picture; they may lie outside it."""

    landmarks: np.ndarray  # float32 [5, 2]: eyes, nose tip, mouth corners, left as the viewer sees it
    box: np.ndarray  # float32 [4], x0 y0 x1 y1: forehead to chin, without ears and hair
    classes: np.ndarray  # uint8 [H, W]: the parser's 19 classes
    person: np.ndarray  # bool [H, W]: where somebody is, clothes and hands included


class Figure:
    """One person's head and shoulders in these clothes, to be drawn in many poses."""

    def __init__(self, person: Person, garment: str = "pullover", colour: str = "blue") -> None:
        self._person = person
        self._form, self._hairdo, self._hat = Form(person), Hairdo(person), Hat(person)
        self._face, self._glasses = Face(person, self._form), Glasses(person, self._form)
        self._body = Body(person, garment, colour)

    def draw(
        self, canvas: Canvas, pose: Pose, middle: tuple[float, float], unit: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns landmarks [5, 2] and box [4].

        middle: pixels of the point between the eyes for a pose at rest; unit: pixels of half a face's width.
        """
        middle = middle[0] + pose.x * unit, middle[1] + pose.y * unit
        view, person, form = View(pose, middle, unit), self._person, self._form
        self._hairdo.draw_behind(canvas, view)
        self._body.draw(canvas, pose, view, middle)
        draw_ears(canvas, view, form, person, behind=True)
        self._face.draw(canvas, view, pose)
        self._hairdo.draw_front(canvas, view)
        draw_ears(canvas, view, form, person, behind=False)
        self._glasses.draw(canvas, view)
        self._hat.draw(canvas, view)
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
