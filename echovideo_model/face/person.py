"""The whole person of a photo, cut out by a mask, in place of the face picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InvalidRequest
from .align import FACE_SIZE
from .detect import Face
from .photo import decode_cutout, decode_photo

File = tuple[str, Path | bytes]
"""A picture's name, for messages, and where or what it is."""

_INSIDE = 128  # of a mask's 0..255: from here on, a pixel belongs to the person


def cut_out_person(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The person on black, cut out around the mask and padded to a square: uint8 [512, 512, 3].

    photo: uint8 RGB [H, W, 3]; mask: uint8 [H, W], 255 where the person is and 0 elsewhere, soft edges in between.
    Raises InvalidRequest for a mask without anybody in it.
    """
    rows, columns = (np.flatnonzero((mask >= _INSIDE).any(axis)) for axis in (1, 0))
    if not rows.size:
        raise InvalidRequest("the mask is empty: it must be white where the person is")
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    cut = np.rint(photo[part] * (mask[part].astype(np.float32) / 255)[..., None]).astype(np.uint8)
    height, width = cut.shape[:2]
    square = Image.new("RGB", (max(height, width),) * 2)
    square.paste(Image.fromarray(cut), ((square.width - width) // 2, (square.height - height) // 2))
    return np.asarray(square.resize((FACE_SIZE, FACE_SIZE), Image.Resampling.LANCZOS))


def decode_people(photos: Sequence[File], masks: Sequence[File]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The photos, uint8 RGB [H, W, 3], and their masks, uint8 [H, W]: `masks`, or the photos' own alpha without any.

    Raises InvalidRequest for a file that is not a picture, and without masks for a photo with nothing transparent.
    """
    if masks:
        people = [decode_photo(source, name) for name, source in photos]
        return people, [_decode_mask(source, name) for name, source in masks]
    people, alphas = [], []
    for name, source in photos:
        colours, alpha = decode_cutout(source, name)
        if alpha is None:
            raise InvalidRequest(
                f"nothing in {name} is transparent, so it does not show where the person is: give a mask, or a photo "
                "with a transparent background"
            )
        people.append(colours)
        alphas.append(alpha)
    return people, alphas


def _decode_mask(source: Path | bytes, name: str) -> np.ndarray:
    """uint8 [H, W]: the picture's alpha if a part of it is transparent, else its brightness."""
    colours, alpha = decode_cutout(source, name)
    return np.array(Image.fromarray(colours).convert("L")) if alpha is None else alpha


def check_mask(mask: np.ndarray, photo: np.ndarray) -> None:
    """Raises InvalidRequest if `mask` is not uint8 [H, W] of the photo's size."""
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise InvalidRequest(f"a mask must be uint8 [height, width], not {mask.dtype} {list(mask.shape)}")
    if mask.shape != photo.shape[:2]:
        sizes = [f"{pixels.shape[1]} x {pixels.shape[0]}" for pixels in (mask, photo)]
        raise InvalidRequest(
            f"the mask has {sizes[0]} pixels and the photo {sizes[1]}: make them the same size"
        )


def select_faces_inside(faces: list[Face], mask: np.ndarray) -> list[Face]:
    """The faces whose centre is inside the mask. Raises InvalidRequest if there are faces and all are outside."""
    height, width = mask.shape

    def is_inside(face: Face) -> bool:
        x, y = (round(place) for place in face.centre)
        return 0 <= x < width and 0 <= y < height and bool(mask[y, x] >= _INSIDE)

    inside = [face for face in faces if is_inside(face)]
    if faces and not inside:
        raise InvalidRequest(
            f"the mask covers none of the {len(faces)} faces in the photo: it must be white where the "
            "person is"
        )
    return inside
