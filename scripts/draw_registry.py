"""Draws docs/icon.png and docs/banner.png, the pack's face in ComfyUI's registry: python -m scripts.draw_registry

The registry asks for a square of at most 400 x 400 pixels, and for 21:9.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw

from echovideo_model.files import write_atomically
from echovideo_model.nano import Clip, draw_portrait, imagine
from echovideo_model.picture import write

DOCS = Path(__file__).parents[1] / "docs"
NIGHT, CHALK, MIST, ORANGE = "#1d1f2b", "#f6f4ef", "#a9adbd", "#ff8a3d"
ICON, BANNER = (400, 400), (1680, 720)
SEED = 4  # of the person
WHO = "a woman with curly ginger hair and round green glasses"
WEARS = {"garment": "hoodie", "colour": "yellow"}
SHARP = 3  # drawn this much larger, then shrunk, for smooth edges


def main() -> None:
    for name, picture in (("icon.png", draw_icon()), ("banner.png", draw_banner())):
        with write_atomically(DOCS / name) as temporary:
            picture.save(temporary, optimize=True)


def draw_icon() -> Image.Image:
    """The portrait with a play button on it, on a rounded square."""
    portrait = _portrait(ICON[0], ICON[1])
    _play(portrait, (312, 312), 58)
    icon = Image.new("RGBA", ICON, (0, 0, 0, 0))
    icon.paste(portrait, (0, 0), _rounded(ICON, 72))
    return icon


def draw_banner() -> Image.Image:
    """The photo, beside it the video of the sentence, and the name."""
    banner = Image.new("RGB", BANNER, NIGHT)
    draw = ImageDraw.Draw(banner)
    write(draw, (96, 66), ["EchoVideo"], 88, CHALK)
    write(draw, (100, 180), ["One photo and a sentence become a video of that person."], 37, MIST)
    photo = _portrait(320, 400)
    banner.paste(photo, (100, 266), _rounded(photo.size, 26))
    draw.line((452, 466, 512, 466), ORANGE, 10)
    draw.polygon([(512, 440), (512, 492), (548, 466)], ORANGE)
    for number, frame in enumerate(_draw_frames(320, 400)):
        banner.paste(frame, (582 + number * 344, 266), _rounded(frame.size, 26))
    _play(banner, (582 + 2 * 344 + 320 - 60, 266 + 400 - 60), 38)
    return banner


def _portrait(width: int, height: int) -> Image.Image:
    pixels, _ = draw_portrait(imagine(WHO, SEED), (height, width), backdrop=2, **WEARS)
    return Image.fromarray(pixels)


def _draw_frames(width: int, height: int) -> list[Image.Image]:
    """Three moments of the person waving at the beach."""
    clip = Clip.from_seed(
        12, frames=9, height=height, width=width, action="wave", place="beach", camera="still", **WEARS
    )
    frames = replace(clip, person=imagine(WHO, SEED)).frames()  # uint8 [9, H, W, 3]
    return [Image.fromarray(pixels) for pixels in frames[[0, 3, 4]]]


def _play(picture: Image.Image, middle: tuple[int, int], radius: int) -> None:
    """A white disc with a triangle, smooth."""
    side = 2 * radius * SHARP
    disc = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(disc)
    draw.ellipse((0, 0, side - 1, side - 1), CHALK)
    draw.polygon([(side * x, side * y) for x, y in ((0.38, 0.27), (0.38, 0.73), (0.77, 0.5))], ORANGE)
    disc = disc.resize((2 * radius, 2 * radius), Image.Resampling.LANCZOS)
    picture.paste(disc, (middle[0] - radius, middle[1] - radius), disc)


def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    """A mask with round corners."""
    large = Image.new("L", (size[0] * SHARP, size[1] * SHARP), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, large.width - 1, large.height - 1), radius * SHARP, 255)
    return large.resize(size, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
