"""From landmarks to the face at its place in a square, and from the face picture to the VAE's input."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InvalidRequest
from . import import_optional

FACE_SIZE = 512
# Where the eyes, the nose tip and the mouth's corners belong, on the 96 x 112 template of ArcFace-like crops.
_TEMPLATE = np.array(
    [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]],
    np.float32,
)
# [5, 2], x and y in the aligned picture
LANDMARKS = _TEMPLATE * np.array([FACE_SIZE / 96, FACE_SIZE / 112], np.float32)


def align_face(photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face turned, scaled and moved to its place in a square: uint8 [512, 512, 3], black beyond the photo.

    photo: uint8 RGB [H, W, 3]; landmarks: [5, 2] as x, y in photo pixels (eyes, nose tip, mouth corners, from the
    viewer's left). A similarity transform by least median of squares, so that one landmark that is off does not tilt
    the face; bilinear. Raises InvalidRequest for landmarks that all lie on one point.
    """
    cv2 = import_optional("cv2")
    points = np.asarray(landmarks, np.float32)
    matrix = None
    if points.shape == LANDMARKS.shape and np.isfinite(points).all():
        matrix, _ = cv2.estimateAffinePartial2D(points, LANDMARKS, method=cv2.LMEDS)
    if matrix is None:
        raise InvalidRequest(f"aligning a face takes five different landmarks, not {points.tolist()}")
    return _warp(photo, cv2.invertAffineTransform(matrix))


def _warp(photo: np.ndarray, back: np.ndarray) -> np.ndarray:
    """`photo` read bilinearly where `back` [2, 3] leads from each pixel of the aligned picture.

    OpenCV 4, the reference's, rounds these places to 32nds of a pixel; OpenCV 5 does not, and differs by several levels
    where the photo ends. Rounding here keeps faces the same whatever its version.
    """
    along = np.arange(FACE_SIZE)
    rows, columns = np.rint(1024 * (back[:, 1:2] * along + back[:, 2:])), np.rint(1024 * back[:, :1] * along)
    fine = rows[:, :, None] + columns[:, None] + 16  # x and y: [2, 512, 512], in 1024ths of a pixel
    places = fine.astype(np.int64) >> 5  # in 32nds
    height, width = photo.shape[:2]
    black_around = np.pad(photo, ((2, 2), (2, 2), (0, 0)))
    x, y = np.clip(places[0] // 32 + 2, 0, width + 2), np.clip(places[1] // 32 + 2, 0, height + 2)
    right, low = places[..., None] % 32  # how far to the next pixel, in 32nds
    above = black_around[y, x] * (32 - right) + black_around[y, x + 1] * right
    below = black_around[y + 1, x] * (32 - right) + black_around[y + 1, x + 1] * right
    return ((above * (32 - low) + below * low + 512) >> 10).astype(np.uint8)


def pad_to_aspect(picture: np.ndarray, ratio: float) -> np.ndarray:
    """`picture` (uint8 [H, W, 3]) on black, centred, so that its square core gets the aspect width / height = `ratio`.

    Nothing is ever cropped: a picture that is longer than its shortest side asks for keeps its length, and so
    misses `ratio` (reference behaviour). A face picture is square and meets it, rounded down to whole pixels.
    """
    height, width = picture.shape[:2]
    core = min(height, width)
    wanted_height, wanted_width = (core, int(core * ratio)) if ratio > 1 else (int(core / ratio), core)
    rows, columns = max(0, wanted_height - height), max(0, wanted_width - width)
    return np.pad(picture, ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)))


def face_latent_pixels(face_picture: np.ndarray, height: int, width: int) -> Tensor:
    """What the VAE encodes to the face latent: float32 [3, height, width] in -1..1.

    face_picture: uint8 [512, 512, 3], padded to width / height, then resized (Lanczos).
    """
    padded = Image.fromarray(pad_to_aspect(face_picture, width / height))
    resized = np.asarray(padded.resize((width, height), Image.Resampling.LANCZOS), np.float32)
    return torch.from_numpy(resized / 127.5 - 1).permute(2, 0, 1).contiguous()  # [H, W, 3] -> [3, H, W]
