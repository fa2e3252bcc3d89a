"""A tokenizer in the released layout, with a vocabulary of a few hundred pieces.

The vocabulary file of a sentencepiece model is a protocol buffer of three kinds of records; writing those few bytes by
hand is shorter than training one, needs no further package and comes out the same everywhere. Words of everyday prompts
are pieces of their own; everything else is spelled letter by letter.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

from ..limits import TEXT_TOKENS

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
SENTINELS = 100  # T5's <extra_id_0> .. <extra_id_99>, numbered downwards after the vocabulary
SPACE = "\u2581"  # in front of a word
_PROMPT_WORDS = """
a the and of in on with at is to his her their by from through an as into over under near behind person man
woman girl boy child people someone wearing wears holding holds sitting sits standing stands walking walks
running dancing smiling smiles looking looks talking speaks singing reading drinking eating cooking playing
riding turns waving laughing face hair eyes hand hands dress suit shirt jacket coat hat glasses red blue green
yellow black white golden dark light bright soft warm street city park forest beach sea mountain river garden
room kitchen cafe office library window table chair sky sun sunlight sunset night morning rain snow wind
flowers trees grass car train horse dog cat book cup coffee camera video photo portrait close up slow motion
cinematic realistic quality background young old tall beautiful happy calm slowly gently
"""
WORDS = _PROMPT_WORDS.split()
ENDINGS = ["ing", "ed", "er", "est", "ly", "s", "es", "tion", "ment", "ness"]
LETTERS = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x180))]  # Latin, punctuation, digits
NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3  # kinds of pieces


Piece = tuple[str, float, int]  # text, log probability (longer pieces are likelier), kind
SPECIAL: list[Piece] = [(PAD, 0.0, _CONTROL), (EOS, 0.0, _CONTROL), (UNKNOWN, 0.0, _UNKNOWN)]
WORD_PIECES: list[Piece] = [
    *((SPACE + word, -5.0 - index / 100, NORMAL) for index, word in enumerate(WORDS)),
    *((ending, -8.0, NORMAL) for ending in ENDINGS if len(ending) > 1),
    *((letter, -10.0, NORMAL) for letter in (SPACE, *LETTERS)),
]


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value % 2**64)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits per byte, lowest first; the top bit says that more follow."""
    *more, last = (value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7))
    return bytes(byte | 0x80 for byte in more) + bytes([last])


def _sentencepiece_model(pieces: list[Piece]) -> bytes:
    """The ModelProto: pieces (field 1), trainer settings (2), normaliser settings (3)."""
    vocabulary = b"".join(
        _bytes(
            1, _bytes(1, text.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", score) + _number(3, kind)
        )
        for text, score, kind in pieces
    )
    unigram, none = 1, -1
    numbers = {3: unigram, 4: len(pieces), 40: 2, 41: none, 42: 1, 43: 0}  # unknown, begin, end, padding
    texts = {45: UNKNOWN, 46: "<s>", 47: EOS, 48: PAD}
    trainer = b"".join(_number(field, value) for field, value in numbers.items())
    trainer += b"".join(_bytes(field, text.encode()) for field, text in texts.items())
    # space before the first word, runs of spaces as one, spaces written as SPACE
    normaliser = _bytes(1, b"identity") + _number(3, 1) + _number(4, 1) + _number(5, 1)
    return vocabulary + _bytes(2, trainer) + _bytes(3, normaliser)


def make_tokenizer_files(words: list[Piece] | None = None) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the released `tokenizer` folder; `words` instead of this vocabulary's own."""
    pieces = [*SPECIAL, *(WORD_PIECES if words is None else words)]
    sentinels = [f"<extra_id_{number}>" for number in range(SENTINELS)]
    numbers = {name: len(pieces) + SENTINELS - 1 - index for index, name in enumerate(sentinels)}
    special = {
        "additional_special_tokens": sentinels,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
    }
    known = {0: PAD, 1: EOS, 2: UNKNOWN} | {number: name for name, number in sorted(numbers.items())}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings = {
        "added_tokens_decoder": {
            str(number): {"content": known[number], **flags} for number in sorted(known)
        },
        **special,
        "clean_up_tokenization_spaces": True,
        "extra_ids": SENTINELS,
        "legacy": True,
        "model_max_length": TEXT_TOKENS,
        "sp_model_kwargs": {},
        "tokenizer_class": "T5Tokenizer",
    }
    yield "spiece.model", _sentencepiece_model(pieces)
    yield "added_tokens.json", json.dumps(numbers, indent=2).encode()
    yield "special_tokens_map.json", json.dumps(special, indent=2).encode()
    yield "tokenizer_config.json", json.dumps(settings, indent=2).encode()
