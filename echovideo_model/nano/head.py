"""A head's form, and the face painted on it."""

from __future__ import annotations

import numpy as np

from .canvas import (
    LEFT_BROW,
    LEFT_EYE,
    LOWER_LIP,
    MOUTH,
    NOSE,
    RIGHT_BROW,
    RIGHT_EYE,
    SKIN,
    UPPER_LIP,
    Canvas,
    Colour,
    Shape,
    Shapes,
    mix,
    oval,
    ribbon,
    shade,
    smooth,
    tint,
)
from .palette import EYE_COLOURS, HAIR_COLOURS, INK, LIPS, SKINS, WHITE
from .people import Person
from .shell import Pose, Shell, View

NOSE_Y, MOUTH_Y = 0.42, 0.8
NOSE_TIP = 0.22  # how far it stands out of the face
_ACROSS = np.linspace(-1, 1, 9)
_BEND, _LID_BEND = 1 - _ACROSS**2, 1 - np.abs(_ACROSS) ** 2.2
_FORMS = {  # half-width at the cheeks, how long the jaw keeps it (1.5 pointed .. 3.5 square), y of the chin
    "oval": (0.98, 2.0, 1.28),
    "round": (1.06, 2.5, 1.18),
    "square": (1.01, 3.5, 1.25),
    "heart": (1.03, 1.55, 1.27),
    "long": (0.92, 2.3, 1.40),
}


class Form:
    """The measures of one person's head, in head units."""

    def __init__(self, person: Person) -> None:
        cheek, jaw, bottom = _FORMS[person.face]
        self.cheek = cheek + 0.03 * person.cheeks
        jaw *= 1 + 0.12 * person.jaw
        self.chin_y = bottom + 0.05 * person.chin
        turn = np.linspace(np.pi / 2, 0, 11)  # from the crown to the temples: an ellipse
        crown = [(-0.15 - 0.98 * np.sin(a), np.cos(a), np.cos(a), 0.0) for a in turn]
        start = 0.34 * self.chin_y
        face = []
        for down in np.sin(np.linspace(0, np.pi / 2, 11)):
            round_off = (1 - down**jaw) ** 0.52
            depth = 0.98 * (1 - down**3) ** 0.5
            face.append(
                (start + (self.chin_y - start) * down, self.cheek * round_off, depth, 0.02 + 0.36 * down**2)
            )
        table = np.array([*crown, *face])
        self.shell = Shell(table)
        self.heights = table[:, 0]
        self.eye_x = 0.455 + 0.035 * person.eye_spacing

    def landmarks(self, view: View, pose: Pose, person: Person) -> np.ndarray:
        """Pixels [5, 2]: left eye, right eye, nose tip, left and right mouth corner, left as the viewer sees it."""
        corner, lift = _find_mouth_corner(person, pose)
        points = [
            (-self.eye_x, 0, 0),
            (self.eye_x, 0, 0),
            (0, NOSE_Y, NOSE_TIP),
            (-corner, MOUTH_Y - lift, 0),
            (corner, MOUTH_Y - lift, 0),
        ]
        return self.shell.patch(np.array(points, float)).seen(view)

    def box(self, view: View) -> np.ndarray:
        """Pixels x0, y0, x1, y1 [4]: from the middle of the forehead to the chin, ears left out."""
        heights = np.linspace(-0.72, self.chin_y, 12)
        outline = self.shell.outline(heights).seen(view)
        return np.concatenate([outline.min(0), outline.max(0)])


def _find_mouth_corner(person: Person, pose: Pose) -> tuple[float, float]:
    """x of the mouth's right corner, and how far it is above the middle."""
    width = 0.37 + 0.05 * person.mouth_width + 0.12 * pose.smile - 0.08 * pose.open
    return width, -0.02 + 0.17 * pose.smile


