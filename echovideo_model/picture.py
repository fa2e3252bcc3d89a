"""The contact sheet of a run, and the words on any picture that is drawn here. With Pillow alone."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .errors import InvalidRequest
from .files import check_writable, write_atomically
from .limits import FPS
from .provenance import describe_picture
from .video import to_uint8

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PAPER, INK, GREY, HAIR = "#ffffff", "#1b1b1f", "#5f6068", "#d9d9de"
TITLE_SIZE, TEXT_SIZE, SMALL = 32, 20, 18
# Read for letters beyond ASCII: Chinese, Japanese and Korean first, these hold the others too.
_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "DejaVuSans.ttf",
    "arial.ttf",
    "Arial.ttf",
)

_SHEET_FRAMES = 8
_TILE_AREA = 120_000  # pixels of one frame on the sheet, whatever its shape
MARGIN, _GAP, _GUTTER = 48, 16, 40

_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


class _Tile(NamedTuple):
    picture: Image.Image
    label: str


def draw_contact_sheet(
    photo: np.ndarray | None,
    face_picture: np.ndarray | None,
    frames: Tensor | np.ndarray,
    title: str = "",
    caption: str = "",
    fps: float = FPS,
) -> Image.Image:
    """Photo and face picture beside up to eight evenly spaced frames, each with its number and time.

    photo, face_picture: uint8 RGB [H, W, 3] or None; frames: [F, H, W, 3], float in 0..1 or uint8. `title` stands
    above (at most three lines of it), `caption` below. Raises InvalidRequest for frames with NaN.
    """
    shown = np.linspace(0, len(frames) - 1, min(len(frames), _SHEET_FRAMES)).round().astype(int).tolist()
    pictures = [Image.fromarray(to_uint8(frames[index], f"frame {index}")) for index in shown]
    scale = (_TILE_AREA / (pictures[0].width * pictures[0].height)) ** 0.5
    width, height = round(pictures[0].width * scale), round(pictures[0].height * scale)
    tiles = [
        _Tile(_fit(picture, width, height), f"frame {index}, {index / fps:.2f} s")
        for picture, index in zip(pictures, shown, strict=True)
    ]
    given = [(photo, "photo"), (face_picture, "face picture")]
    references = [(Image.fromarray(pixels), label) for pixels, label in given if pixels is not None]
    # One width for both, so that they share their left and right edges; and a face is never a stripe.
    shapes = [picture.width / picture.height for picture, _ in references]
    slot = round(height * max(0.6, min(1.0, *shapes))) if shapes else 0
    stack = [_Tile(_fit(picture, slot, height), label) for picture, label in references]
    return _arrange(stack, tiles, title, caption)


def check_picture_path(path: str | os.PathLike[str]) -> None:
    """Raises InvalidRequest, before the work, if `save_picture` could not write there."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise InvalidRequest(f'cannot write "{path}" as a picture: end its name with {", ".join(_SUFFIXES)}')
    check_writable(path)


def save_picture(picture: Image.Image, path: str | os.PathLike[str], source_type: str | None = None) -> None:
    """Writes a picture, whole or not at all, in the format of its suffix. Raises InvalidRequest if it cannot.

    source_type: what its label says of its origin (provenance.TRAINED, DRAWN); no label by default.
    """
    check_picture_path(path)
    with write_atomically(path) as temporary:
        tags = describe_picture(source_type) if source_type else {}
        picture.save(temporary, quality=92, **tags)  # the quality of JPEG and WebP


