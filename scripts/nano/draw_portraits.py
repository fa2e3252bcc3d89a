"""Draws the two portraits that go with the nano model: people of its world.

python scripts/nano/draw_portraits.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from echovideo_model.files import write_atomically
from echovideo_model.nano import PORTRAITS, draw_portrait, imagine

AMINA = imagine("a woman with brown skin, a black afro, brown eyes and hoop earrings, no hat, no glasses", 6)
FINN = imagine(
    "a man with fair skin, side-parted ginger hair, green eyes and freckles, no hat, no glasses, no beard, no earrings",
    12,
)


def main(folder: Path = PORTRAITS[0].parent) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    amina, _ = draw_portrait(AMINA, backdrop=0, garment="pullover", colour="yellow")
    finn, _ = draw_portrait(FINN, backdrop=1, garment="shirt", colour="green")
    for pixels, path in zip((amina, finn), PORTRAITS, strict=True):
        with write_atomically(folder / path.name) as temporary:
            Image.fromarray(pixels).save(temporary, "PNG", optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