class Face:
    """The bare head and everything painted on it, from the skin to the brows."""

    def __init__(self, person: Person, form: Form) -> None:
        self._person, self._form, self._skin = person, form, SKINS[person.skin]
        self._outline = form.shell.outline(form.heights)
        self._right, self._left = (form.shell.rim(form.heights[5:], side) for side in (1, -1))
        skin = self._skin
        self._still = Shapes([*_cheeks(person, skin), *_beard(person, form, skin), *_nose(person, skin)])
        self._still_patch = form.shell.patch(self._still.points)

    def draw(self, canvas: Canvas, view: View, pose: Pose) -> None:
        canvas.fill(self._outline.seen(view), self._skin, SKIN)
        self._shade_side(canvas, view)
        canvas.fill_all(self._still_patch.seen(view), self._still)
        moving = Shapes(
            [
                *_mouth(self._person, pose, self._skin),
                *(
                    shape
                    for side in (-1, 1)
                    for shape in _eye(self._person, pose, self._form, side, self._skin)
                ),
            ]
        )
        canvas.fill_all(self._form.shell.patch(moving.points).seen(view), moving)

    def _shade_side(self, canvas: Canvas, view: View) -> None:
        """A soft shadow in two steps along the right side."""
        right, left = self._right.seen(view), self._left.seen(view)
        for depth, share in ((0.17, 0.08), (0.09, 0.17)):
            bow = depth * np.sin(np.linspace(0.25, np.pi, len(right)))[:, None] + 0.01
            edge = (right + (left - right) * bow)[::-1]
            canvas.fill(np.concatenate([right, edge]), shade(self._skin, share), SKIN)


def _cheeks(person: Person, skin: Colour) -> list[Shape]:
    shapes: list[Shape] = []
    if person.blush > 0.3:
        rosy = mix(skin, (236, 92, 88), 0.10 + 0.16 * person.blush)
        shapes += [(oval(side * 0.58, 0.46, 0.22, 0.15), rosy, SKIN) for side in (-1, 1)]
    if person.freckles:
        dots = ((-0.12, 0.0), (0.0, -0.07), (0.12, -0.01), (-0.05, 0.09), (0.08, 0.1))
        brown = mix(shade(skin, 0.2), (150, 74, 40), 0.5)
        shapes += [
            (oval(side * 0.52 + x, 0.42 + y, 0.032, corners=8), brown, SKIN)
            for side in (-1, 1)
            for x, y in dots
        ]
    if person.mole:
        x, y = ((-0.5, 0.62), (0.5, 0.62), (-0.34, 0.3), (0.36, 0.94))[person.mole - 1]
        shapes.append((oval(x, y, 0.04, corners=10), mix(INK, skin, 0.2), SKIN))
    return shapes


def _beard(person: Person, form: Form, skin: Colour) -> list[Shape]:
    colour = HAIR_COLOURS[person.hair_colour]
    if person.beard in ("none", "moustache"):
        return []
    bottom = form.chin_y
    if person.beard == "goatee":
        chin = smooth(
            np.array([(-0.2, 0.98), (0, 0.94), (0.2, 0.98), (0.22, bottom - 0.06), (-0.22, bottom - 0.06)])
        )
        return [(chin, colour, SKIN)]
    tone = mix(skin, colour, 0.28) if person.beard == "stubble" else colour
    top = 0.62 if person.beard == "stubble" else 0.52
    edge = np.array([(1.1, 0.2), (0.84, 0.28), (0.62, top + 0.12), (0.3, top), (0, top - 0.02)])
    inner = np.concatenate([edge * (-1, 1), edge[::-1][1:]])  # left sideburn, over the lip, right sideburn
    outer = np.array(
        [(1.2, 0.5), (1.2, 0.8), (1.2, 1.0), (0.9, bottom - 0.05), (0.4, bottom), (0, bottom)]
    )  # beyond the rim: clamped to it
    outline = np.concatenate([smooth(inner, closed=False), outer, (outer * (-1, 1))[::-1][1:]])
    return [(outline, tone, SKIN)]


