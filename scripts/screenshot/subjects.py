"""What the pictures show, drawn here: two people in a photo, a video of one of them, and her saved identity."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from echovideo_model.identity import FaceEncoders, identify
from echovideo_model.tiny import PORTRAITS
from echovideo_model.video import write_mp4
from testbed.photos import TWO_PEOPLE, write_photos

from .help_graphs import PHOTO, SAVED, VIDEO

FRAMES = 33
AWAY, DRIFTING = range(11, 14), range(24, 27)  # frames with nobody, and with somebody not quite her
SIDE = 480


def write_subjects(base: Path, released: Path) -> None:
    """Into `base` (a host's base directory): input/us.png, input/walk.mp4 and an identity."""
    write_photos(base / "input")
    (base / "input" / TWO_PEOPLE).rename(base / "input" / PHOTO)
    write_mp4(base / "input" / VIDEO, np.stack([frame(number) for number in range(FRAMES)]))
    kept = base / "models" / "echovideo_identities"
    kept.mkdir(parents=True, exist_ok=True)
    identify(PORTRAITS[0], FaceEncoders.load(released)).save(kept / f"{SAVED}.safetensors")


def frame(number: int) -> np.ndarray:
    """The person of the first portrait, swaying and coming nearer: uint8 [480, 480, 3]."""
    portrait, other = (Image.open(path).convert("RGB") for path in PORTRAITS)
    canvas = Image.new("RGB", (SIDE, SIDE), portrait.getpixel((2, 2)))
    if number in DRIFTING:
        portrait = Image.blend(portrait, other, 0.45)
    if number not in AWAY:
        turn = 9 * math.sin(number / 4)
        scale = 0.55 + 0.2 * number / FRAMES
        person = portrait.resize((round(512 * scale), round(640 * scale)), Image.Resampling.LANCZOS)
        person = person.rotate(turn, Image.Resampling.BICUBIC, fillcolor=portrait.getpixel((2, 2)))
        canvas.paste(person, ((SIDE - person.width) // 2, SIDE - person.height + 20))
    return np.array(canvas)
