"""Depth: a stack of elliptic slices that turns, nods and tilts, and what is painted on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

PIVOT = 1.05  # y of the point that the head nods and tilts about: the top of the neck


@dataclass(frozen=True)
class Pose:
    """What the person does at one moment. Angles in degrees; the rest from 0 (not at all) to 1."""

    yaw: float = 0.0  # positive: the face turns to the picture's right
    pitch: float = 0.0  # positive: looks down
    roll: float = 0.0  # positive: the head leans to the picture's right
    smile: float = 0.35
    open: float = 0.0  # the mouth
    blink: float = 0.0
    brows: float = 0.0  # raised
    gaze: float = 0.0  # -1 left .. 1 right
    x: float = 0.0  # the whole person's place, in head half-widths off the middle
    y: float = 0.0
    wave: float | None = None  # the raised hand's swing, -1 .. 1; None: no hand is up
    hand: int = 1  # which side waves: -1 left, 1 right in the picture

    def moved(self, **changes: float | None) -> Pose:
        return replace(self, **changes)  # type: ignore[arg-type]


class View:
    """Where points of a posed head land in the picture. Head units: 1 is half the width of a face, x to the right,
    y down with 0 at the eyes, z towards the viewer."""

    def __init__(self, pose: Pose, middle: tuple[float, float], unit: float) -> None:
        """middle: pixels of the point between the eyes when upright; unit: pixels of one head unit."""
        yaw, pitch, roll = map(math.radians, (pose.yaw, pose.pitch, pose.roll))
        self.sin_yaw, self.cos_yaw = math.sin(yaw), math.cos(yaw)
        down, up = math.sin(pitch), math.cos(pitch)
        lean = np.array([[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]]) * unit
        nod = np.array([[self.cos_yaw, -self.sin_yaw * down], [0.0, up], [self.sin_yaw, self.cos_yaw * down]])
        self._matrix = nod @ lean
        self._offset = np.array([0.0, -PIVOT * up]) @ lean + (middle[0], middle[1] + PIVOT * unit)
        self.unit = unit

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of free points [N, 3]."""
        return points @ self._matrix + self._offset

    def faces_us(self, x: float, z: float) -> float:
        """How far towards the viewer a point stands once the head has turned."""
        return z * self.cos_yaw - x * self.sin_yaw


class Patch:
    """Points on a shell, their places on its slices known: cheap to view from many sides."""

    def __init__(
        self, angle: np.ndarray, y: np.ndarray, slices: np.ndarray, above: np.ndarray | float
    ) -> None:
        """All [N], slices [N, 3]: an angle of infinity is the right rim, of minus infinity the left one."""
        self._angle = angle
        self._width, self._depth, middle = slices.T
        self._free = np.empty((len(y), 3))
        self._free[:, 1] = y
        self._out = middle + above

    def seen(self, view: View) -> np.ndarray:
        """Pixels [N, 2]. What is turned out of sight stays at the rim."""
        rim = np.arctan2(self._width * view.cos_yaw, self._depth * view.sin_yaw)
        angle = np.minimum(np.maximum(self._angle, rim - np.pi), rim)
        self._free[:, 0] = self._width * np.sin(angle)
        self._free[:, 2] = self._depth * np.cos(angle) + self._out
        return view(self._free)


class Shell:
    """A surface of elliptic slices: head, hair or hat."""

    def __init__(self, slices: np.ndarray) -> None:
        """slices [N, 4], from top to bottom: y, half-width, depth, z of the middle."""
        self._y, self._of_y = slices[:, 0], slices[:, 1:]

    @property
    def top(self) -> float:
        return float(self._y[0])

    def _slices(self, y: np.ndarray) -> np.ndarray:
        """[N, 3], linear between the slices that are given."""
        last = np.clip(np.searchsorted(self._y, y), 1, len(self._y) - 1)
        before = self._y[last - 1]
        share = np.clip((y - before) / (self._y[last] - before), 0, 1)[:, None]
        return self._of_y[last - 1] * (1 - share) + self._of_y[last] * share

    def patch(self, points: np.ndarray) -> Patch:
        """What is painted at (x, y) of the front: points [N, 2], or [N, 3] with how far above the surface."""
        x, y = points[:, 0], points[:, 1]
        slices = self._slices(y)
        angle = np.arcsin(np.minimum(np.maximum(x / np.maximum(slices[:, 0], 1e-6), -1), 1))
        return Patch(angle, y, slices, points[:, 2] if points.shape[1] > 2 else 0.0)

    def rim(self, y: np.ndarray, side: int) -> Patch:
        """The outline at heights y [N], on the picture's left (-1) or right (1)."""
        return Patch(np.full(len(y), side * np.inf), y, self._slices(y), 0.0)

    def outline(self, heights: np.ndarray) -> Patch:
        """The closed outline [2 N] over heights [N]: down the right side, up the left."""
        y = np.concatenate([heights, heights[::-1]])
        return Patch(np.repeat([np.inf, -np.inf], len(heights)), y, self._slices(y), 0.0)
