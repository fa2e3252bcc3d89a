"""The pictures of the workflows among the host's templates: a drawn motif over two or three words.

They show no results, since none was made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from echovideo_model import nano
from echovideo_model.tiny import PORTRAITS

SIDE = 1024  # of the drawing; the file has half of it
BACK, PLATE, LINE, ACCENT, WARM = "#17181c", "#2a2c33", "#f2f2f4", "#5fc4b8", "#e3a02c"
STAGE = (120, 90, 904, 790)  # where a motif is drawn; the words stand below
Motif = Callable[[Image.Image, ImageDraw.ImageDraw], None]


def thumbnail(name: str, path: Path) -> None:
    words, motif = MOTIFS[name]
    picture = Image.new("RGB", (SIDE, SIDE), BACK)
    draw = ImageDraw.Draw(picture)
    motif(picture, draw)
    draw.text((SIDE // 2, 900), words, LINE, font_size=108, anchor="mm")
    picture.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS).save(path, quality=85, optimize=True)


def portrait(width: int, height: int, path: Path = PORTRAITS[0]) -> Image.Image:
    return ImageOps.fit(Image.open(path).convert("RGB"), (width, height), centering=(0.5, 0.4))


def print_of(photo: Image.Image, picture: Image.Image, at: tuple[int, int], angle: float) -> None:
    """Puts a photo on white paper, turned about its middle, at `at`."""
    paper = ImageOps.expand(photo, 22, LINE).convert("RGBA")
    turned = paper.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    picture.paste(turned, (at[0] - turned.width // 2, at[1] - turned.height // 2), turned)


def try_it(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    for path, at, angle in ((nano.PORTRAITS[1], (690, 430), -10), (nano.PORTRAITS[0], (340, 440), 8)):
        print_of(portrait(400, 500, path), picture, at, angle)


def quick_start(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    left, top, right, bottom = STAGE
    picture.paste(portrait(right - left, bottom - top), (left, top))
    x, y = 790, 690
    draw.ellipse((x - 130, y - 130, x + 130, y + 130), BACK)
    draw.polygon([(x - 45, y - 75), (x - 45, y + 75), (x + 85, y)], LINE)


def reference_settings(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    left, _, right, _ = STAGE
    for row, share in enumerate((0.72, 0.3, 0.55)):
        y, knob = 230 + 210 * row, left + share * (right - left)
        draw.rounded_rectangle((left, y - 14, right, y + 14), 14, PLATE)
        draw.rounded_rectangle((left, y - 14, knob, y + 14), 14, ACCENT)
        draw.ellipse((knob - 56, y - 56, knob + 56, y + 56), LINE)


def low_memory(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    for pin in range(6):
        at = 285 + 90 * pin
        draw.rectangle((at - 18, 100, at + 18, 780), ACCENT)
        draw.rectangle((170, at - 85 - 18, 850, at - 85 + 18), ACCENT)
    draw.rounded_rectangle((230, 160, 790, 720), 40, PLATE, LINE, 10)
    draw.text((510, 430), "8 bit", LINE, font_size=190, anchor="mm")


def several_photos(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    photo = portrait(380, 460)
    print_of(photo, picture, (320, 440), 12)
    print_of(ImageOps.mirror(photo), picture, (700, 440), -10)


def compare_face_latent(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    left, top, right, bottom = STAGE
    side = (right - left - 40) // 2
    photo = portrait(side, bottom - top)
    picture.paste(photo, (left, top))
    faceless = Image.blend(
        ImageOps.grayscale(photo).convert("RGB"), Image.new("RGB", photo.size, PLATE), 0.65
    )
    picture.paste(faceless, (right - side, top))
    draw.rectangle((left, top, left + side, bottom), outline=ACCENT, width=14)
    draw.rectangle((right - side, top, right, bottom), outline=LINE, width=14)


def lora(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    """A large matrix and the two narrow ones whose product is added to it."""
    draw.rounded_rectangle((110, 230, 510, 630), 24, PLATE, LINE, 10)
    draw.line((560, 430, 640, 430), LINE, 18)
    draw.line((600, 390, 600, 470), LINE, 18)
    draw.rounded_rectangle((690, 330, 760, 730), 16, ACCENT)
    draw.rounded_rectangle((690, 200, 920, 270), 16, WARM)


def identity_score(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    left, top, right, bottom = STAGE
    draw.line((left, top, left, bottom, right, bottom), PLATE, 16)

    def point(x: float) -> tuple[float, float]:
        return x, 300 - 90 * math.sin((x - left) / 90) + 260 * math.exp(-(((x - 640) / 70) ** 2))

    draw.line([point(x) for x in range(left + 40, right, 16)], ACCENT, 24, "curve")
    x, y = point(648)
    draw.ellipse((x - 40, y - 40, x + 40, y + 40), WARM, BACK, 10)


def two_people(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    left, top, right, bottom = STAGE
    side = (right - left - 20) // 2
    for path, at in zip(PORTRAITS, (left, right - side), strict=True):
        picture.paste(portrait(side, bottom - top, path), (at, top))


def long_video(picture: Image.Image, draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 180, SIDE, 700), PLATE)
    for hole in range(12):
        for y in (205, 635):
            draw.rounded_rectangle((90 * hole - 12, y, 90 * hole + 33, y + 40), 10, BACK)
    for frame in range(-1, 4):
        picture.paste(portrait(290, 350), (52 + 315 * frame, 265))


MOTIFS: dict[str, tuple[str, Motif]] = {
    "try_it": ("Try it", try_it),
    "quick_start": ("Quick start", quick_start),
    "reference_settings": ("Reference", reference_settings),
    "low_memory": ("Low memory", low_memory),
    "several_photos": ("Several photos", several_photos),
    "compare_face_latent": ("With, without", compare_face_latent),
    "lora": ("LoRA", lora),
    "identity_score": ("Identity score", identity_score),
    "two_people": ("Two people", two_people),
    "long_video": ("Long video", long_video),
}
