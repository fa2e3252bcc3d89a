"""Clips and portraits of the world's people, with everything that is known about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..errors import InvalidRequest
from ..face import import_optional
from .actions import ACTIONS, CAMERAS, Camera, place_camera
from .body import GARMENTS
from .canvas import OVERSIZE, Canvas
from .figure import Figure, Truth, truth
from .palette import CLOTHES
from .people import Person
from .scenes import BACKDROPS, MARGIN, PLACES, draw_backdrop, draw_scene
from .shell import Pose
from .split import FIRST_HELD_OUT, is_held_out
from .words import sentence

FRAMES, SIDE = 17, 128
UNIT = 0.205  # half a face's width, as a share of the picture's shorter side
EYES_AT = 0.46  # height of the eyes, as a share of the picture's
LABELS: dict[str, tuple[str | int, ...]] = {
    "colour": tuple(CLOTHES),
    "garment": GARMENTS,
    "action": tuple(ACTIONS),
    "side": (-1, 1),
    "place": tuple(PLACES),
    "camera": CAMERAS,
}
"""What a clip shows beside its person, and the choices for it."""
_FOLLOWS = 0.45  # of a pan: how far a person nearby moves in the picture, the scene behind moves all of it


@dataclass(frozen=True)
class Clip:
    """A few moments of one person, drawn on request; equal fields give equal pictures."""

    person: Person
    labels: dict[str, str | int]  # noun, colour, garment, action, side, place, camera
    sentence: str
    said: frozenset[str]  # the labels that the sentence gives
    height: int = SIDE
    width: int = SIDE
    moments: tuple[float, ...] = field(default=(), repr=False)  # 0 .. 1, one a frame
    scene_seed: int = 0
    at: float = 0.0  # where the person stands, in half-widths of a face off the middle
    unit: float = UNIT

    @classmethod
    def from_seed(
        cls,
        seed: int,
        *,
        frames: int = FRAMES,
        height: int = SIDE,
        width: int = SIDE,
        person: int | None = None,
        held_out_words: bool = False,
        whole: bool = False,
        **labels: str | int,
    ) -> Clip:
        """The clip of that number. A single frame is a random moment of it.

        person: a person's seed; by default one of training's. held_out_words: a combination that training never sees
        instead of one that it may. whole: the sentence says everything. labels: fixes some of them, for instance
        action="wave". Raises InvalidRequest for an unknown label.
        """
        rng = np.random.default_rng([seed, 0xC11B])
        who = Person.from_seed(int(rng.integers(FIRST_HELD_OUT)) if person is None else person)
        chosen = _labels(rng, who, labels, held_out_words)
        text, said = sentence(chosen, rng, whole)
        moment, at, unit = rng.random(), rng.uniform(-0.12, 0.12), UNIT * rng.uniform(0.95, 1.05)
        moments = np.linspace(0, 1, frames) if frames > 1 else [moment]
        return cls(
            who,
            chosen,
            text,
            said,
            height,
            width,
            tuple(map(float, moments)),
            int(rng.integers(2**31)),
            at,
            unit,
        )

    @cached_property
    def _scene(self) -> np.ndarray:
        rng = np.random.default_rng([self.scene_seed, 0x5CE])
        return draw_scene(str(self.labels["place"]), self.height, self.width, rng)

    @cached_property
    def _figure(self) -> Figure:
        return Figure(self.person, str(self.labels["garment"]), str(self.labels["colour"]))

    def frames(self) -> np.ndarray:
        """uint8 RGB [F, H, W, 3]."""
        return np.stack([self._drawn(moment, False)[0].picture() for moment in self.moments])

    def pictures(self) -> Iterator[tuple[np.ndarray, Truth]]:
        """Each frame, uint8 RGB [H, W, 3], and the truth about it."""
        for moment in self.moments:
            canvas, landmarks, box = self._drawn(moment, True)
            yield canvas.picture(), truth(canvas, landmarks, box)

    def _drawn(self, moment: float, with_classes: bool) -> tuple[Canvas, np.ndarray, np.ndarray]:
        camera = place_camera(str(self.labels["camera"]), moment)
        canvas = Canvas(self._seen(camera), with_classes)
        pose = ACTIONS[str(self.labels["action"])](moment, int(self.labels["side"]))
        pose = pose.moved(
            x=pose.x + self.at, roll=pose.roll + 1.0 * float(np.sin(5 * moment + self.scene_seed))
        )
        unit = self.unit * min(self.height, self.width) * camera.zoom
        middle = (
            self.width * (0.5 - _FOLLOWS * camera.shift),
            self.height * (EYES_AT + (camera.zoom - 1) * 0.06),
        )
        return canvas, *self._figure.draw(canvas, pose, middle, unit)

    def _seen(self, camera: Camera) -> np.ndarray:
        """The part of the scene in the camera's view: uint8 [2 H, 2 W, 3]."""
        cv2 = import_optional("cv2")
        size = np.array([self.width, self.height]) * OVERSIZE
        zoom = 1 + (camera.zoom - 1) * 0.7
        if zoom == 1:  # a quarter of the time
            centre = (np.array(self._scene.shape[1::-1]) - 1) / 2 + (camera.shift * size[0], 0)
            return cv2.getRectSubPix(self._scene, tuple(map(int, size)), tuple(map(float, centre)))
        margin = np.round(MARGIN * np.array([self.width, self.height])) * OVERSIZE
        corner = margin + size / 2 * (1 - 1 / zoom) + (camera.shift * size[0], 0)
        matrix = np.array([[1 / zoom, 0, corner[0]], [0, 1 / zoom, corner[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(
            self._scene, matrix, tuple(map(int, size)), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )


def draw_portrait(
    person: Person,
    size: tuple[int, int] = (640, 512),
    pose: Pose | None = None,
    backdrop: int | str = 0,
    garment: str = "pullover",
    colour: str = "yellow",
    unit: float = UNIT,
) -> tuple[np.ndarray, Truth]:
    """A photo of somebody: uint8 RGB [H, W, 3] of `size` (height, width), and the truth about it.

    backdrop: number of a plain wall, or the name of a place.
    """
    height, width = size
    if isinstance(backdrop, int):
        behind = draw_backdrop(height, width, BACKDROPS[backdrop % len(BACKDROPS)])
    else:
        scene = draw_scene(backdrop, height, width, np.random.default_rng(0))
        top, left = (round(MARGIN * side) * OVERSIZE for side in size)
        behind = scene[top : top + height * OVERSIZE, left : left + width * OVERSIZE].copy()
    canvas = Canvas(behind, with_classes=True)
    middle = width / 2, height * EYES_AT
    landmarks, box = Figure(person, garment, colour).draw(
        canvas, pose or Pose(smile=0.45), middle, unit * min(size)
    )
    return canvas.picture(), truth(canvas, landmarks, box)


def _labels(
    rng: np.random.Generator, who: Person, given: dict[str, str | int], held_out: bool
) -> dict[str, str | int]:
    """Draws labels until training may see their combination or, if asked, until it never does."""
    for name, value in given.items():
        if value not in LABELS.get(name, ()):
            allowed = ", ".join(map(str, LABELS.get(name, LABELS)))
            raise InvalidRequest(f"unknown {name} {value!r}: choose from {allowed}")
    free = {"colour", "action", "place"} - set(given)
    for _ in range(1000):
        labels: dict[str, str | int] = {"noun": who.noun}
        for name, names in LABELS.items():
            drawn = names[int(rng.integers(len(names)))]
            labels[name] = given.get(name, drawn)
        combination = str(labels["action"]), str(labels["place"]), str(labels["colour"])
        if not free or is_held_out(*combination) == held_out:
            return labels
    raise InvalidRequest("these labels leave no combination of words: set fewer of them")
