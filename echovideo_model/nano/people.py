"""People by parameters, each from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from .palette import ACCENTS, EYE_COLOURS, HAIR_COLOURS, LIPS, SKINS

NOUNS = ("woman", "man")
FACES = ("oval", "round", "square", "heart", "long")
HAIR_STYLES = (
    "cropped",
    "swept",
    "spiky",
    "curly",
    "afro",
    "bob",
    "long",
    "wavy",
    "bun",
    "pigtails",
    "fringe",
    "bald",
)
EYE_SHAPES = ("round", "almond", "narrow", "droopy")
NOSES = ("button", "round", "pointed", "broad")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "round", "square", "cat-eye")
HATS = ("none", "beanie", "cap", "brimmed hat", "headband")
EARRINGS = ("none", "stud", "hoop", "drop")

_HAIR_OF = {  # how often each style is worn, in the order of HAIR_STYLES
    "woman": (1, 1, 0.5, 2, 2, 3, 3, 3, 2, 2, 3, 0.2),
    "man": (3, 3, 2, 2, 1.5, 0.4, 0.7, 0.5, 0.6, 0, 1, 1.5),
}


@dataclass(frozen=True)
class Person:
    """Everything that makes somebody look like themselves. Measures are shares around 0, about -1 .. 1."""

    noun: str
    skin: str
    face: str
    cheeks: float
    jaw: float
    chin: float
    hair: str
    hair_colour: str
    volume: float
    parting: float  # where the hair parts: -1 left .. 1 right in the picture
    brow_width: float
    brow_tilt: float
    brow_arch: float
    eye_shape: str
    eye_colour: str
    eye_size: float
    eye_spacing: float
    lashes: bool
    nose: str
    nose_size: float
    mouth_width: float
    lips: str
    fullness: float
    blush: float
    freckles: bool
    mole: int  # 0: none; else its place
    beard: str
    glasses: str
    glasses_colour: str
    hat: str
    hat_colour: str
    earrings: str

    @classmethod
    def from_seed(cls, seed: int, given: Mapping[str, str] | None = None) -> Person:
        """The same person for the same seed, on every machine; `given` parameters take precedence over what the seed
        draws."""
        return _drawn(np.random.default_rng([seed, 0x9E0]), given or {})

    def wearing(self, **changes: str) -> Person:
        """The same person in other clothes or with another look. Raises TypeError for a parameter that does not
        exist."""
        return replace(self, **changes)  # type: ignore[arg-type]


ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "noun": NOUNS,
    "skin": tuple(SKINS),
    "face": FACES,
    "hair": HAIR_STYLES,
    "hair_colour": tuple(HAIR_COLOURS),
    "eye_shape": EYE_SHAPES,
    "eye_colour": tuple(EYE_COLOURS),
    "nose": NOSES,
    "lips": tuple(LIPS),
    "beard": BEARDS,
    "glasses": GLASSES,
    "glasses_colour": tuple(ACCENTS),
    "hat": HATS,
    "hat_colour": tuple(ACCENTS),
    "earrings": EARRINGS,
}


def _drawn(rng: np.random.Generator, given: Mapping[str, str]) -> Person:
    """Every parameter is drawn, given ones too, so that naming one changes no other."""

    def choose(name: str, weights: tuple[float, ...] | None = None) -> str:
        names = ALTERNATIVES[name]
        odds = None if weights is None else np.array(weights) / sum(weights)
        drawn = names[int(rng.choice(len(names), p=odds))]
        return given.get(name, drawn)

    def measure() -> float:
        return float(rng.uniform(-1, 1))

    noun = choose("noun")
    woman = noun == "woman"
    values: dict[str, object] = {
        "noun": noun,
        "skin": choose("skin"),
        "face": choose("face", (3, 2, 2, 2, 1.5) if woman else (2, 2, 3, 1, 2)),
        "cheeks": measure(),
        "jaw": measure(),
        "chin": measure(),
        "hair": choose("hair", _HAIR_OF[noun]),
        "hair_colour": choose("hair_colour", (3, 2, 2, 2, 2, 2, 1, 1.2, 1.2, 0.8, 0.6)),
        "volume": measure(),
        "parting": measure(),
        "brow_width": measure() * 0.7 + (-0.3 if woman else 0.3),
        "brow_tilt": measure(),
        "brow_arch": measure(),
        "eye_shape": choose("eye_shape"),
        "eye_colour": choose("eye_colour"),
        "eye_size": measure(),
        "eye_spacing": measure(),
        "lashes": bool(rng.random() < 0.85) and woman,
        "nose": choose("nose"),
        "nose_size": measure(),
        "mouth_width": measure(),
        "lips": choose("lips", (1.5, 1, 0.8, 1) if woman else (1, 0, 0, 0)),
        "fullness": measure(),
        "blush": float(rng.uniform(0, 1)),
        "freckles": bool(rng.random() < 0.22) or "freckles" in given,
        "mole": int(rng.integers(1, 5)) if rng.random() < 0.15 else 0,
        "beard": choose("beard", (1, 0, 0, 0, 0) if woman else (2.2, 1, 1, 1, 1.6)),
        "glasses": choose("glasses", (2.4, 0.8, 0.8, 0.6 if woman else 0.1)),
        "glasses_colour": choose("glasses_colour"),
        "hat": choose("hat", (5, 0.7, 0.7, 0.7, 0.7 if woman else 0.2)),
        "hat_colour": choose("hat_colour"),
        "earrings": choose("earrings", (1, 1, 1, 1) if woman else (6, 1, 0.4, 0)),
    }
    assert set(values) == {field.name for field in fields(Person)}
    return Person(**values)  # type: ignore[arg-type]
