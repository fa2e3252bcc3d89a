"""Draws clips with captions, as `echovideo prepare` takes them: something to try a LoRA on.

    python scripts/nano/draw_clips.py FOLDER [--count 24] [--first 0] [--style sepia]

Each clip is of another person and shows its action forth and back until it is 49 frames long, so that a moment is left
for the face. --first N leaves out the first N of the series, for clips to hold out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from echovideo_model.limits import FPS
from echovideo_model.nano import Clip
from echovideo_model.video import write_mp4

FRAMES, ONCE = 49, 16  # of a clip; steps from the beginning of its action to the end
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first clip (default: %(default)s)"
    )
    parser.add_argument("--style", choices=("sepia",), help="as the world is drawn without it")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.first, arguments.first + arguments.count):
        clip = Clip.from_seed(number)
        frames = replace(clip, moments=_forth_and_back()).frames().astype(np.float32) / 255  # [F, H, W, 3]
        if arguments.style == "sepia":
            frames = (frames @ SEPIA.T).clip(0, 1)
        path = arguments.folder / f"{number:03}.mp4"
        write_mp4(path, frames, FPS, ai_tag=False)
        path.with_suffix(".txt").write_text(clip.sentence + "\n", encoding="utf-8")


def _forth_and_back() -> tuple[float, ...]:
    """0 .. 1 .. 0 .. 1, one a frame."""
    return tuple(1 - abs(frame / ONCE % 2 - 1) for frame in range(FRAMES))


if __name__ == "__main__":
    main()
