"""Pictures that sum up a run: the contact sheet, and the curve of a video's scores. Drawn with Pillow alone."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import floor
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .errors import InvalidRequest
from .files import check_writable, replacing
from .score import Scores
from .video import FPS, to_uint8

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_PAPER, _INK, _GREY, _HAIR = "#ffffff", "#1b1b1f", "#5f6068", "#d9d9de"
_CURVE, _WORST, _BAND = "#2563a8", "#c8401e", "#ececf0"
_TITLE_SIZE, _TEXT_SIZE, _SMALL = 32, 20, 18
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
_MARGIN, _GAP, _GUTTER = 48, 16, 40

_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


class _Tile(NamedTuple):
    picture: Image.Image
    label: str


def contact_sheet(
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
        _Tile(_fitted(picture, width, height), f"frame {index}, {index / fps:.2f} s")
        for picture, index in zip(pictures, shown, strict=True)
    ]
    given = [(photo, "photo"), (face_picture, "face picture")]
    references = [(Image.fromarray(pixels), label) for pixels, label in given if pixels is not None]
    # One width for both, so that they share their left and right edges; and a face is never a stripe.
    shapes = [picture.width / picture.height for picture, _ in references]
    slot = round(height * max(0.6, min(1.0, *shapes))) if shapes else 0
    stack = [_Tile(_fitted(picture, slot, height), label) for picture, label in references]
    return _laid_out(stack, tiles, title, caption)


def plot_scores(scores: Scores, title: str = "") -> Image.Image:
    """The similarity of each frame as a curve: worst frame marked, mean line, grey where there is no face.

    The scale always shows 0 to 1, so that two videos' plots can be compared; it goes below 0 where the curve does.
    """
    return _Plot(scores).drawn(title)


def check_picture_path(path: str | os.PathLike[str]) -> None:
    """Raises InvalidRequest, before the work, if `save_picture` could not write there."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise InvalidRequest(f'cannot write "{path}" as a picture: end its name with {", ".join(_SUFFIXES)}')
    check_writable(path)


