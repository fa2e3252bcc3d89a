"""A decoded picture's pixels as 8-bit sRGB, by its colour profile, its depth and its transparency."""

from __future__ import annotations

import io
import logging

import numpy as np
from PIL import Image, ImageCms

from ..errors import InvalidRequest

logger = logging.getLogger(__name__)

_PHOTOMETRIC, _BITS, _MIN_IS_WHITE = 262, 258, 0  # TIFF 6.0
_BLACK_POINT = 0x2000  # lcms2's flag for its compensation, which has no name in Pillow 10.0


def to_srgb(picture: Image.Image, name: str) -> np.ndarray:
    """uint8 RGB [H, W, 3]; transparency is laid over black. Raises what split_alpha raises."""
    colours, alpha = split_alpha(picture, name)
    if alpha is not None:
        colours = Image.composite(colours, Image.new("RGB", colours.size), alpha)
    return np.array(colours)


def split_alpha(picture: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """(RGB as if all were opaque, L with 255 where it is, or None without transparency).

    A profile that does not fit the picture or cannot be read is ignored with a warning. Raises InvalidRequest for
    pixels of unknown range.
    """
    profile = picture.info.get("icc_profile")
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = Image.fromarray(_eight_bits(picture, name))
    elif picture.mode not in ("1", "L", "RGB", "CMYK", "LAB", "LA", "RGBA"):  # palettes and rarer ones
        transparent = "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info
        picture = picture.convert("RGBA" if transparent else "RGB")
    elif "transparency" in picture.info:
        picture = picture.convert("RGBA")
    alpha = picture.getchannel("A") if "A" in picture.getbands() else None
    if alpha is not None:
        picture = picture.convert(picture.mode[:-1])  # LA -> L, RGBA -> RGB
    return _by_profile(picture, profile, name), alpha


def _by_profile(picture: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    if not profile and picture.mode != "LAB":
        return picture.convert("RGB")
    try:
        srgb = ImageCms.createProfile("sRGB")
        if picture.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
            if "srgb" in ImageCms.getProfileDescription(source).lower() and picture.mode == "RGB":
                return picture  # converting would round
        if picture.mode == "1":
            picture = picture.convert("L")
        converted = ImageCms.profileToProfile(
            picture,
            source,
            srgb,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=_BLACK_POINT,  # type: ignore[arg-type]
        )
        assert converted is not None  # it is where nothing is changed in place
        return converted
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        logger.warning(
            "%s: its colour profile cannot be used (%s); colours are treated as sRGB", name, reason
        )
        return picture.convert("RGB")


def _eight_bits(picture: Image.Image, name: str) -> np.ndarray:
    """uint8 [H, W] from 16-bit grey, which Pillow itself would cut off at 255, and from a TIFF's 0..1."""
    grey = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    if picture.mode == "F":
        if picture.format != "TIFF" or not np.isfinite(grey).all() or grey.min() < 0 or grey.max() > 1:
            raise InvalidRequest(
                f"{name} holds floating-point pixels of unknown range: save it with 8 or 16 bits"
            )
        levels = np.rint(grey * 255).astype(np.uint8)
    else:
        bits = tags.get(_BITS, (16,))
        most = (1 << (bits[0] if isinstance(bits, tuple) else bits)) - 1
        most = most if 255 < most < 65535 else 65535
        if grey.min() < 0 or grey.max() > most:
            raise InvalidRequest(f"{name} holds 32-bit pixels: save it with 8 or 16 bits")
        levels = ((grey.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)
    return 255 - levels if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE else levels
