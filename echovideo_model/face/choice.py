"""Which face to use if a photo shows several, and what to do if it shows none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FaceIndexOutOfRange, InvalidRequest
from ..limits import FACE_ORDERS, MAX_PADDING, ON_NO_FACE
from .detect import Face, cosine_similarity


@dataclass(frozen=True)
class FaceChoice:
    """Face number `index`, from 0, in an `order`. Raises InvalidRequest, with the value, for what is not known.

    order: one of FACE_ORDERS; "closest" sorts by cosine similarity with the embedding `like` [512], the most similar
    first. padding: black on every side of the photo, as a share of its size, 0..1; it helps where a face fills the
    photo. on_no_face: one of ON_NO_FACE; what to do with a photo without a face.
    """

    order: str = "largest"
    index: int = 0
    like: np.ndarray | None = None
    padding: float = 0.0
    on_no_face: str = "error"

    def __post_init__(self) -> None:
        if self.order not in FACE_ORDERS:
            raise InvalidRequest(f'unknown face order "{self.order}": choose one of {", ".join(FACE_ORDERS)}')
        if self.order == "closest" and self.like is None:
            raise InvalidRequest('the face order "closest" needs an embedding to compare with')
        if not 0 <= self.padding <= MAX_PADDING:
            raise InvalidRequest(
                f"padding must be from 0 to {MAX_PADDING:g} of the photo's size, not {self.padding}"
            )
        if self.on_no_face not in ON_NO_FACE:
            raise InvalidRequest(
                f'unknown on_no_face "{self.on_no_face}": choose one of {", ".join(ON_NO_FACE)}'
            )


LARGEST = FaceChoice()

_ORDER_KEYS: dict[str, Callable[[Face, np.ndarray | None], float]] = {
    "largest": lambda face, like: -face.area,
    "left to right": lambda face, like: face.centre[0],
    "top to bottom": lambda face, like: face.centre[1],
    "confidence": lambda face, like: -face.confidence,
    "closest": lambda face, like: 0.0 if like is None else -cosine_similarity(face.embedding, like),
}


def rank_faces(faces: Sequence[Face], choice: FaceChoice) -> list[int]:
    """Positions in `faces`, in the order in which the choice's index counts."""
    key = _ORDER_KEYS[choice.order]
    return sorted(range(len(faces)), key=lambda place: key(faces[place], choice.like))


def choose_face(faces: Sequence[Face], choice: FaceChoice = LARGEST) -> Face:
    """The chosen face. Raises FaceIndexOutOfRange, listing the faces in the choice's order."""
    ranked = [faces[place] for place in rank_faces(faces, choice)]
    if not 0 <= choice.index < len(ranked):
        boxes = "; ".join(
            f"face {index + 1} (index {index}) at {', '.join(f'{side:.0f}' for side in face.box)}"
            for index, face in enumerate(ranked)
        )
        allowed = f"an index from 0 to {len(ranked) - 1}" if len(ranked) > 1 else "index 0"
        raise FaceIndexOutOfRange(
            f"choose {allowed}, not {choice.index}; faces in the photo ({choice.order}): {boxes}"
        )
    return ranked[choice.index]
