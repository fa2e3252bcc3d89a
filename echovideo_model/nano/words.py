"""The world's words: many ways to say what a clip shows."""

from __future__ import annotations

import difflib
import re

import numpy as np

from ..errors import InvalidRequest
from .palette import CLOTHES

PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "beach": ("at the beach", "on a sunny beach", "by the sea", "at the seaside", "on the sand by the ocean"),
    "park": ("in a park", "in a sunny park", "in a garden", "among the trees in a park", "on a meadow"),
    "city at night": (
        "in the city at night",
        "downtown at night",
        "in front of a night skyline",
        "in a city street at night",
    ),
    "living room": ("in a living room", "at home", "in a cosy room", "in the lounge", "on the sofa at home"),
    "mountains": ("in the mountains", "in front of snowy peaks", "high in the alps", "on a mountain trail"),
    "snow": ("in the snow", "in a snowy forest", "in a winter forest", "on a snowy day", "in winter"),
    "library": ("in a library", "in front of bookshelves", "among books", "in a bookshop"),
    "desert": (
        "in the desert",
        "in the desert at sunset",
        "among sand dunes at sunset",
        "near a cactus in the desert",
    ),
}
ACTION_WORDS: dict[str, tuple[str, ...]] = {
    "stand": (
        "looks at the camera",
        "stands still",
        "faces the camera",
        "poses",
        "looks at us",
        "is standing still",
        "is looking at the camera",
        "stays still",
    ),
    "smile": (
        "smiles",
        "smiles at the camera",
        "gives a big smile",
        "grins",
        "breaks into a smile",
        "is smiling",
        "smiles happily",
        "shows a smile",
    ),
    "blink": (
        "blinks",
        "blinks twice",
        "closes and opens {their} eyes",
        "blinks at the camera",
        "is blinking",
        "closes {their} eyes for a moment",
    ),
    "nod": ("nods", "nods {their} head", "nods yes", "nods in agreement", "is nodding", "nods twice"),
    "shake": (
        "shakes {their} head",
        "says no with {their} head",
        "shakes the head",
        "turns {their} head from side to side",
        "is shaking {their} head",
        "shakes {their} head slowly",
    ),
    "turn": (
        "turns {their} head{side}",
        "looks{side}",
        "turns{side}",
        "turns the face{side}",
        "is turning {their} head{side}",
        "is looking{side}",
    ),
    "tilt": (
        "tilts {their} head{side}",
        "leans {their} head{side}",
        "cocks {their} head{side}",
        "is tilting {their} head{side}",
    ),
    "wave": (
        "waves",
        "waves at the camera",
        "waves hello",
        "waves {their} hand",
        "greets us with a wave",
        "is waving",
        "waves a hand",
        "is waving at the camera",
        "says hello with a wave",
    ),
    "walk in": (
        "walks in{side}",
        "enters{side}",
        "steps into view{side}",
        "comes in{side}",
        "is walking in{side}",
        "walks into the picture{side}",
        "appears{side}",
    ),
    "jump": (
        "jumps",
        "jumps up and down",
        "jumps for joy",
        "hops",
        "bounces up and down",
        "is jumping",
        "is hopping up and down",
    ),
    "talk": (
        "talks",
        "talks to the camera",
        "speaks",
        "is talking",
        "says something",
        "speaks to us",
        "is speaking",
        "tells a story",
    ),
}
CAMERA_WORDS: dict[str, tuple[str, ...]] = {
    "still": ("the camera is still", "the camera does not move", "static shot", "fixed camera"),
    "zoom in": ("the camera zooms in", "zooming in", "the camera moves closer", "slow zoom in"),
    "zoom out": ("the camera zooms out", "zooming out", "the camera moves away", "slow zoom out"),
    "pan left": ("the camera pans left", "panning to the left", "the camera moves left", "pan to the left"),
    "pan right": (
        "the camera pans right",
        "panning to the right",
        "the camera moves right",
        "pan to the right",
    ),
}
GARMENT_WORDS: dict[str, tuple[str, ...]] = {
    "pullover": ("pullover", "sweater", "jumper", "knitted top"),
    "shirt": ("shirt", "blouse", "buttoned shirt", "collared shirt"),
    "hoodie": ("hoodie", "hooded sweatshirt", "hooded top"),
    "jacket": ("jacket", "blazer", "coat", "open jacket"),
}
ADJECTIVES = ("happy", "friendly", "young", "cheerful", "nice", "kind", "smart", "charming")
NOUN_WORDS: dict[str, tuple[str, ...]] = {"woman": ("woman", "lady", "girl"), "man": ("man", "guy", "boy")}
ANYBODY = ("person", "someone")
_SIDE_WORDS = {
    "walk in": {-1: " from the left", 1: " from the right"},
    "turn": {-1: " to the left", 1: " to the right"},
    "tilt": {-1: " to the left", 1: " to the right"},
}
_WEARING = ("in a {0}", "wearing a {0}", "dressed in a {0}", "with a {0}")


