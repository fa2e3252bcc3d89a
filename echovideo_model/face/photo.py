"""Reading a photo, whatever its format, into RGB pixels; and limiting its size."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import InvalidRequest
from . import import_optional

LONGEST_SIDE = 1024  # what the detector is given, as in the reference
SHORTEST_SIDE = 32  # with the longer side at LONGEST_SIDE or less; below this a face has no features left
MAX_PIXELS = 178_956_970  # where Pillow refuses by default; also holds where a host has lifted Pillow's limit

# What Pillow's decoders raise on damaged files, by format and version.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def load_photo(source: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """The photo as uint8 RGB [H, W, 3], turned the way its EXIF orientation says.

    `source` is a file in any format that Pillow reads, a Pillow picture, or an array that is a photo already.
    Grey, 16-bit grey, palette and CMYK become RGB; transparency is laid over black, the colour of everything
    that is not the face. Of an animation the first frame is taken.
    Raises InvalidRequest for a missing, damaged or non-image file, and for a size outside SHORTEST_SIDE (once the
    longer side is at most LONGEST_SIDE) and MAX_PIXELS; sizes are checked before any pixel is decoded.
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source)
    if isinstance(source, Image.Image):
        return _decoded(source, "the picture")
    try:
        with Image.open(Path(source)) as picture:
            return _decoded(picture, str(source))
    except FileNotFoundError as error:
        raise InvalidRequest(f"there is no photo at {source}: check the path") from error
    except _BOMB as error:
        raise InvalidRequest(f"{source} has too many pixels: at most {MAX_PIXELS:,} are allowed") from error
    except _DAMAGE as error:
        raise InvalidRequest(f"{source} is not an image that can be read ({_first_line(error)})") from error


def limit_long_edge(photo: np.ndarray, longest: int = LONGEST_SIDE) -> np.ndarray:
    """`photo` with its longer side at most `longest` pixels (Lanczos over 8 x 8 pixels); never enlarged.

    Both sides are rounded down, as in the reference.
    """
    height, width = photo.shape[:2]
    if max(height, width) <= longest:
        return photo
    cv2 = import_optional("cv2")
    scale = longest / max(height, width)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return cv2.resize(photo, size, interpolation=cv2.INTER_LANCZOS4)


def _decoded(picture: Image.Image, name: str) -> np.ndarray:
    """The pixels of a lazily opened picture, its size checked first."""
    _check_size(*picture.size, name)
    try:
        picture.load()
        return _rgb(ImageOps.exif_transpose(picture), name)
    except _DAMAGE as error:
        raise InvalidRequest(f"{name} is damaged or truncated ({_first_line(error)})") from error


def _rgb(picture: Image.Image, name: str) -> np.ndarray:
    if picture.mode == "F":
        raise InvalidRequest(
            f"{name} holds floating-point pixels of unknown range: save it with 8 or 16 bits"
        )
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow itself would cut it off at 255
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 65535:
            raise InvalidRequest(f"{name} holds 32-bit pixels: save it with 8 or 16 bits")
        return np.repeat(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))


def _checked_array(photo: np.ndarray) -> np.ndarray:
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise InvalidRequest(f"a photo is uint8 [height, width, 3], not {photo.dtype} {list(photo.shape)}")
    _check_size(photo.shape[1], photo.shape[0], "the photo")
    return photo


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise InvalidRequest(
            f"{name} has {width} x {height} pixels: at most {MAX_PIXELS:,} in all are allowed"
        )
    limited = min(width, height) * min(1.0, LONGEST_SIDE / max(width, height, 1))
    if limited < SHORTEST_SIDE:
        raise InvalidRequest(
            f"{name} has {width} x {height} pixels: the shorter side must be at least {SHORTEST_SIDE} "
            f"once the longer is reduced to {LONGEST_SIDE}"
        )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