def _nose(person: Person, skin: Colour) -> list[Shape]:
    dark = shade(skin, 0.26)
    wide = {"button": 0.15, "round": 0.2, "pointed": 0.13, "broad": 0.26}[person.nose]
    wide *= 1 + 0.14 * person.nose_size
    y, tip = NOSE_Y, NOSE_TIP
    side = np.array([(0.03, 0.04, 0.06), (0.05, 0.2, 0.14), (0.0, y + 0.03, tip), (wide, y + 0.02, 0.06)])
    shapes: list[Shape] = []
    if person.nose in ("pointed", "broad"):
        shapes.append((side, shade(skin, 0.12), NOSE))
    if person.nose == "pointed":
        under = [
            (-wide, y - 0.02, 0.06),
            (-0.05, y + 0.09, tip),
            (0.05, y + 0.09, tip),
            (wide, y - 0.02, 0.06),
        ]
    else:
        drop = 0.1 if person.nose == "button" else 0.12
        under = [
            (-wide, y, 0.06),
            (-wide * 0.5, y + drop, 0.14),
            (0, y + drop * 0.8, tip),
            (wide * 0.5, y + drop, 0.14),
            (wide, y, 0.06),
        ]
    line = smooth(np.array(under), closed=False)
    flat = ribbon(line[:, :2], 0.075, 0.5)
    lifts = np.interp(flat[:, 0], line[:, 0], line[:, 2])
    glow = oval(-0.02, y - 0.06, wide * 0.4, 0.07, corners=12)
    for points, colour, above in ((glow, tint(skin, 0.25), tip), (flat, dark, lifts)):
        shapes.append((np.column_stack([points, np.broadcast_to(above, len(points))]), colour, NOSE))
    return shapes


def _mouth(person: Person, pose: Pose, skin: Colour) -> list[Shape]:
    """Both lips around the line where they meet, or around an open mouth with its teeth."""
    corner, lift = _find_mouth_corner(person, pose)
    red = LIPS[person.lips]
    red = mix(skin, red, 0.55) if person.lips == "natural" else mix(skin, red, 0.88)
    opened = max(pose.open, 0.0)
    smiling = max(pose.smile - 0.5, 0) / 0.5  # a broad smile shows the teeth
    x, bend = _ACROSS, _BEND
    full = 0.1 + 0.035 * person.fullness
    line = MOUTH_Y - lift + (lift + 0.02) * bend
    upper = line - (0.02 * smiling) * bend - 0.08 * opened * bend
    lower = line + (0.2 * smiling) * bend + 0.30 * opened * bend
    bow = np.interp(np.abs(x), (0, 0.22, 0.6, 1), (0.75, 1.0, 0.75, 0.0))
    top, bottom = upper - full * 0.8 * bow, lower + full * 1.15 * bend
    x = x * corner

    def between(high: np.ndarray, low: np.ndarray) -> np.ndarray:
        return np.concatenate([np.stack([x, high], 1), np.stack([x, low], 1)[::-1]])

    shapes: list[Shape] = []
    if person.beard in ("moustache", "full", "goatee"):
        hair = HAIR_COLOURS[person.hair_colour]
        above = np.stack(
            [x * 1.12, upper - full * 0.5 - (0.17 - 0.05 * np.abs(x / corner)) * (0.35 + bend * 0.65)], 1
        )
        below = np.stack([x * 1.2, upper - 0.02 + 0.05 * np.abs(x / corner)], 1)[::-1]
        shapes.append((np.concatenate([above, below]), tint(hair, 0.06), SKIN))
    shapes.append((between(lower, bottom), tint(red, 0.08), LOWER_LIP))
    shapes.append((between(top, upper + 0.01), red, UPPER_LIP))
    if opened > 0.05 or smiling > 0.05:
        shapes.append((between(upper, lower), (92, 28, 40), MOUTH))
        reach = np.minimum(upper + 0.55 * (lower - upper), upper + 0.13)
        shapes.append((between(upper, reach), WHITE, MOUTH))
    else:
        parting = ribbon(np.stack([x * 1.06, line], 1), 0.055, 0.6)
        shapes.append((parting, shade(red, 0.5), MOUTH))
    return shapes