def _arrange(references: Sequence[_Tile], tiles: Sequence[_Tile], title: str, caption: str) -> Image.Image:
    """The sheet: a reference in front of each row of frames; up to three frames make a single row."""
    rows = 1 if len(tiles) <= 3 else 2
    columns = -(-len(tiles) // rows)
    width, height = tiles[0].picture.size
    stacks = 1 if rows == 2 else len(references)  # columns of references
    slot = max((tile.picture.width for tile in references), default=0)
    left = MARGIN + (stacks * slot + (stacks - 1) * _GAP + _GUTTER if references else 0)
    total = left + columns * width + (columns - 1) * _GAP + MARGIN
    total = max(total, 900)  # room for the words

    above = wrap(title, TITLE_SIZE, total - 2 * MARGIN, most=3)
    below = wrap(caption, TEXT_SIZE, total - 2 * MARGIN, most=4)
    step = height + line_height(TEXT_SIZE) + 4 + _GAP  # a row with its labels
    top = MARGIN + (len(above) * line_height(TITLE_SIZE) + 20 if above else 0)
    bottom = top + rows * step - _GAP
    end = bottom + (len(below) * line_height(TEXT_SIZE) + 20 if below else 0) + MARGIN

    sheet = Image.new("RGB", (total, end), PAPER)
    draw = ImageDraw.Draw(sheet)
    write(draw, (MARGIN, MARGIN), above, TITLE_SIZE, INK)
    write(draw, (MARGIN, bottom + 20), below, TEXT_SIZE, GREY)
    for index, tile in enumerate(references):
        column, row = (index, 0) if rows == 1 else (0, index)
        _paste(sheet, draw, tile, MARGIN + column * (slot + _GAP), top + row * step)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        _paste(sheet, draw, tile, left + column * (width + _GAP), top + row * step)
    return sheet


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: _Tile, x: int, y: int) -> None:
    sheet.paste(tile.picture, (x, y))
    right, bottom = x + tile.picture.width, y + tile.picture.height
    draw.rectangle((x - 1, y - 1, right, bottom), outline=HAIR)  # or a white picture has no edge
    write(draw, (x, bottom + 4), [tile.label], TEXT_SIZE, GREY)


def _fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """`picture` as large as the box allows, its shape kept."""
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _choose_font(text: str, size: int) -> tuple[_Font, str]:
    """A font for `text`, and the text as far as the font can write it.

    Pillow's own font has little but ASCII; for anything else, the first system font available.
    """
    if not text.isascii():
        for name in _SYSTEM_FONTS:
            with suppress(OSError):
                return ImageFont.truetype(name, size), text
    try:
        return ImageFont.load_default(size), text
    except TypeError:  # Pillow 10.0 has only a small bitmap font
        return ImageFont.load_default(), text.encode("latin-1", "replace").decode("latin-1")


def measure_width(text: str, size: int) -> float:
    font, text = _choose_font(text, size)
    return font.getlength(text)


def wrap(text: str, size: int, width: float, most: int) -> list[str]:
    """`text` in at most `most` lines of at most `width` pixels, cut between words; "..." if something is left."""
    font, text = _choose_font(" ".join(text.split()), size)
    lines: list[str] = []
    while text and len(lines) < most:
        fits = bisect_right(range(len(text) + 1), width, key=lambda n: font.getlength(text[:n])) - 1
        space = text.rfind(" ", 0, fits + 1)
        cut = len(text) if fits >= len(text) else space if space > 0 else max(fits, 1)
        lines.append(text[:cut])
        text = text[cut:].lstrip()
    if text:
        shorter = lines[-1][:-3]
        lines[-1] = (shorter.rpartition(" ")[0] or shorter) + " ..."
    return lines


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    lines: Sequence[str],
    size: int,
    colour: str,
    anchor: tuple[float, float] = (0, 0),
) -> None:
    """Lines of text below each other; the point `anchor` (shares of their width and height) of each lies `at`."""
    for number, line in enumerate(lines):
        font, text = _choose_font(line, size)
        x = at[0] - anchor[0] * font.getlength(text)
        y = at[1] - anchor[1] * line_height(size) + number * line_height(size)
        draw.text((round(x), round(y)), text, colour, font)


def line_height(size: int) -> int:
    """Pixels from one line of text to the next."""
    return round(1.3 * size)
