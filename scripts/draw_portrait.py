"""Draws the two portraits in echovideo_model/assets: two people who do not exist.

    python scripts/draw_portrait.py [FOLDER]

Shapes are flat, drawn four times too large and then shrunk, which smooths their edges. Both faces carry their eyes,
nose and mouth in the proportions that face alignment expects (see LANDMARKS).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

WIDTH, HEIGHT = 512, 640
OVERSIZE = 4
ASSETS = Path(__file__).parent.parent / "echovideo_model" / "assets"

# left eye, right eye, nose tip, left and right mouth corner (x, y) in pixels, left as the viewer sees it
LANDMARKS = ((212.0, 296.0), (300.0, 296.0), (256.0, 346.0), (219.5, 396.0), (292.5, 396.0))

Point = tuple[float, float]


class Sheet:
    """A picture under construction: every shape is a mask, so any shape can be cut by any other."""

    def __init__(self, background: str) -> None:
        self.picture = Image.new("RGB", (WIDTH * OVERSIZE, HEIGHT * OVERSIZE), background)

    def fill(self, colour: str, *masks: Image.Image, opacity: float = 1.0) -> None:
        """Lays `colour` over the part that all `masks` share."""
        mask = masks[0]
        for other in masks[1:]:
            mask = ImageChops.multiply(mask, other)
        if opacity < 1:
            mask = mask.point(lambda level: round(level * opacity))
        self.picture.paste(colour, mask=mask)

    def save(self, path: Path) -> None:
        self.picture.reduce(OVERSIZE).save(path, optimize=True)


def _mask() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    mask = Image.new("L", (WIDTH * OVERSIZE, HEIGHT * OVERSIZE), 0)
    return mask, ImageDraw.Draw(mask)


def oval(x: float, y: float, rx: float, ry: float | None = None) -> Image.Image:
    """An ellipse (a circle without `ry`) around (x, y)."""
    ry = rx if ry is None else ry
    mask, draw = _mask()
    draw.ellipse([OVERSIZE * v for v in (x - rx, y - ry, x + rx, y + ry)], fill=255)
    return mask


def ovals(*sizes: tuple[float, ...]) -> Image.Image:
    """Several ellipses as one shape."""
    mask, _ = _mask()
    for size in sizes:
        mask = ImageChops.lighter(mask, oval(*size))
    return mask


def spline(points: list[Point], closed: bool) -> list[Point]:
    """A smooth (Catmull-Rom) curve through `points`, in oversized pixels."""
    count = len(points)
    curve = []
    for i in range(count if closed else count - 1):
        if closed:
            a, b, c, d = (points[(i + k) % count] for k in (-1, 0, 1, 2))
        else:
            a, b, c, d = (points[min(max(i + k, 0), count - 1)] for k in (-1, 0, 1, 2))
        for step in range(24):
            t = step / 24
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            x, y = (
                sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) / 2 for axis in (0, 1)
            )
            curve.append((OVERSIZE * x, OVERSIZE * y))
    return curve if closed else [*curve, (OVERSIZE * points[-1][0], OVERSIZE * points[-1][1])]


def blob(*points: Point) -> Image.Image:
    """A smooth closed shape through `points`."""
    mask, draw = _mask()
    draw.polygon(spline(list(points), closed=True), fill=255)
    return mask


def mirrored(*half: Point) -> Image.Image:
    """A smooth closed shape, symmetric about the picture's middle: `half` runs down its right side."""
    return blob(*half, *[(WIDTH - x, y) for x, y in reversed(half) if x != WIDTH / 2])


def stroke(width: float, *points: Point) -> Image.Image:
    """A smooth open line with round ends."""
    mask, draw = _mask()
    radius = OVERSIZE * width / 2
    for (x0, y0), (x1, y1) in zip(curve := spline(list(points), closed=False), curve[1:], strict=False):
        steps = max(1, round(math.hypot(x1 - x0, y1 - y0) / 2))
        for k in range(steps + 1):
            x, y = x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return mask


