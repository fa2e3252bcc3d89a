"""Draws docs/drawn_world.jpg: people of the drawn world, and what some of them do.

python scripts/nano/draw_sheet.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from echovideo_model.files import write_atomically
from echovideo_model.nano import Clip, Person, draw_portrait
from echovideo_model.nano.body import GARMENTS
from echovideo_model.nano.palette import CLOTHES
from echovideo_model.nano.split import held_out_people

SHEET = Path(__file__).parent.parent.parent / "docs" / "drawn_world.jpg"
ACROSS, SIDE = 8, 160
DEEDS = ("wave", "turn", "walk in", "smile")


def main() -> None:
    people = list(held_out_people(2 * ACROSS + len(DEEDS)))
    portraits = [
        draw_portrait(
            Person.from_seed(seed), (SIDE, SIDE), None, seed % 8, GARMENTS[seed % 4], list(CLOTHES)[seed % 9]
        )[0]
        for seed in people[: 2 * ACROSS]
    ]
    rows = [np.concatenate(portraits[start : start + ACROSS], 1) for start in (0, ACROSS)]
    for number, deed in enumerate(DEEDS):
        clip = Clip.from_seed(
            number, frames=ACROSS, height=SIDE, width=SIDE, person=people[-1 - number], action=deed
        )
        rows.append(np.concatenate(list(clip.frames()), 1))
    with write_atomically(SHEET) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, "JPEG", quality=88)


if __name__ == "__main__":
    main()
