"""What people do and what the camera does, as a function of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .shell import Pose

# Time runs from 0 (first frame) to 1 (last). `side` is -1 (the picture's left) or 1 (right).


def _eased(t: float, start: float = 0.1, end: float = 0.75) -> float:
    """0 before `start`, 1 after `end`, smooth between."""
    share = min(max((t - start) / (end - start), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _swing(t: float, times: float) -> float:
    """That many whole swings, -1 .. 1, starting and ending at 0."""
    return float(np.sin(2 * np.pi * times * t))


def _bounce(t: float, times: float) -> float:
    """That many arcs from 0 to 1 and back."""
    return float(np.sin(np.pi * times * t) ** 2)


def _stand(t: float, side: int) -> Pose:
    return Pose()


def _smile(t: float, side: int) -> Pose:
    share = _eased(t, 0.1, 0.6)
    return Pose(smile=0.1 + 0.9 * share, brows=0.4 * share)


def _blink(t: float, side: int) -> Pose:
    shut = max(0.0, 1 - abs(t - 0.32) / 0.16, 1 - abs(t - 0.74) / 0.16)
    return Pose(blink=min(1.0, 1.6 * shut))


def _nod(t: float, side: int) -> Pose:
    return Pose(pitch=-5 + 26 * _bounce(t, 2))


def _shake(t: float, side: int) -> Pose:
    return Pose(yaw=side * 28 * _swing(t, 1.5))


def _turn(t: float, side: int) -> Pose:
    share = _eased(t)
    return Pose(yaw=side * 40 * share, gaze=side * 0.5 * share)


def _tilt(t: float, side: int) -> Pose:
    return Pose(roll=side * 18 * _eased(t))


def _wave(t: float, side: int) -> Pose:
    return Pose(wave=_swing(t, 2), hand=side, smile=0.6)


def _walk_in(t: float, side: int) -> Pose:
    share = _eased(t, 0.0, 0.85)
    return Pose(
        x=side * 2.3 * (1 - share), y=-0.10 * _bounce(t, 3) * (1 - share), yaw=-side * 28 * (1 - share)
    )


def _jump(t: float, side: int) -> Pose:
    height = _bounce(t, 2)
    return Pose(y=0.12 - 0.55 * height, smile=0.6, open=0.3 * height)


def _talk(t: float, side: int) -> Pose:
    return Pose(open=0.85 * _bounce(t, 4), smile=0.25)


ACTIONS: dict[str, Callable[[float, int], Pose]] = {
    "stand": _stand,
    "smile": _smile,
    "blink": _blink,
    "nod": _nod,
    "shake": _shake,
    "turn": _turn,
    "tilt": _tilt,
    "wave": _wave,
    "walk in": _walk_in,
    "jump": _jump,
    "talk": _talk,
}
SIDED = ("turn", "tilt", "walk in")
"""Actions whose side the sentence may name."""


@dataclass(frozen=True)
class Camera:
    """Where the camera is: a magnification, and a shift in shares of the frame's width (positive: to the right)."""

    shift: float
    zoom: float


CAMERAS = ("still", "zoom in", "zoom out", "pan left", "pan right")
_PAN = 0.13  # of the width to either side: 0.13 in 8 of 17 frames
_ZOOM = 0.22


def place_camera(move: str, t: float) -> Camera:
    share = 2 * t - 1  # -1 .. 1: moves pass through the middle
    if move == "zoom in":
        return Camera(0.0, 1 + _ZOOM * (t - 0.35))
    if move == "zoom out":
        return Camera(0.0, 1 + _ZOOM * (0.65 - t))
    if move == "pan left":
        return Camera(-_PAN * share, 1.0)
    if move == "pan right":
        return Camera(_PAN * share, 1.0)
    return Camera(0.0, 1.0)
