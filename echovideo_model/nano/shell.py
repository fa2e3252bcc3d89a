"""Depth: a stack of elliptic slices that turns, nods and tilts, and what is painted on it."""

from __future__ import annotations

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
        yaw, pitch, roll = np.radians((pose.yaw, pose.pitch, pose.roll))
        self.sin_yaw, self.cos_yaw = float(np.sin(yaw)), float(np.cos(yaw))
        self._sin_pitch, self._cos_pitch = float(np.sin(pitch)), float(np.cos(pitch))
        sin, cos = float(np.sin(roll)), float(np.cos(roll))
        self._roll = np.array([[cos, sin], [-sin, cos]])
        self._middle = np.array(middle)
        self.unit = unit

    def turned(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] turned by the yaw alone."""
        x, y, z = points.T
        return np.stack([x * self.cos_yaw + z * self.sin_yaw, y, z * self.cos_yaw - x * self.sin_yaw], axis=1)

    def land(self, turned: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of points [N, 3] that are turned already: nodded, tilted, put in place."""
        x, y, z = turned.T
        nodded = np.stack([x, (y - PIVOT) * self._cos_pitch + z * self._sin_pitch], axis=1)
        return (nodded @ self._roll + (0, PIVOT)) * self.unit + self._middle

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of free points [N, 3]."""
        return self.land(self.turned(points))


class Shell:
    """A surface of elliptic slices: head, hair or hat."""

    def __init__(self, slices: np.ndarray) -> None:
        """slices [N, 4], from top to bottom: y, half-width, depth, z of the middle."""
        self._y, *self._of_y = slices.T

    def _slice(self, y: np.ndarray) -> list[np.ndarray]:
        return [np.interp(y, self._y, values) for values in self._of_y]

    def lift(self, view: View, points: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of what is painted at (x, y) of the front, seen from before: [N, 2], or [N, 3] with how far
        above the surface. What is turned out of sight stays at the rim."""
        x, y = points[:, 0], points[:, 1]
        above = points[:, 2] if points.shape[1] > 2 else 0.0
        width, depth, middle = self._slice(y)
        angle = np.arcsin(np.clip(x / np.maximum(width, 1e-6), -1, 1))
        rim = np.arctan2(width * view.cos_yaw, depth * view.sin_yaw)
        angle = np.clip(angle, rim - np.pi, rim)
        free = np.stack([width * np.sin(angle), y, depth * np.cos(angle) + middle + above], axis=1)
        return view.land(view.turned(free))

    def rim(self, view: View, y: np.ndarray, side: int) -> np.ndarray:
        """Pixels [N, 2] of the outline at heights y [N], on the picture's left (-1) or right (1)."""
        width, depth, middle = self._slice(y)
        angle = np.arctan2(width * view.cos_yaw, depth * view.sin_yaw) - (np.pi if side < 0 else 0.0)
        free = np.stack([width * np.sin(angle), y, depth * np.cos(angle) + middle], axis=1)
        return view.land(view.turned(free))

    def outline(self, view: View, heights: np.ndarray) -> np.ndarray:
        """The closed outline [2 N, 2] over heights [N]: down the right side, up the left."""
        return np.concatenate([self.rim(view, heights, 1), self.rim(view, heights, -1)[::-1]])