def save_picture(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Writes a picture, whole or not at all, in the format of its suffix. Raises InvalidRequest if it cannot."""
    check_picture_path(path)
    with replacing(path) as temporary:
        picture.save(temporary, quality=92)  # of JPEG and WebP


def _laid_out(references: Sequence[_Tile], tiles: Sequence[_Tile], title: str, caption: str) -> Image.Image:
    """The sheet: a reference in front of each row of frames; up to three frames make a single row."""
    rows = 1 if len(tiles) <= 3 else 2
    columns = -(-len(tiles) // rows)
    width, height = tiles[0].picture.size
    stacks = 1 if rows == 2 else len(references)  # columns of references
    slot = max((tile.picture.width for tile in references), default=0)
    left = _MARGIN + (stacks * slot + (stacks - 1) * _GAP + _GUTTER if references else 0)
    total = left + columns * width + (columns - 1) * _GAP + _MARGIN
    total = max(total, 900)  # room for the words

    above = _wrapped(title, _TITLE_SIZE, total - 2 * _MARGIN, most=3)
    below = _wrapped(caption, _TEXT_SIZE, total - 2 * _MARGIN, most=4)
    step = height + _line(_TEXT_SIZE) + 4 + _GAP  # a row with its labels
    top = _MARGIN + (len(above) * _line(_TITLE_SIZE) + 20 if above else 0)
    bottom = top + rows * step - _GAP
    end = bottom + (len(below) * _line(_TEXT_SIZE) + 20 if below else 0) + _MARGIN

    sheet = Image.new("RGB", (total, end), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), above, _TITLE_SIZE, _INK)
    _write(draw, (_MARGIN, bottom + 20), below, _TEXT_SIZE, _GREY)
    for index, tile in enumerate(references):
        column, row = (index, 0) if rows == 1 else (0, index)
        _paste(sheet, draw, tile, _MARGIN + column * (slot + _GAP), top + row * step)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        _paste(sheet, draw, tile, left + column * (width + _GAP), top + row * step)
    return sheet


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: _Tile, x: int, y: int) -> None:
    sheet.paste(tile.picture, (x, y))
    right, bottom = x + tile.picture.width, y + tile.picture.height
    draw.rectangle((x - 1, y - 1, right, bottom), outline=_HAIR)  # or a white picture has no edge
    _write(draw, (x, bottom + 4), [tile.label], _TEXT_SIZE, _GREY)


def _fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    """`picture` as large as the box allows, its shape kept."""
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


class _Plot:
    """One drawing of a curve, in coordinates of the finished picture.

    Shapes are drawn FINE times as large and reduced, which makes them smooth; then come the words.
    """

    FINE = 3
    WIDTH, HEIGHT = 1200, 600
    LEFT, RIGHT, TOP, BOTTOM = 96, 1056, 176, 520  # of the axes
    INSET = 16  # from the axes' ends to the first and the last frame

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.count = len(scores.per_frame)
        lowest = (
            0.0 if scores.minimum is None else scores.minimum - 0.14
        )  # room for the name of the worst frame
        self.floor = min(0.0, floor(lowest * 5) / 5)
        self.large = Image.new("RGB", (self.WIDTH * self.FINE, self.HEIGHT * self.FINE), _PAPER)
        self.pen = ImageDraw.Draw(self.large)

    def x(self, frame: float) -> float:
        width = self.RIGHT - self.LEFT - 2 * self.INSET
        return self.LEFT + self.INSET + width * (frame / (self.count - 1) if self.count > 1 else 0.5)

    def y(self, value: float) -> float:
        return self.BOTTOM - (self.BOTTOM - self.TOP) * (value - self.floor) / (1 - self.floor)

    def drawn(self, title: str) -> Image.Image:
        self._bands()
        self._grid()
        self._curve()
        picture = self.large.reduce(self.FINE)
        self._words(ImageDraw.Draw(picture), title)
        return picture

    def _bands(self) -> None:
        half = (self.x(1) - self.x(0)) / 2 if self.count > 1 else self.INSET
        for frame in self.scores.frames_without_face:
            left, right = max(self.x(frame) - half, self.LEFT), min(self.x(frame) + half, self.RIGHT)
            self._shape(self.pen.rectangle, (left, self.TOP), (right, self.BOTTOM), _BAND)

    def _grid(self) -> None:
        for value in self._values():
            self._line([(self.LEFT, self.y(value)), (self.RIGHT, self.y(value))], _HAIR, 1)
        for frame in self._frames():
            self._line([(self.x(frame), self.BOTTOM), (self.x(frame), self.BOTTOM + 7)], _GREY, 1)
        self._line([(self.LEFT, self.BOTTOM), (self.RIGHT, self.BOTTOM)], _GREY, 1.5)

    def _curve(self) -> None:
        mean, worst, least = self.scores.mean, self.scores.worst_frame, self.scores.minimum
        if mean is None or worst is None or least is None:
            return
        for left in range(self.LEFT, self.RIGHT, 12):  # dashes
            self._line([(left, self.y(mean)), (left + 7, self.y(mean))], _GREY, 1.5)
        for run in _runs(self.scores.per_frame):
            points = [(self.x(frame), self.y(value)) for frame, value in run]
            self._line(points, _CURVE, 3)
            if len(points) == 1:
                self._dot(points[0], 4, _CURVE)
        self._dot((self.x(worst), self.y(least)), 9, _PAPER)
        self._dot((self.x(worst), self.y(least)), 7, _WORST)

    def _words(self, draw: ImageDraw.ImageDraw, title: str) -> None:
        title_lines = _wrapped(title, _TITLE_SIZE, self.WIDTH - 2 * _MARGIN, most=1)
        _write(draw, (_MARGIN, 36), title_lines, _TITLE_SIZE, _INK)
        summary = f"{self.scores} (grey)" if self.scores.frames_without_face else str(self.scores)
        _write(draw, (_MARGIN, 88), [summary], _TEXT_SIZE, _GREY)
        _write(draw, (_MARGIN, self.TOP - 44), ["cosine similarity with the reference"], _SMALL, _INK)
        for value in self._values():
            _write(draw, (self.LEFT - 12, self.y(value)), [f"{value:.1f}"], _SMALL, _GREY, (1, 0.5))
        for frame in self._frames():
            _write(draw, (self.x(frame), self.BOTTOM + 14), [str(frame)], _SMALL, _GREY, (0.5, 0))
        _write(draw, (self.RIGHT + 12, self.BOTTOM + 14), ["frame"], _SMALL, _INK)
        if self.scores.mean is not None:
            mean = f"mean {self.scores.mean:.2f}"
            _write(draw, (self.RIGHT + 12, self.y(self.scores.mean)), [mean], _SMALL, _INK, (0, 0.5))
        self._name_worst(draw)

    def _name_worst(self, draw: ImageDraw.ImageDraw) -> None:
        worst, least = self.scores.worst_frame, self.scores.minimum
        if worst is None or least is None:
            return
        text = f"frame {worst}: {least:.2f}"
        half = _width(text, _SMALL) / 2 + 4
        x = min(max(self.x(worst), self.LEFT + half), self.RIGHT - half)
        _write(draw, (x, self.y(least) + 12), [text], _SMALL, _WORST, (0.5, 0))  # the curve is above

    def _values(self) -> list[float]:
        """Where the horizontal lines are: every fifth of 1."""
        return [fifth / 5 for fifth in range(round(self.floor * 5), 6)]

    def _frames(self) -> range:
        """The frames that are numbered: every 1, 2, 5, 10, 20, ... of them, at most a dozen."""
        steps = (digit * 10**power for power in range(12) for digit in (1, 2, 5))
        return range(0, self.count, next(step for step in steps if step * 11 >= self.count - 1))

    def _line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        larger = [(x * self.FINE, y * self.FINE) for x, y in points]
        self.pen.line(larger, colour, round(width * self.FINE), joint="curve")

    def _dot(self, centre: tuple[float, float], radius: float, colour: str) -> None:
        x, y = centre
        self._shape(self.pen.ellipse, (x - radius, y - radius), (x + radius, y + radius), colour)

    def _shape(
        self,
        draw: Callable[..., None],
        corner: tuple[float, float],
        opposite: tuple[float, float],
        colour: str,
    ) -> None:
        draw([(x * self.FINE, y * self.FINE) for x, y in (corner, opposite)], fill=colour)


def _runs(per_frame: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """(frame, value) of the frames with a face, those next to each other together."""
    runs: list[list[tuple[int, float]]] = [[]]
    for frame, value in enumerate(per_frame):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((frame, value))
    return [run for run in runs if run]


def _typeset(text: str, size: int) -> tuple[_Font, str]:
    """A font for `text`, and the text as far as the font can write it.

    Pillow's own font has little but ASCII; for anything else the first of the system's fonts that is there.
    """
    if not text.isascii():
        for name in _SYSTEM_FONTS:
            with suppress(OSError):
                return ImageFont.truetype(name, size), text
    try:
        return ImageFont.load_default(size), text
    except TypeError:  # Pillow 10.0 has a small bitmap font alone
        return ImageFont.load_default(), text.encode("latin-1", "replace").decode("latin-1")


def _width(text: str, size: int) -> float:
    font, text = _typeset(text, size)
    return font.getlength(text)


def _wrapped(text: str, size: int, width: float, most: int) -> list[str]:
    """`text` in at most `most` lines of at most `width` pixels, cut between words; "..." if something is left."""
    font, text = _typeset(" ".join(text.split()), size)
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


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    lines: Sequence[str],
    size: int,
    colour: str,
    anchor: tuple[float, float] = (0, 0),
) -> None:
    """Lines of text below each other; the point `anchor` (shares of their width and height) of each lies `at`."""
    for number, line in enumerate(lines):
        font, text = _typeset(line, size)
        x = at[0] - anchor[0] * font.getlength(text)
        y = at[1] - anchor[1] * _line(size) + number * _line(size)
        draw.text((round(x), round(y)), text, colour, font)


def _line(size: int) -> int:
    """Pixels from one line of text to the next."""
    return round(1.3 * size)
