"""A person in words, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from ..errors import InvalidRequest
from .palette import ACCENTS, EYE_COLOURS, HAIR_COLOURS, LIPS, SKINS
from .people import ALTERNATIVES, BEARDS, EARRINGS, FACES, HATS, NOSES, Person

_HAIR = {  # style: what it is called, {0} for its colour
    "cropped": "short {0} hair",
    "swept": "side-parted {0} hair",
    "spiky": "spiky {0} hair",
    "curly": "curly {0} hair",
    "afro": "a {0} afro",
    "bob": "a {0} bob",
    "long": "long {0} hair",
    "wavy": "wavy {0} hair",
    "bun": "{0} hair in a bun",
    "pigtails": "{0} pigtails",
    "fringe": "{0} hair with a fringe",
    "bald": "no hair",
}
_STYLE_WORDS = {
    "short": "cropped",
    "cropped": "cropped",
    "parted": "swept",
    "swept": "swept",
    "spiky": "spiky",
    "curly": "curly",
    "curls": "curly",
    "afro": "afro",
    "bob": "bob",
    "long": "long",
    "straight": "long",
    "wavy": "wavy",
    "bun": "bun",
    "pigtails": "pigtails",
    "fringe": "fringe",
    "bangs": "fringe",
    "bald": "bald",
}
_COLOUR_WORDS = {"red": "ginger", "blonde": "blond", "brown": "chestnut", "gray": "grey"}
_NOUN_WORDS = {
    "woman": "woman",
    "lady": "woman",
    "girl": "woman",
    "she": "woman",
    "man": "man",
    "guy": "man",
    "boy": "man",
    "he": "man",
}
_SKIN_WORDS = {"dark": "deep", "black": "deep", "pale": "porcelain", "white": "fair"}
_EYE_WORDS = {"black": "dark", "gray": "grey", "hazel": "amber"}
_OTHER_WORDS = """a an the and or of in on has have who is wears wearing somebody someone person with without no hair
haired skin skinned eye eyes eyed face nose lips beard bearded freckles freckled glasses spectacles hat hats cap
earring earrings hoops studs side"""
_ACCENT_WORDS = {"yellow": "gold", "golden": "gold", "violet": "purple"}


def describe(person: Person) -> str:
    """What an onlooker would say: "a woman with brown skin, curly black hair and round red glasses"."""
    parts = [f"{person.skin} skin", _HAIR[person.hair].format(person.hair_colour)]
    parts.append(f"{person.eye_colour} eyes")
    if person.beard != "none":
        beard = {"stubble": "stubble", "moustache": "moustache", "goatee": "goatee", "full": "beard"}[
            person.beard
        ]
        parts.append(f"{_article(person.hair_colour)} {person.hair_colour} {beard}")
    if person.glasses != "none":
        parts.append(f"{person.glasses} {person.glasses_colour} glasses")
    if person.freckles:
        parts.append("freckles")
    if person.lips != "natural":
        parts.append(f"{person.lips} lips")
    if person.earrings != "none":
        parts.append(f"{person.earrings} earrings")
    if person.hat != "none":
        parts.append(f"a {person.hat_colour} {person.hat}")
    face = f"{person.face} face"
    return f"a {person.noun} with {_article(face)} {face}, {', '.join(parts[:-1])} and {parts[-1]}"


def imagine(words: str, seed: int = 0) -> Person:
    """The person that `words` describe, for instance "a man with a ginger beard and round green glasses"; what they
    leave open comes from the seed. Raises InvalidRequest naming the words that mean nothing here."""
    return Person.from_seed(seed, _read(words))


def _read(words: str) -> dict[str, str]:
    """The parameters that `words` name."""
    strange = [word for word in re.findall(r"[^\W\d_]+", words.lower()) if word not in _known()]
    if strange:
        raise InvalidRequest(
            f'cannot draw "{", ".join(strange)}": describe skin, hair, eyes, face, nose, lips, beard, freckles, '
            'glasses, hat and earrings, for instance "a woman with curly ginger hair and round green glasses"'
        )
    found: dict[str, str] = {}
    for part in re.split(r",| and | with |;|\.", words.lower()):
        tokens = re.findall(r"[a-z]+(?:-eye)?", part)
        here = set(tokens)
        for word in tokens:
            if word in _NOUN_WORDS:
                found.setdefault("noun", _NOUN_WORDS[word])
        found |= _read_head(part, tokens, here)
        found |= _read_worn(part, tokens, here)
    return found


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    """Every word that has a meaning here or can be ignored."""
    texts = [name for names in ALTERNATIVES.values() for name in names]
    for table in (_HAIR, _STYLE_WORDS, _COLOUR_WORDS, _NOUN_WORDS, _ACCENT_WORDS, _SKIN_WORDS, _EYE_WORDS):
        texts += [*table, *table.values()]
    return frozenset(re.findall("[a-z]+", " ".join([*texts, _OTHER_WORDS])))


def _read_head(part: str, tokens: list[str], here: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    beard = next(
        (name for name in BEARDS[1:4] if name in here), "full" if here & {"beard", "bearded"} else None
    )
    if beard and not here & {"no", "without"}:
        found |= {"beard": beard, "noun": "man"} | _named("hair_colour", part, HAIR_COLOURS, _COLOUR_WORDS)
    style = next((_STYLE_WORDS[word] for word in tokens if word in _STYLE_WORDS), None)
    if here & {"hair", "haired", "afro", "bob", "bun", "pigtails", "curls", "fringe", "bald", "bangs"}:
        found |= {"hair": style} if style else {}
        found |= (
            {"hair": "bald"} if "no" in here else _named("hair_colour", part, HAIR_COLOURS, _COLOUR_WORDS)
        )
    if here & {"skin", "skinned"}:
        found |= _named("skin", part, SKINS, _SKIN_WORDS)
    if here & {"eyes", "eyed"}:
        found |= _named("eye_colour", part, EYE_COLOURS, _EYE_WORDS)
    if "lips" in here:
        found |= _named("lips", part, LIPS, {})
    if "nose" in here:
        found |= _named("nose", part, NOSES, {})
    if "face" in here:
        found |= _named("face", part, FACES, {})
    return found | ({"freckles": "yes"} if here & {"freckles", "freckled"} else {})


def _read_worn(part: str, tokens: list[str], here: set[str]) -> dict[str, str]:
    if here & {"no", "without"}:
        return {name: "none" for name in ("glasses", "hat", "earrings", "beard") if name in here}
    found: dict[str, str] = {}
    if here & {"glasses", "spectacles"}:
        found["glasses"] = next((name for name in ("square", "cat-eye") if name in here), "round")
        found |= _named("glasses_colour", part, ACCENTS, _ACCENT_WORDS)
    hat = next((name for name in ("beanie", "cap", "headband") if name in here), None)
    if hat or here & {"hat", "hats"}:
        found["hat"] = hat or "brimmed hat"
        found |= _named("hat_colour", part, ACCENTS, _ACCENT_WORDS)
    if here & {"earrings", "earring", "hoops", "studs"}:
        kind = {"hoops": "hoop", "studs": "stud"}
        found["earrings"] = next((kind.get(w, w) for w in tokens if kind.get(w, w) in EARRINGS[1:]), "hoop")
    assert found.get("hat", "cap") in HATS
    return found


def _named(field: str, part: str, names: Iterable[str], synonyms: dict[str, str]) -> dict[str, str]:
    """The longest of `names` in `part`, or what a synonym stands for."""
    for name in sorted(names, key=len, reverse=True):
        if re.search(rf"\b{name}\b", part) and name not in synonyms:
            return {field: name}
    return next(({field: real} for word, real in synonyms.items() if re.search(rf"\b{word}\b", part)), {})


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
