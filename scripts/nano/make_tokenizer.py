"""Writes the sentencepiece tokenizer of the drawn world's words in the released layout.

    python scripts/nano/make_tokenizer.py MODELS

Each word is a piece, with a small and with a capital first letter. There are no letters: a word that is not the
world's is one unknown piece, whatever its length, which the text encoder learns to pass over.
"""

from __future__ import annotations

import sys
from pathlib import Path

from echovideo_model.files import write_atomically
from echovideo_model.nano.words import vocabulary
from echovideo_model.tiny.tokenizer import NORMAL, SPACE, Piece, make_tokenizer_files


def pieces() -> list[Piece]:
    words = vocabulary()
    texts = [SPACE, *",.!?"]
    texts += [SPACE + form for word in words for form in dict.fromkeys((word, word.capitalize()))]
    return [(text, -5.0 if len(text) > 1 else -8.0, NORMAL) for text in texts]


def main(models: Path) -> None:
    for name, content in make_tokenizer_files(pieces()):
        path = models / "tokenizer" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