MAX_TOKENS = 24  # of a sentence, end sign included; each word and each mark is one


def sentence(
    labels: dict[str, str | int], rng: np.random.Generator, whole: bool = False
) -> tuple[str, frozenset[str]]:
    """What `labels` show in one sentence of at most MAX_TOKENS, and which of them it says.

    labels: noun, colour, garment, action, side, place, camera. Parts are dropped at random unless `whole`; words,
    their order, capitals and the full stop vary.
    """
    while True:
        text, said = _sentence(labels, rng, whole)
        if len(re.findall(r"\w+|[.,]", text)) < MAX_TOKENS:
            return text, said


def _sentence(
    labels: dict[str, str | int], rng: np.random.Generator, whole: bool
) -> tuple[str, frozenset[str]]:
    def one_of(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    def says(odds: float) -> bool:
        return whole or bool(rng.random() < odds)

    noun, action = str(labels["noun"]), str(labels["action"])
    said = {"action"}
    named = says(0.85)
    subject = one_of(NOUN_WORDS[noun]) if named else one_of(ANYBODY)
    their = {"woman": "her", "man": "his"}[noun] if named else "their"
    if rng.random() < 0.25 and subject != "someone":
        subject = f"{one_of(ADJECTIVES)} {subject}"
    if subject != "someone":
        subject = f"{one_of(('a', 'a', 'the'))} {subject}"
    colour, garment = says(0.85), says(0.9)
    if colour or garment:
        clothes = one_of(GARMENT_WORDS[str(labels["garment"])]) if garment else "top"
        clothes = f"{labels['colour']} {clothes}" if colour else clothes
        phrase = one_of(_WEARING).format(clothes)
        subject += " " + phrase.replace(" a o", " an o")
        said |= {name for name, is_said in (("colour", colour), ("garment", garment)) if is_said}
    side = ""
    if says(0.8) and action in _SIDE_WORDS:
        side = _SIDE_WORDS[action][int(labels["side"])]
        said.add("side")
    doing = one_of(ACTION_WORDS[action]).format(their=their, side=side)
    if doing in ("looks", "turns", "is looking"):  # without a side these say too little
        doing = f"turns {their} head"
    said |= {"noun"} if named else set()
    text = f"{subject} {doing}"
    if says(0.9):
        said.add("place")
        place = one_of(PLACE_WORDS[str(labels["place"])])
        text = f"{place}, {text}" if rng.random() < 0.2 else f"{text} {place}"
    if says(0.5 if labels["camera"] == "still" else 0.85):
        said.add("camera")
        camera = one_of(CAMERA_WORDS[str(labels["camera"])])
        text = f"{camera}, {text}" if rng.random() < 0.15 else f"{text}{one_of((', ', '. '))}{camera}"
    if rng.random() < 0.7:
        text = ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))
    return text + ("." if rng.random() < 0.7 else ""), frozenset(said)


def vocabulary() -> list[str]:
    """Every word that a sentence may hold, lower case, in alphabetical order."""
    tables: list[dict[str, tuple[str, ...]]] = [
        PLACE_WORDS,
        ACTION_WORDS,
        CAMERA_WORDS,
        GARMENT_WORDS,
        NOUN_WORDS,
    ]
    phrases = [phrase for table in tables for phrases in table.values() for phrase in phrases]
    phrases += [
        *ADJECTIVES,
        *ANYBODY,
        *_WEARING,
        *CLOTHES,
        "top",
        "a an the",
        "left right to from",
        "her his their",
    ]
    return sorted(
        {word for phrase in phrases for word in re.findall("[a-z]+", phrase.replace("{side}", " "))}
    )


def check_words(prompt: str) -> None:
    """Raises InvalidRequest, naming similar words, for an empty prompt or one with words outside the vocabulary."""
    known = vocabulary()
    words = re.findall(r"[^\W_]+", prompt.lower())
    strange = list(dict.fromkeys(word for word in words if word not in known))
    if words and not strange:
        return
    near = [match for word in strange for match in difflib.get_close_matches(word, known, 1, 0.75)]
    hint = f"did you mean {' and '.join(near)}?" if near else f'say something like "{_EXAMPLE}"'
    what = f'does not know "{", ".join(strange)}"' if strange else "needs a sentence"
    raise InvalidRequest(
        f"the small model {what}: {hint} People in it {', '.join(_ACTIONS[:-1])} or {_ACTIONS[-1]}, in these places: "
        f"{', '.join(PLACE_WORDS)}"
    )


_EXAMPLE = "A man in a red hoodie waves in the snow."
_ACTIONS = tuple("turn the head" if name == "turn" else name for name in ACTION_WORDS)
