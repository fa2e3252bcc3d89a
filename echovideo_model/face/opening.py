"""Opening a picture file whatever its metadata: what viewers show is read, what cannot be shown is named."""

from __future__ import annotations

import io
import logging
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DependencyMissing, InvalidRequest

logger = logging.getLogger(__name__)

LONGEST_SIDE = 1024  # what the detector is given, as in the reference
SHORTEST_SIDE = 32  # with the longer side at LONGEST_SIDE or less; below this a face has no features left
MAX_PIXELS = 178_956_970  # where Pillow refuses by default; also holds where a host has lifted Pillow's limit

# What Pillow's decoders raise on damaged files, by format and version.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
    zlib.error,
)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_MAX_REPAIRED = 256 * 2**20  # bytes of a file that is read whole to be repaired
_MAX_MISSING = 0.01  # of a JPEG's pixels; more than a corner is missed

_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_RAW = {  # a camera's raw files that do not begin as TIFF
    b"FUJIFILMCCD": 0,
    b"IIRO": 0,
    b"IIRS": 0,
    b"MMOR": 0,
    b"IIU\0": 0,
    b"ftypcrx ": 4,
}
_EXPORT = "export it as JPEG, PNG or TIFF"
_DNG_VERSION, _SUBFILE, _SUB_IFDS, _REDUCED = 50706, 254, 330, 1  # TIFF 6.0, DNG 1.7


class NotAPicture(InvalidRequest):
    """The file's format cannot be read."""


class TooManyPixels(InvalidRequest):
    """The picture is larger than allowed."""


