"""Hair: what hangs behind the head, and what lies on it."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from .canvas import HAIR, Canvas, oval, ribbon, shade, smooth, tint
from .palette import HAIR_COLOURS
from .people import Person
from .shell import Patch, Shell, View

COVERS_EARS = ("bob", "long", "wavy", "fringe")
CLOSED_HATS = ("beanie", "cap", "brimmed hat")
_BEHIND = {"bob": (1.0, 0.12), "long": (2.15, 0.1), "wavy": (1.95, 0.22), "fringe": (1.35, 0.08)}

# The hairline's right half from the ear to the middle (x, y), for styles that are symmetrical.
_LINES = {
    "cropped": ((1.0, 0.12), (0.95, -0.22), (0.80, -0.42), (0.72, -0.62), (0.4, -0.74), (0, -0.76)),
    "spiky": ((1.0, 0.12), (0.95, -0.22), (0.84, -0.44), (0.7, -0.6), (0.4, -0.68), (0, -0.66)),
    "curly": ((1.0, 0.2), (0.96, -0.12), (0.88, -0.4), (0.7, -0.62), (0.4, -0.72), (0, -0.7)),
    "afro": ((1.0, 0.3), (0.98, -0.1), (0.9, -0.42), (0.7, -0.66), (0.4, -0.76), (0, -0.78)),
    "bob": ((0.80, 0.98), (0.92, 0.5), (0.96, 0.0), (0.86, -0.38), (0.6, -0.66), (0.0, -0.92)),
    "long": ((0.86, 2.0), (0.92, 1.2), (0.97, 0.4), (0.9, -0.2), (0.66, -0.6), (0.0, -0.94)),
    "wavy": ((0.90, 1.8), (0.86, 1.2), (0.99, 0.5), (0.88, -0.15), (0.7, -0.5), (0.0, -0.92)),
    "bun": ((1.0, 0.22), (0.98, -0.15), (0.9, -0.46), (0.68, -0.7), (0.36, -0.82), (0, -0.84)),
    "pigtails": ((1.0, 0.25), (0.98, -0.1), (0.92, -0.4), (0.72, -0.62), (0.4, -0.8), (0, -0.98)),
    "fringe": ((0.88, 1.2), (0.95, 0.6), (0.96, 0.05), (0.9, -0.27), (0.45, -0.31), (0, -0.33)),
}


class Hairdo:
    """One person's hair, cut off where a hat sits."""

    def __init__(self, person: Person) -> None:
        self.style = person.hair
        self.colour = HAIR_COLOURS[person.hair_colour]
        self.thick = 0.11 + 0.035 * person.volume
        self.parting = person.parting
        self.volume = person.volume
        self.flat = person.hat in CLOSED_HATS
        if self.style in ("swept", "spiky", "wavy"):
            self.thick += 0.06
        if self.style in ("afro", "curly"):
            self.thick += 0.02

    @cached_property
    def shell(self) -> Shell:
        """The hair's own surface, around the skull and down to where it ends."""
        return Shell(self._table(self.thick))

    @cached_property
    def _under(self) -> Shell:
        """Where hair meets skin."""
        return Shell(self._table(0.0))

    def _table(self, t: float) -> np.ndarray:
        end, flare = _BEHIND.get(self.style, (0.45, 0.0))
        turn = np.linspace(np.pi / 2, 0, 11)
        rows = [
            (-0.15 - (0.98 + t) * np.sin(a), (1 + t) * np.cos(a), (1.02 + t) * np.cos(a), -0.04) for a in turn
        ]
        rows.append((0.25, 0.99 + t + flare * 0.4, 1.0 + t, -0.06))
        if self.style not in _BEHIND:
            return np.array([*rows, (end, 0.92 + t / 2, 0.9, -0.1)])
        for share, slim in ((0.35, 0.0), (0.6, 0.0), (0.8, 0.02), (0.93, 0.07), (1.0, 0.2)):
            wave = 0.06 * np.cos(share * 13) if self.style == "wavy" else 0.0
            y = 0.25 + (end - 0.25) * share
            rows.append((y, 0.99 + t + flare * (0.4 + 0.6 * share) + wave - slim, 0.98 - slim, -0.1))
        return np.array(rows)

    def draw_behind(self, canvas: Canvas, view: View) -> None:
        """What the neck and the shoulders hide."""
        dark = shade(self.colour, 0.28)
        if self.style in _BEHIND:
            canvas.fill(smooth(self._behind.seen(view), steps=2), dark, HAIR)
        elif self.style == "afro":
            self._curls(canvas, view, 1.13 + 0.07 * self.volume, 0.42, range(-30, 211, 22), dark)
            self._curls(canvas, view, 1.1 + 0.07 * self.volume, 0.42, range(-20, 201, 20), self.colour)
        elif self.style == "curly":
            self._curls(canvas, view, 1.05, 0.25, range(-14, 196, 21), dark)
        elif self.style == "bun" and not self.flat:
            (x, y), size = view(np.array([(0.0, -1.42, -0.35)]))[0], view.unit
            canvas.fill(oval(x, y, 0.44 * size, 0.38 * size), self.colour, HAIR)
            canvas.fill(oval(x, y + 0.3 * size, 0.34 * size, 0.1 * size), dark, HAIR)
        elif self.style == "pigtails":
            for side in (-1, 1):
                x, y = view(np.array([(side * 1.28, 0.1, -0.3)]))[0]
                for dy, r in ((0.0, 0.38), (0.38, 0.33), (0.68, 0.22)):
                    centre = x + side * 0.1 * dy * view.unit, y + dy * view.unit
                    canvas.fill(oval(*centre, r * view.unit), dark if dy else self.colour, HAIR)

    @cached_property
    def _behind(self) -> Patch:
        return self.shell.outline(np.linspace(-0.9, _BEHIND[self.style][0], 12))

    @cached_property
    def _front(self) -> tuple[Patch, Patch, Patch]:
        """The hairline, and the rim to its right and left, upwards."""
        line = smooth(self._hairline(), closed=False, steps=3)
        end, top = float(line[0, 1]), self.shell.top
        heights = top + (end - top) * (1 - np.sin(np.linspace(0, np.pi / 2, 16)))
        return self._under.patch(line), self.shell.rim(heights, 1), self.shell.rim(heights, -1)

    def draw_front(self, canvas: Canvas, view: View) -> None:
        """What lies on the head: over forehead and temples, over the ears if it is long."""
        if self.style == "bald":
            return
        landed, right, left = (patch.seen(view) for patch in self._front)
        if self.style == "spiky" and not self.flat:
            right, left = self._spikes(right, view), self._spikes(left, view)
        canvas.fill(np.concatenate([landed, right, left[::-1]]), self.colour, HAIR)
        if self.style == "afro":
            self._curls(canvas, view, 1.0, 0.3, range(20, 161, 20), self.colour, lift=0.62)
        elif self.style == "curly":
            self._curls(canvas, view, 1.0, 0.27, range(8, 173, 20), self.colour)
            self._curls(canvas, view, 0.8, 0.22, range(10, 171, 23), self.colour, lift=0.62)
        self._shine(canvas, view)

    def _hairline(self) -> np.ndarray:
        """From the left ear over the forehead to the right ear: [N, 2] on the shell."""
        if self.style == "swept":
            points = np.array(
                [
                    (-1.02, 0.14),
                    (-0.98, -0.25),
                    (-0.86, -0.44),
                    (-0.62, -0.84),
                    (-0.2, -0.62),
                    (0.35, -0.52),
                    (0.74, -0.62),
                    (0.92, -0.36),
                    (0.99, -0.2),
                    (1.02, 0.14),
                ]
            )
            return points if self.parting < 0 else (points * (-1, 1))[::-1]
        half = np.array(_LINES[self.style])
        whole = np.concatenate([half * (-1, 1), half[::-1][1:]])
        if self.style in ("bob", "long", "wavy"):
            whole[len(half) - 1, 0] = 0.38 * self.parting
        return whole

    def _spikes(self, rim: np.ndarray, view: View) -> np.ndarray:
        """Every other point of the upper rim pulled outwards."""
        rim = rim.copy()
        middle = view(np.array([(0.0, -0.2, 0.0)]))[0]
        rim[6::2] += (rim[6::2] - middle) * (0.2 + 0.04 * self.volume)
        return rim

    def _curls(
        self,
        canvas: Canvas,
        view: View,
        reach: float,
        radius: float,
        degrees: range,
        colour: tuple[int, int, int],
        lift: float = 0.0,
    ) -> None:
        """Round curls along an arc around the head, from the right (0) over the top (90) to the left."""
        angles = np.radians(list(degrees))
        around = np.stack(
            [reach * np.cos(angles), -0.14 - (reach + 0.02) * np.sin(angles), np.full(len(angles), lift)], 1
        )
        for (x, y), height in zip(view(around), around[:, 1], strict=True):
            if not (self.flat and height < -0.55):
                canvas.fill(oval(x, y, radius * view.unit), colour, HAIR)

    def _shine(self, canvas: Canvas, view: View) -> None:
        """A lighter band or curls on the left of the crown."""
        if self.flat:
            return
        light = tint(self.colour, 0.2)
        if self.style in ("afro", "curly"):
            for x, y in ((-0.62, -0.9), (-0.2, -1.08), (0.3, -1.0)):
                cx, cy = view(np.array([(x, y, 0.5)]))[0]
                curve = oval(cx, cy, 0.12 * view.unit, corners=16)[7:14]
                canvas.fill(ribbon(curve, 0.05 * view.unit, 0.4), light, HAIR)
            return
        for line in self._shines:
            canvas.fill(line.seen(view), light, HAIR)

    @cached_property
    def _shines(self) -> list[Patch]:
        lines = []
        for height, start, stop in ((-1.0, -0.5, 0.1), (-0.86, -0.66, -0.25)):
            across = np.linspace(start, stop, 7)
            line = np.stack([across, height + 0.16 * (across + 0.1) ** 2 - self.thick * 0.4], 1)
            lines.append(self.shell.patch(ribbon(line, 0.065, 0.3)))
        return lines
