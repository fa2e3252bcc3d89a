"""Still pictures of the drawn world to train the small networks on: any pose, any place, any size."""

from __future__ import annotations

import cv2
import numpy as np

from echovideo_model.nano import Person, Pose
from echovideo_model.nano.body import GARMENTS
from echovideo_model.nano.canvas import OVERSIZE, Canvas
from echovideo_model.nano.figure import Figure, Truth, truth
from echovideo_model.nano.palette import CLOTHES
from echovideo_model.nano.scenes import BACKDROPS, MARGIN, PLACES, draw_backdrop, draw_scene
from echovideo_model.nano.split import FIRST_HELD_OUT

FLIPPED = [1, 0, 2, 4, 3]  # landmarks of a mirrored face


def random_pose(rng: np.random.Generator, reach: float = 1.0) -> Pose:
    """`reach` scales how far the head turns: 1 for the farthest that the world's actions go, and beyond."""
    calm = rng.random() < 0.3
    yaw, pitch, roll = rng.uniform(-1, 1, 3) * (45, 24, 24) * reach * (0.3 if calm else 1)
    return Pose(
        yaw=float(yaw),
        pitch=float(pitch),
        roll=float(roll),
        smile=float(rng.uniform(0.1, 1)),
        open=float(rng.uniform(0, 1)) if rng.random() < 0.25 else 0.0,
        blink=float(rng.uniform(0, 1)) if rng.random() < 0.15 else 0.0,
        brows=float(rng.uniform(0, 0.5)),
        gaze=float(rng.uniform(-0.5, 0.5)),
        wave=float(rng.uniform(-1, 1)) if rng.random() < 0.15 else None,
        hand=int(rng.choice((-1, 1))),
    )


def random_scene(rng: np.random.Generator, size: int) -> np.ndarray:
    """uint8 [2 size, 2 size, 3], as a canvas wants it."""
    if rng.random() < 0.3:
        return draw_backdrop(size, size, BACKDROPS[int(rng.integers(len(BACKDROPS)))])
    scene = draw_scene(str(rng.choice(list(PLACES))), size, size, rng)
    corner = round(MARGIN * size) * OVERSIZE
    return scene[corner : corner + OVERSIZE * size, corner : corner + OVERSIZE * size].copy()


def random_figure(rng: np.random.Generator, person: Person) -> Figure:
    return Figure(person, str(rng.choice(GARMENTS)), str(rng.choice(list(CLOTHES))))


def random_person(rng: np.random.Generator) -> Person:
    """One of training's."""
    return Person.from_seed(int(rng.integers(FIRST_HELD_OUT)))


def picture_of(
    rng: np.random.Generator, person: Person, size: int, unit: float, reach: float = 1.0, at: float = 0.1
) -> tuple[np.ndarray, Truth]:
    """uint8 [size, size, 3]. unit: half a face's width as a share of size; at: how far off the middle it may be."""
    canvas, marks = _drawn(rng, person, size, unit, reach, at, with_classes=True)
    return canvas.picture(), truth(canvas, *marks)


def landmarks_of(
    rng: np.random.Generator, person: Person, size: int, unit: float, reach: float = 1.0, at: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """The same without the classes, and so in less time: uint8 [size, size, 3] and landmarks [5, 2]."""
    canvas, (landmarks, _) = _drawn(rng, person, size, unit, reach, at, with_classes=False)
    return canvas.picture(), landmarks.astype(np.float32)


def as_detected(rng: np.random.Generator, landmarks: np.ndarray) -> np.ndarray:
    """`landmarks` [5, 2] as far off as the detector's are."""
    eyes = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    return landmarks + rng.normal(0, 0.035 * eyes, (5, 2)) + rng.normal(0, 0.02 * eyes, 2)


def _drawn(
    rng: np.random.Generator,
    person: Person,
    size: int,
    unit: float,
    reach: float,
    at: float,
    with_classes: bool,
) -> tuple[Canvas, tuple[np.ndarray, np.ndarray]]:
    canvas = Canvas(random_scene(rng, size), with_classes)
    middle = size * (0.5 + rng.uniform(-at, at)), size * (0.46 + rng.uniform(-at, at) / 2)
    return canvas, random_figure(rng, person).draw(canvas, random_pose(rng, reach), middle, unit * size)


def with_light(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Other brightness, contrast and colour balance, some noise, blur or compression: uint8 as given."""
    pixels = picture.astype(np.float32)
    pixels = (pixels - 128) * rng.uniform(0.75, 1.2) + 128 + rng.uniform(-22, 22)
    pixels *= rng.uniform(0.93, 1.07, 3)
    if rng.random() < 0.1:
        pixels = np.repeat(pixels.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < 0.3:
        pixels += rng.normal(0, rng.uniform(1, 8), pixels.shape)
    if rng.random() < 0.35:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.4) * picture.shape[0] / 128)
    picture = np.clip(pixels, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, [1, int(rng.integers(35, 90))])[1], 1)
    return picture
