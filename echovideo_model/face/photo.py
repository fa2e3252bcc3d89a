"""Reading a photo, whatever its format, into RGB pixels; and limiting its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InvalidRequest
from . import import_optional
from .colours import split_alpha, to_srgb
from .opening import DAMAGE, LONGEST_SIDE, MAX_PIXELS, check_size, read_picture

_ORIENTATION = 0x0112  # EXIF 2.32; what undoes each of its values
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_photo(source: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """The photo as uint8 sRGB [H, W, 3], turned the way its EXIF orientation says.

    `source` is a file in any format that Pillow reads, a Pillow picture, or an array that is a photo already.
    A colour profile is applied; grey, 16-bit grey, palette and CMYK become RGB; transparency is laid over black, the
    colour of everything that is not the face. Of an animation the first frame is taken, of a raw file its preview,
    with a warning. Metadata that cannot be read never stops a picture whose pixels can.
    Raises InvalidRequest for a missing, damaged or non-image file, and for a size outside SHORTEST_SIDE (once the
    longer side is at most LONGEST_SIDE) and MAX_PIXELS; sizes are checked before any pixel is decoded.
    """
    if isinstance(source, np.ndarray):
        return _check_array(source)
    if not isinstance(source, Image.Image):
        return decode_photo(Path(source), str(source))
    check_size(source.width, source.height, "the picture")
    try:
        source.load()
        return to_srgb(_turn_by_exif(source), "the picture")
    except DAMAGE as error:
        raise InvalidRequest(f"the picture is damaged or truncated ({error})") from error


def decode_photo(
    source: Path | bytes, name: str, formats: list[str] | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """`load_photo` of a file or its bytes, called `name` in messages; `formats` are Pillow's names, all by default."""
    return to_srgb(_turn_by_exif(read_picture(source, name, formats, max_pixels)), name)


def decode_cutout(source: Path | bytes, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The photo of a file or its bytes, uint8 sRGB [H, W, 3], as if all of it were opaque; and its alpha, uint8 [H, W],
    or None where nothing is transparent. Raises what load_photo raises."""
    colours, alpha = split_alpha(_turn_by_exif(read_picture(source, name)), name)
    opaque = alpha is None or np.asarray(alpha).min() == 255
    return np.array(colours), None if opaque else np.array(alpha)


def _turn_by_exif(picture: Image.Image) -> Image.Image:
    """Turned by its orientation, which is all that is read of its EXIF."""
    try:
        turn = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except DAMAGE:
        turn = None
    return picture if turn is None else picture.transpose(turn)


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


def _check_array(photo: np.ndarray) -> np.ndarray:
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise InvalidRequest(
            f"a photo must be uint8 [height, width, 3], not {photo.dtype} {list(photo.shape)}"
        )
    check_size(photo.shape[1], photo.shape[0], "the photo")
    return photo
