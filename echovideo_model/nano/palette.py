"""The world's colours. A name is what sentences call it."""

from __future__ import annotations

from .canvas import Colour

SKINS: dict[str, Colour] = {
    "porcelain": (255, 224, 204),
    "fair": (246, 205, 172),
    "rosy": (240, 184, 158),
    "golden": (226, 172, 122),
    "olive": (203, 154, 106),
    "tan": (184, 125, 82),
    "brown": (152, 98, 62),
    "dark brown": (116, 72, 48),
    "deep": (84, 52, 40),
}
HAIR_COLOURS: dict[str, Colour] = {
    "black": (38, 32, 40),
    "dark brown": (74, 46, 38),
    "chestnut": (124, 70, 42),
    "auburn": (156, 62, 38),
    "ginger": (214, 106, 44),
    "blond": (238, 196, 104),
    "platinum": (246, 228, 186),
    "grey": (158, 160, 168),
    "white": (236, 234, 232),
    "pink": (232, 122, 158),
    "blue": (66, 110, 184),
}
EYE_COLOURS: dict[str, Colour] = {
    "brown": (110, 66, 36),
    "dark": (46, 32, 34),
    "blue": (70, 140, 214),
    "green": (66, 150, 96),
    "grey": (126, 142, 156),
    "amber": (204, 138, 44),
}
LIPS: dict[str, Colour] = {
    "natural": (186, 90, 84),
    "red": (206, 40, 52),
    "plum": (132, 40, 84),
    "coral": (238, 104, 88),
}
ACCENTS: dict[str, Colour] = {
    "black": (40, 38, 46),
    "red": (208, 58, 54),
    "blue": (52, 96, 180),
    "green": (56, 132, 92),
    "gold": (216, 164, 56),
    "purple": (122, 76, 158),
}
"""Of glasses and hats."""

CLOTHES: dict[str, Colour] = {
    "red": (214, 62, 58),
    "orange": (240, 140, 52),
    "yellow": (246, 202, 70),
    "green": (62, 142, 96),
    "blue": (58, 104, 190),
    "purple": (132, 84, 172),
    "pink": (240, 146, 172),
    "white": (246, 244, 238),
    "black": (48, 46, 56),
}
WHITE: Colour = (255, 255, 255)
INK: Colour = (44, 28, 32)
GOLD: Colour = (240, 196, 84)
