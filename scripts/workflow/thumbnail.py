"""The picture of a workflow among the host's templates."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from PIL import Image, ImageDraw

from echovideo_model.tiny import PORTRAITS


def thumbnail(title: str, about: str, path: Path) -> None:
    """The portrait beside what the workflow is for; no result is shown, since none was made here."""
    picture = Image.new("RGB", (640, 400), "#17181c")
    portrait = Image.open(PORTRAITS[0]).convert("RGB")
    picture.paste(portrait.resize((320, 400)), (0, 0))
    draw = ImageDraw.Draw(picture)
    name, _, what = title.partition(": ")
    draw.text((344, 60), name, "#8fd3c8", font_size=22)
    draw.multiline_text((344, 96), fill(what, 20), "#ffffff", font_size=28, spacing=6)
    draw.multiline_text((344, 220), fill(about, 34), "#b8bac2", font_size=16, spacing=6)
    picture.save(path, quality=88)
