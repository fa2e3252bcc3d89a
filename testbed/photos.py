"""Photos for the face picker, composed of the two drawn portraits."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from echovideo_model.tiny import PORTRAITS

TWO_PEOPLE, NOBODY = "two_people.png", "nobody.png"


def write_photos(folder: Path) -> None:
    """two_people.png: the second portrait's person, smaller, to the left of the first's; nobody.png: a wall."""
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (Image.open(path).convert("RGB") for path in PORTRAITS)
    both = Image.new("RGB", (1000, 640), second.getpixel((2, 2)))
    both.paste(second.resize((448, 560)), (20, 80))
    both.paste(first, (488, 0))
    both.save(folder / TWO_PEOPLE)
    Image.new("RGB", (640, 480), "#8a8f98").save(folder / NOBODY)
