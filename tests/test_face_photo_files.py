"""A picture whose pixels decode is a photo, whatever else its file holds; its colours are those that were meant."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from echovideo_model.errors import DependencyMissing, InvalidRequest
from echovideo_model.face.photo import load_photo
from tests.faces import card

CARD = card(60, 80)
GREY = CARD[..., 0]


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def loaded(content: bytes, folder: Path) -> np.ndarray:
    (folder / "photo").write_bytes(content)
    return load_photo(folder / "photo")


def exif(orientation: int, more: dict[int, bytes | int] | None = None) -> bytes:
    """EXIF by hand, as cameras write it: little-endian, one directory; a negative number may be among its tags."""
    entries = [(0x0112, 3, 1, struct.pack("<HH", orientation, 0))]
    entries += [(tag, 4, 1, struct.pack("<i", value)) for tag, value in (more or {}).items()]
    body = b"".join(
        struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in sorted(entries)
    )
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0"


def rgb_profile(primaries: list[tuple[float, float]], gamma: float) -> bytes:
    """An ICC profile (version 2, matrix and curve) with these primaries and the white D50."""
    white = np.array([0.9642, 1.0, 0.8249])
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)

    def fixed(values: Any) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    named = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(78)
    tags = {b"desc": named + bytes(-len(named) % 4), b"wtpt": b"XYZ \0\0\0\0" + fixed(white)}
    tags |= {
        name + b"XYZ": b"XYZ \0\0\0\0" + fixed(columns[:, at]) for at, name in enumerate((b"r", b"g", b"b"))
    }
    tags |= {name + b"TRC": curve for name in (b"r", b"g", b"b")}
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(data), len(content))
        data += content
    head = bytes(8) + b"\2\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + fixed(white)
    head = head.ljust(128, b"\0")
    whole = head + struct.pack(">I", len(tags)) + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


PROFILES = {
    "AdobeRGB": rgb_profile([(0.6484, 0.3309), (0.2302, 0.7016), (0.1559, 0.0660)], 2.19921875),
    "ProPhoto": rgb_profile([(0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)], 1.8),
    "Display P3": rgb_profile([(0.6811, 0.3190), (0.2650, 0.6910), (0.1542, 0.0664)], 2.2),
}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def written_in(profile: bytes, colours: np.ndarray) -> Image.Image:
    """sRGB colours as a file in another space holds them."""
    other = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(Image.fromarray(colours), SRGB, other, renderingIntent=1)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_colours_come_back_from_every_space(name: str, kind: str, tmp_path: Path) -> None:
    skin = np.full((64, 64, 3), (214, 160, 130), np.uint8)
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    wide = written_in(PROFILES[name], skin)
    assert np.abs(np.asarray(wide).astype(int) - skin).max() > 5  # what was shown before
    photo = loaded(encoded(wide, kind, icc_profile=PROFILES[name], **options), tmp_path)
    assert np.abs(photo.astype(int) - skin).max() <= 3


def test_an_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(CARD), "PNG", icc_profile=SRGB.tobytes())
    np.testing.assert_array_equal(loaded(content, tmp_path), CARD)


def test_transparency_and_a_profile_go_together(tmp_path: Path) -> None:
    wide = written_in(PROFILES["AdobeRGB"], np.full((64, 64, 3), (214, 160, 130), np.uint8))
    wide.putalpha(Image.fromarray(np.repeat(np.uint8([[0, 255]]), 32, 1).repeat(64, 0)))
    photo = loaded(encoded(wide, "PNG", icc_profile=PROFILES["AdobeRGB"]), tmp_path)
    assert not photo[:, :32].any()
    assert np.abs(photo[:, 32:].astype(int) - (214, 160, 130)).max() <= 3


@pytest.mark.parametrize("profile", [b"garbage", PROFILES["AdobeRGB"][:200], bytes(500)])
def test_a_broken_or_foreign_profile_is_ignored_with_a_warning(
    profile: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = encoded(Image.fromarray(CARD), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(loaded(content, tmp_path), CARD)
    assert "colour profile" in caplog.text
    grey = encoded(Image.fromarray(GREY), "PNG", icc_profile=PROFILES["AdobeRGB"])  # of three channels
    np.testing.assert_array_equal(loaded(grey, tmp_path)[..., 0], GREY)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("more", [{}, {0x9204: -3, 0xA217: -1}], ids=["plain", "negative numbers"])
def test_a_photo_is_turned_whatever_else_its_exif_holds(
    orientation: int, more: dict[int, int], tmp_path: Path
) -> None:
    turns = {1: 0, 3: 2, 6: 3, 8: 1}
    for kind in ("JPEG", "PNG", "WEBP"):
        plain = Image.fromarray(CARD)
        quality = {} if kind == "PNG" else {"quality": 95}
        written = loaded(encoded(plain, kind, **quality), tmp_path)
        photo = loaded(encoded(plain, kind, exif=exif(orientation, more), **quality), tmp_path)
        np.testing.assert_array_equal(photo, np.rot90(written, turns[orientation]))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["JPEG", "WEBP"]))
def test_garbage_in_the_exif_changes_no_pixel(garbage: bytes, kind: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        content = encoded(Image.fromarray(CARD), kind, exif=b"Exif\0\0II*\0" + garbage, lossless=True)
        photo = loaded(content, Path(folder))
    assert sorted(photo.shape) == [3, 60, 80]


def chunks_of(png: bytes) -> list[tuple[int, bytes, int]]:
    at, found = 8, []
    while at < len(png):
        length = struct.unpack(">I", png[at : at + 4])[0]
        found.append((at, png[at + 4 : at + 8], length))
        at += 12 + length
    return found


def test_transparency_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    png = encoded(Image.fromarray(CARD), "PNG")
    chunk = b"tRNS\0\1"
    broken = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    np.testing.assert_array_equal(loaded(png[:33] + broken + png[33:], tmp_path), CARD)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"pHYs"])
def test_a_broken_chunk_beside_the_pixels_does_not_stop_a_png(kind: bytes, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a man waves")
    info.add_text("workflow", "{}" * 50, zip=True)
    info.add_itxt("title", "Mann", "de", "Titel", zip=True)
    picture = Image.fromarray(CARD)
    png = bytearray(
        encoded(picture, "PNG", pnginfo=info, exif=exif(1), icc_profile=SRGB.tobytes(), dpi=(72, 72))
    )
    (at, length) = next((at, length) for at, name, length in chunks_of(bytes(png)) if name == kind)
    png[at + 8 + length // 2] ^= 0x55
    np.testing.assert_array_equal(loaded(bytes(png), tmp_path), CARD)
    content = bytes(png[at + 4 : at + 8 + length])  # and once more with the right checksum
    png[at + 8 + length : at + 12 + length] = struct.pack(">I", zlib.crc32(content))
    assert loaded(bytes(png), tmp_path).shape == CARD.shape


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lacking", [1, 2, 8])
def test_a_jpeg_without_its_end_is_what_viewers_show(lacking: int, progressive: bool, tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(card(600, 800)), "JPEG", quality=90, progressive=progressive)
    expected, photo = loaded(whole, tmp_path), loaded(whole[:-lacking], tmp_path)
    assert (np.abs(photo.astype(int) - expected) > 3).any(2).mean() <= 0.01


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_jpeg_that_lacks_pixels_is_refused(share: float, progressive: bool, tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(card(600, 800)), "JPEG", quality=90, progressive=progressive)
    with pytest.raises(InvalidRequest, match="damaged or truncated"):
        loaded(whole[: int(share * len(whole))], tmp_path)


def deep_tiff(pixels: np.ndarray, min_is_white: bool) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0 if min_is_white else 1
    content = bytearray(encoded(Image.fromarray(pixels), "TIFF", tiffinfo=tags))
    with Image.open(io.BytesIO(content)) as written:
        if written.tag_v2[262] != tags[262]:  # Pillow writes its own
            at = content.index(struct.pack("<HHI", 262, 3, 1))
            content[at + 8 : at + 10] = struct.pack("<H", tags[262])
    return bytes(content)


@pytest.mark.parametrize("min_is_white", [False, True])
def test_16_bit_grey_is_right_with_either_end_white(min_is_white: bool, tmp_path: Path) -> None:
    pixels = GREY.astype(np.uint16) * 257
    content = deep_tiff(65535 - pixels if min_is_white else pixels, min_is_white)
    np.testing.assert_array_equal(loaded(content, tmp_path)[..., 0], GREY)


def test_a_float_tiff_from_0_to_1_is_read_and_another_is_refused(tmp_path: Path) -> None:
    pixels = GREY.astype(np.float32) / 255
    np.testing.assert_array_equal(loaded(encoded(Image.fromarray(pixels), "TIFF"), tmp_path)[..., 0], GREY)
    for wrong in (pixels * 300, pixels - 0.6, np.where(GREY > 100, np.float32(np.nan), pixels)):
        with pytest.raises(InvalidRequest, match="unknown range"):
            loaded(encoded(Image.fromarray(wrong.astype(np.float32)), "TIFF"), tmp_path)


def test_a_dng_is_read_as_its_preview_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[50706] = b"\1\4\0\0"
    tags.tagtype[50706] = 1
    photo = loaded(encoded(Image.fromarray(CARD), "TIFF", tiffinfo=tags), tmp_path)
    assert photo.shape == CARD.shape
    assert "raw file" in caplog.text
    assert "80 x 60 pixels" in caplog.text


@pytest.mark.parametrize(
    ("head", "said"),
    [(b"FUJIFILMCCD-RAW 0201", "raw file"), (b"\0\0\0\x18ftypcrx ", "raw file"), (b"\xff\x0a", "JPEG XL")],
)
def test_what_is_no_picture_for_pillow_is_called_what_it_is(head: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=said):
        loaded(head + bytes(200), tmp_path)


HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_names_the_package_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DependencyMissing, match=r"HEIC.*pip install pillow-heif"):
        loaded(HEIC_HEAD + bytes(200), tmp_path)


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_read_upright_where_its_package_is(orientation: int, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    picture = Image.fromarray(card(128, 192))
    written = heif.from_pillow(picture)
    written[0].info["exif"] = exif(orientation)
    written.save(tmp_path / "photo.heic", quality=95)
    photo = load_photo(tmp_path / "photo.heic")
    with heif.HeifImageFile(tmp_path / "photo.heic") as shown:  # as its package shows it
        assert photo.shape[:2] == shown.size[::-1]
    upright = np.rot90(np.asarray(picture), 3 if orientation == 6 else 0)
    assert photo.shape == upright.shape
    assert np.abs(photo.astype(int) - upright).mean() < 8


def test_a_damaged_heic_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    with pytest.raises(InvalidRequest):
        loaded(HEIC_HEAD + bytes(200), tmp_path)


def test_pixels_that_are_no_pixels_are_refused(tmp_path: Path) -> None:
    png = bytearray(encoded(Image.fromarray(CARD), "PNG"))
    (at, length) = next((at, length) for at, name, length in chunks_of(bytes(png)) if name == b"IDAT")
    png[at + 8 : at + 8 + length] = bytes(length)
    with pytest.raises(InvalidRequest, match="damaged"):
        loaded(bytes(png), tmp_path)


def test_a_tiff_with_a_negative_tag_is_turned_all_the_same(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112], tags[40000] = 6, 7
    tags.tagtype[40000] = 4
    content = bytearray(encoded(Image.fromarray(CARD), "TIFF", tiffinfo=tags))
    at = content.index(struct.pack("<HHI", 40000, 4, 1))
    content[at + 8 : at + 12] = struct.pack("<i", -3)
    content[at + 2 : at + 4] = struct.pack("<H", 9)  # a signed number
    np.testing.assert_array_equal(loaded(bytes(content), tmp_path), np.rot90(CARD, 3))
