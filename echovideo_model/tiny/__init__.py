"""A complete set of tiny checkpoints in the released file layout, and two portraits that they can read.

For the tests: everything runs as with the released files, in seconds on a CPU, with nothing to
download. The weights are seeded noise, so the pixels that come out are noise too.
"""

from __future__ import annotations

from pathlib import Path

from .checkpoints import build, make_files

PORTRAITS = tuple(
    Path(__file__).parent.parent / "assets" / name for name in ("portrait.png", "second_portrait.png")
)
"""Drawings of two people who do not exist (scripts/draw_portrait.py), 512 x 640 pixels."""

__all__ = ["PORTRAITS", "build", "make_files"]
