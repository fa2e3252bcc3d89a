"""The curve of a video's scores, frame by frame. Drawn with Pillow only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor

from PIL import Image, ImageDraw

from .metrics.identity import Scores
from .picture import GREY, HAIR, INK, MARGIN, PAPER, SMALL, TEXT_SIZE, TITLE_SIZE, measure_width, wrap, write

_CURVE, _WORST, _BAND = "#2563a8", "#c8401e", "#ececf0"


def plot_scores(scores: Scores, title: str = "") -> Image.Image:
    """The similarity of each frame as a curve: worst frame marked, mean line, grey where there is no face.

    The scale always shows 0 to 1, so that two videos' plots can be compared; it goes below 0 where the curve does.
    """
    return _Plot(scores).drawn(title)


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
        self.large = Image.new("RGB", (self.WIDTH * self.FINE, self.HEIGHT * self.FINE), PAPER)
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
            self._line([(self.LEFT, self.y(value)), (self.RIGHT, self.y(value))], HAIR, 1)
        for frame in self._frames():
            self._line([(self.x(frame), self.BOTTOM), (self.x(frame), self.BOTTOM + 7)], GREY, 1)
        self._line([(self.LEFT, self.BOTTOM), (self.RIGHT, self.BOTTOM)], GREY, 1.5)

    def _curve(self) -> None:
        mean, worst, least = self.scores.mean, self.scores.worst_frame, self.scores.minimum
        if mean is None or worst is None or least is None:
            return
        for left in range(self.LEFT, self.RIGHT, 12):  # dashes
            self._line([(left, self.y(mean)), (left + 7, self.y(mean))], GREY, 1.5)
        for run in _runs(self.scores.per_frame):
            points = [(self.x(frame), self.y(value)) for frame, value in run]
            self._line(points, _CURVE, 3)
            if len(points) == 1:
                self._dot(points[0], 4, _CURVE)
        self._dot((self.x(worst), self.y(least)), 9, PAPER)
        self._dot((self.x(worst), self.y(least)), 7, _WORST)

    def _words(self, draw: ImageDraw.ImageDraw, title: str) -> None:
        title_lines = wrap(title, TITLE_SIZE, self.WIDTH - 2 * MARGIN, most=1)
        write(draw, (MARGIN, 36), title_lines, TITLE_SIZE, INK)
        summary = f"{self.scores} (grey)" if self.scores.frames_without_face else str(self.scores)
        write(draw, (MARGIN, 88), [summary], TEXT_SIZE, GREY)
        write(draw, (MARGIN, self.TOP - 44), ["cosine similarity with the reference"], SMALL, INK)
        for value in self._values():
            write(draw, (self.LEFT - 12, self.y(value)), [f"{value:.1f}"], SMALL, GREY, (1, 0.5))
        for frame in self._frames():
            write(draw, (self.x(frame), self.BOTTOM + 14), [str(frame)], SMALL, GREY, (0.5, 0))
        write(draw, (self.RIGHT + 12, self.BOTTOM + 14), ["frame"], SMALL, INK)
        if self.scores.mean is not None:
            mean = f"mean {self.scores.mean:.2f}"
            write(draw, (self.RIGHT + 12, self.y(self.scores.mean)), [mean], SMALL, INK, (0, 0.5))
        self._name_worst(draw)

    def _name_worst(self, draw: ImageDraw.ImageDraw) -> None:
        worst, least = self.scores.worst_frame, self.scores.minimum
        if worst is None or least is None:
            return
        text = f"frame {worst}: {least:.2f}"
        half = measure_width(text, SMALL) / 2 + 4
        x = min(max(self.x(worst), self.LEFT + half), self.RIGHT - half)
        write(draw, (x, self.y(least) + 12), [text], SMALL, _WORST, (0.5, 0))  # the curve is above

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
    """Runs of consecutive frames with a face, as (frame, value)."""
    runs: list[list[tuple[int, float]]] = [[]]
    for frame, value in enumerate(per_frame):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((frame, value))
    return [run for run in runs if run]
