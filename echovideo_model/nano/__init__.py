"""The drawn world: people who do not exist, what they do and where, in pictures and in words.

    clip = Clip.from_seed(7)
    clip.frames(), clip.sentence, clip.labels     # uint8 [17, 128, 128, 3], one sentence, what it shows
    draw_portrait(imagine("a man with a ginger beard"))

Nothing here is random by itself: a seed gives the same pixels and words wherever OpenCV draws the same polygons.
"""

from __future__ import annotations

from pathlib import Path

from .clip import Clip, draw_portrait
from .describing import describe, imagine
from .people import Person
from .shell import Pose

PORTRAITS = tuple(
    Path(__file__).parent.parent / "assets" / name
    for name in ("nano_portrait.png", "nano_second_portrait.png")
)
"""Two people of this world (scripts/nano/draw_portraits.py), 512 x 640 pixels."""

__all__ = ["PORTRAITS", "Clip", "Person", "Pose", "describe", "draw_portrait", "imagine"]