def _eye(person: Person, pose: Pose, form: Form, side: int, skin: Colour) -> list[Shape]:
    """White, iris and lids of one eye, and its brow. The iris is cut by the lids."""
    wide, high, low, tilt = {
        "round": (0.235, 0.235, 0.185, 0.0),
        "almond": (0.265, 0.19, 0.135, -0.05),
        "narrow": (0.265, 0.135, 0.10, -0.02),
        "droopy": (0.25, 0.185, 0.15, 0.06),
    }[person.eye_shape]
    size = 1 + 0.13 * person.eye_size
    wide, high, low = wide * size, high * size, low * size
    shut = 1 - pose.blink
    cheerful = 0.35 * max(pose.smile - 0.3, 0)  # cheeks push the lower lid up
    x, bend = _ACROSS, _LID_BEND
    slant = tilt * x * side  # of the outer corner
    upper = slant - high * (shut - (1 - shut) * 0.45) * bend
    lower = slant + low * ((1 - cheerful) * shut + (1 - shut) * 0.75) * bend
    lower = np.maximum(lower, upper)
    x = x * wide
    middle = np.array([side * form.eye_x, 0.0])
    iris = oval(0.07 * pose.gaze, (low - high) * 0.22, 0.155 * size, 0.17 * size, corners=16)
    pupil = oval(0.07 * pose.gaze, (low - high) * 0.22, 0.082 * size, 0.09 * size, corners=12)
    eye = LEFT_EYE if side < 0 else RIGHT_EYE
    colour = EYE_COLOURS[person.eye_colour]
    shapes: list[Shape] = []
    if pose.blink < 0.75:
        opening = np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])
        shapes.append((opening, (252, 250, 246), eye))
        for points, fill in ((iris, colour), (pupil, mix(INK, colour, 0.1))):
            high_lid, low_lid = np.interp(points[:, 0], x, upper), np.interp(points[:, 0], x, lower)
            cut = np.stack([points[:, 0], np.clip(points[:, 1], high_lid, low_lid)], 1)
            shapes.append((cut, fill, eye))
        if pose.blink < 0.3:
            shapes.append((oval(0.06 + 0.07 * pose.gaze, -0.07 * size, 0.048, corners=10), WHITE, eye))
    lid = np.stack([x, upper], 1)
    if person.lashes:
        flick = lid[-1 if side > 0 else 0] + (side * 0.07, -0.07)
        lid = np.concatenate([lid, [flick]] if side > 0 else [[flick], lid])
    thick = 0.075 if person.lashes else 0.055
    shapes.append((ribbon(lid, thick, 0.55), mix(INK, skin, 0.05), eye))
    shapes += [_brow(person, pose, side)]
    return [(points + middle, fill, label) for points, fill, label in shapes]


def _brow(person: Person, pose: Pose, side: int) -> Shape:
    """Around the eye's middle; thick at the nose and thin outside."""
    outward = np.linspace(-0.22, 0.3, 7)
    bend = 1 - ((outward - 0.06) / 0.26) ** 2
    y = -0.40 - 0.1 * pose.brows - 0.05 * max(person.eye_size, 0)
    rise = 0.07 * person.brow_tilt * (outward / 0.3) - (0.055 + 0.04 * person.brow_arch) * bend
    line = np.stack([side * outward, y + rise], 1)
    hair = HAIR_COLOURS[person.hair_colour]
    light = person.hair_colour in ("white", "platinum", "blond", "pink", "blue")
    points = ribbon(line, 0.10 + 0.035 * person.brow_width, 0.5)
    return points, shade(hair, 0.35 if light else 0.15), LEFT_BROW if side < 0 else RIGHT_BROW