def read_picture(
    source: Path | bytes,
    name: str,
    formats: list[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """A picture with its pixels decoded, as it lies in the file: not turned, in its own mode and colours.

    `formats` are Pillow's names, all by default. Broken metadata is left out, and so is the end of a JPEG that
    holds no more than 1 % of its pixels (with a warning); HEIC is read through pillow-heif.
    Raises InvalidRequest for a missing or damaged file and for an impossible size (before any pixel is decoded),
    NotAPicture, or DependencyMissing for HEIC.
    """
    try:
        head = _read(source, 32)
        try:
            return _decode_pixels(source, head, name, formats, max_pixels)
        except DAMAGE as error:
            for repaired in _repair(source, name, formats, max_pixels):
                return repaired
            if isinstance(error, Image.UnidentifiedImageError):
                raise NotAPicture(
                    f"{name} is not an image that can be read: {_explain_format(head)}"
                ) from error
            raise InvalidRequest(f"{name} is damaged or truncated ({_first_line(error)})") from error
    except FileNotFoundError as error:
        raise InvalidRequest(f"no photo at {name}: check the path") from error
    except _BOMB as error:
        raise TooManyPixels(f"{name} has too many pixels: at most {max_pixels:,} are allowed") from error
    except (OSError, ValueError) as error:
        raise NotAPicture(f"{name} is not an image that can be read ({_first_line(error)})") from error


def _decode_pixels(
    source: Path | bytes, head: bytes, name: str, formats: list[str] | None, most: int
) -> Image.Image:
    with _open(source, head, name, formats) as picture:
        check_size(picture.width, picture.height, name, most)
        try:
            picture.load()
        except OSError:  # what its decoders raise
            raise
        except DAMAGE:
            if getattr(picture, "tile", None):  # otherwise only a step after decoding has failed
                raise
        if picture.format == "TIFF" and _is_raw(picture, head):
            size = f"{picture.width} x {picture.height}"
            logger.warning(
                "%s is a camera's raw file, of which only a preview of %s pixels is read: %s",
                name,
                size,
                _EXPORT,
            )
        return picture


def _open(source: Path | bytes, head: bytes, name: str, formats: list[str] | None) -> Image.Image:
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF or b"avif" in head[16:]:
        return Image.open(stream, formats=formats)
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise DependencyMissing(
            f'{name} is a HEIC picture: "{sys.executable}" -m pip install pillow-heif, or save it as JPEG'
        ) from error
    return HeifImageFile(stream)


def _repair(source: Path | bytes, name: str, formats: list[str] | None, most: int) -> Iterator[Image.Image]:
    """The picture, if it can be read once its file's broken parts are left out."""
    data = _read(source, _MAX_REPAIRED)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        for keep_sound, keep_transparency in ((True, True), (False, True), (False, False)):
            kept = _without_metadata(data, keep_sound, keep_transparency)
            with suppress(*DAMAGE):
                yield _decode_pixels(kept, b"", name, formats, most)
    elif data.startswith(b"\xff\xd8"):
        with suppress(*DAMAGE):
            noise = np.random.default_rng(0).integers(0, 255, 2**16, np.uint8).tobytes()
            ends = (b"\xff\xd9", noise + b"\xff\xd9")
            data = data.rstrip(b"\xff")  # half a marker
            picture, other = (_decode_pixels(data + end, b"", name, formats, most) for end in ends)
            # what the file does not hold depends on what follows it
            apart = np.abs(np.asarray(picture).astype(int) - np.asarray(other)) > 3
            missing = float(apart.reshape(*picture.size[::-1], -1).any(2).mean())
            if missing <= _MAX_MISSING:
                if missing:
                    logger.warning("%s is truncated: %.2g %% of its pixels are missing", name, 100 * missing)
                yield picture


def _without_metadata(data: bytes, keep_sound: bool, keep_transparency: bool) -> bytes:
    """A PNG without its texts and damaged ancillary chunks, without any but transparency, or without that, too."""
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunk = data[at : at + 12 + length]
        kind, sound = chunk[4:8], int.from_bytes(chunk[-4:], "big") == zlib.crc32(chunk[4:-4])
        is_text = kind in (b"tEXt", b"zTXt", b"iTXt")
        is_transparency = keep_transparency and kind == b"tRNS"
        if kind[:1].isupper() or is_transparency or (keep_sound and sound and not is_text):
            kept.append(chunk)
        at += 12 + length
    return b"".join([*kept, data[at:]])


def _is_raw(picture: Image.Image, head: bytes) -> bool:
    """Whether a TIFF is a camera's raw file (DNG, NEF, ARW, CR2 ...), of which Pillow reads a preview."""
    tags = getattr(picture, "tag_v2", {})
    reduced = bool(int(tags.get(_SUBFILE, 0)) & _REDUCED)
    return _DNG_VERSION in tags or (reduced and _SUB_IFDS in tags) or head[8:10] == b"CR"


def _explain_format(head: bytes) -> str:
    if any(head[at:].startswith(mark) for mark, at in _RAW.items()):
        return f"it is a camera's raw file: {_EXPORT}"
    if head[4:12] == b"ftypavif" or b"avif" in head[16:]:
        return "AVIF needs Pillow 11.3 or newer"
    if head.startswith(b"\xff\x0a") or head[4:8] == b"JXL ":
        return f"it is JPEG XL: {_EXPORT}"
    return "use JPEG, PNG, WebP, TIFF or HEIC"


def _read(source: Path | bytes, most: int) -> bytes:
    if isinstance(source, bytes):
        return source[:most]
    with source.open("rb") as file:
        return file.read(most)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def check_size(width: int, height: int, name: str, most: int = MAX_PIXELS) -> None:
    if width * height > most:
        raise TooManyPixels(f"{name} has {width} x {height} pixels: at most {most:,} are allowed")
    limited = min(width, height) * min(1.0, LONGEST_SIDE / max(width, height, 1))
    if limited < SHORTEST_SIDE:
        raise InvalidRequest(
            f"{name} has {width} x {height} pixels, but its shorter side must be at least "
            f"{SHORTEST_SIDE} after the longer is reduced to {LONGEST_SIDE}: use a larger or less "
            "elongated photo"
        )