def moved(mask: Image.Image, dx: float, dy: float) -> Image.Image:
    """`mask` shifted by (dx, dy) pixels; what leaves the picture is lost."""
    mask_moved, _ = _mask()
    mask_moved.paste(mask, (round(OVERSIZE * dx), round(OVERSIZE * dy)))
    return mask_moved


def both_sides(mask: Image.Image) -> Image.Image:
    """`mask` together with its mirror image."""
    return ImageChops.lighter(mask, mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def without(mask: Image.Image, cut: Image.Image) -> Image.Image:
    return ImageChops.subtract(mask, cut)


HEAD = mirrored(
    (256, 178), (318, 196), (354, 250), (356, 312), (346, 368), (322, 416), (288, 444), (256, 450)
)  # fmt: skip
NECK = mirrored((256, 400), (298, 405), (300, 470), (312, 524), (330, 560), (256, 600))
EARS = both_sides(oval(357, 314, 19, 30))


def features(
    sheet: Sheet, *, shade: str, dark: str, lips: str, smile: str, brow: float, lashes: bool
) -> None:
    """Eyes, brows, nose and a closed smile: these make both drawings faces, and different ones."""
    (left, eye_y), (right, _), (nose_x, nose_y), (mouth_left, mouth_y), (mouth_right, _) = LANDMARKS
    for x, out in ((left, -1), (right, 1)):
        sheet.fill(dark, oval(x, eye_y, 12.5, 15.5))
        if lashes:
            sheet.fill(
                dark,
                stroke(4, (x + out * 3, eye_y - 13), (x + out * 12, eye_y - 11), (x + out * 21, eye_y - 17)),
            )
        sheet.fill("#ffffff", oval(x + 4, eye_y - 6, 4), opacity=0.95)
        sheet.fill("#ffffff", oval(x - 4, eye_y + 6, 2), opacity=0.7)
        arch = [(x - out * 19, eye_y - 37), (x + out * 5, eye_y - 42), (x + out * 25, eye_y - 33)]
        sheet.fill(dark, stroke(brow, *arch))
    nose = [
        (nose_x - 15, nose_y + 5),
        (nose_x - 6, nose_y + 12),
        (nose_x + 6, nose_y + 12),
        (nose_x + 15, nose_y + 5),
    ]
    sheet.fill(shade, stroke(6, *nose))
    upper = [(nose_x - 14, mouth_y - 1), (nose_x, mouth_y + 1), (nose_x + 14, mouth_y - 1)]
    lower = [(nose_x + 22, mouth_y + 17), (nose_x, mouth_y + 23), (nose_x - 22, mouth_y + 17)]
    sheet.fill(lips, blob((mouth_left, mouth_y - 3), *upper, (mouth_right, mouth_y - 3), *lower))
    parting = [(nose_x - 18, mouth_y + 5), (nose_x, mouth_y + 8), (nose_x + 18, mouth_y + 5)]
    corners = (mouth_left - 3, mouth_y - 5), (mouth_right + 3, mouth_y - 5)
    sheet.fill(smile, stroke(4.5, corners[0], *parting, corners[1]))


def draw_amina() -> Sheet:
    """Brown skin, a cloud of dark curls, gold hoops, a mustard jumper, in front of teal."""
    skin, shade, hair, hair_light, dark = "#b5774d", "#96593a", "#33201f", "#4a2e2a", "#2a1719"
    sheet = Sheet("#5fb3ac")
    sheet.fill("#8ccfc6", oval(256, 292, 236))
    ring = [
        (256 + 118 * math.cos(a), 268 + 122 * math.sin(a), 50.0)
        for a in (math.radians(d) for d in range(-206, 27, 22))
    ]
    cloud = ovals(*ring, (256, 250, 140, 130), (142, 360, 44), (370, 360, 44), (156, 402, 34), (356, 402, 34))
    sheet.fill(hair, cloud)
    sheet.fill(skin, NECK)
    sheet.fill(shade, NECK, moved(HEAD, 0, 26))
    neckline = oval(256, 500, 62, 44)
    body = mirrored((256, 506), (330, 516), (412, 556), (446, 640), (440, 720), (256, 720))
    sheet.fill("#e3a32f", without(body, neckline))
    sheet.fill("#c98a1d", without(oval(256, 503, 76, 57), neckline), body)
    sheet.fill(skin, EARS)
    sheet.fill(shade, both_sides(oval(359, 314, 9, 16)))
    sheet.fill(skin, HEAD)
    sheet.fill(shade, without(HEAD, moved(HEAD, -13, -7)), opacity=0.75)
    sheet.fill("#d0644e", both_sides(oval(318, 358, 26, 18)), HEAD, opacity=0.38)
    features(sheet, shade=shade, dark=dark, lips="#a13b3f", smile="#57202a", brow=7, lashes=True)
    fringe = ovals(
        (172, 214, 34),
        (206, 186, 38),
        (250, 174, 38),
        (296, 180, 38),
        (336, 208, 34),
        (352, 244, 22),
        (160, 248, 22),
    )
    sheet.fill(hair, fringe)
    for x, y, r in (
        (150, 196, 20),
        (206, 148, 22),
        (272, 132, 20),
        (334, 162, 18),
        (120, 268, 16),
        (384, 240, 16),
    ):
        sheet.fill(hair_light, without(oval(x, y, r), oval(x + 5, y + 7, r)))
    sheet.fill("#f3c64e", without(both_sides(oval(366, 368, 21)), both_sides(oval(366, 368, 15))))
    return sheet


def draw_finn() -> Sheet:
    """Fair skin with freckles, a swept copper mop, a green jumper over a white collar, in front of blue."""
    skin, shade, hair, hair_light, dark = "#f4c9a4", "#dd9f7a", "#a8502a", "#c4693a", "#4a2a20"
    sheet = Sheet("#6f8fd0")
    sheet.fill("#93afe4", oval(256, 292, 236))
    sheet.fill(skin, NECK)
    sheet.fill(shade, NECK, moved(HEAD, 0, 26))
    body = mirrored((256, 560), (300, 516), (326, 512), (430, 548), (476, 640), (470, 720), (256, 720))
    sheet.fill("#3d7a5c", body)
    sheet.fill(
        "#ffffff", both_sides(blob((298, 488), (316, 500), (336, 534), (306, 582), (258, 556), (284, 530)))
    )
    sheet.fill(skin, EARS)
    sheet.fill(shade, both_sides(oval(359, 314, 9, 16)))
    sheet.fill(skin, HEAD)
    sheet.fill(shade, without(HEAD, moved(HEAD, -13, -7)), opacity=0.6)
    sheet.fill("#ec8f74", both_sides(oval(318, 358, 26, 18)), HEAD, opacity=0.45)
    freckles = [(-14, -8), (0, -12), (13, -7), (-6, 1), (8, 3)]
    for x, y in freckles:
        sheet.fill("#c98159", both_sides(oval(316 + x, 352 + y, 2.6)), opacity=0.8)
    features(sheet, shade=shade, dark=dark, lips="#c5605a", smile="#7c3236", brow=8, lashes=False)
    mop = blob(
        (148, 300),
        (142, 236),
        (158, 176),
        (206, 138),
        (272, 126),
        (334, 146),
        (366, 194),
        (370, 252),
        (362, 300),
        (350, 256),
        (330, 218),
        (288, 230),
        (232, 226),
        (196, 206),
        (176, 236),
        (162, 262),
    )
    sheet.fill(hair, mop)
    sheet.fill(hair_light, stroke(7, (190, 178), (240, 158), (300, 164), (340, 196)))
    sheet.fill(hair_light, stroke(5, (214, 196), (262, 186), (308, 198)))
    return sheet


def main(folder: Path = ASSETS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw_amina().save(folder / "portrait.png")
    draw_finn().save(folder / "second_portrait.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
