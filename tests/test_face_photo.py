"""Any picture that people have becomes RGB pixels the right way up; anything else is refused in one sentence."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from echovideo_model.errors import InvalidRequest
from echovideo_model.face.photo import MAX_PIXELS, limit_long_edge, load_photo
from tests.faces import PHOTOS, card, golden, off_by_at_most_one

CARD = card(60, 80)
GREY = CARD[..., 0]
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["t1.jpg", "Tom_Hanks_54745.png"])
def test_a_photo_of_a_real_person_is_read_as_it_is(name: str) -> None:
    with Image.open(PHOTOS / name) as picture:
        expected = np.asarray(picture.convert("RGB"))
    for source in (PHOTOS / name, str(PHOTOS / name), Image.open(PHOTOS / name), expected):
        photo = load_photo(source)
        assert photo.dtype == np.uint8
        np.testing.assert_array_equal(photo, expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_common_format_gives_rgb(kind: str, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(
        encoded(Image.fromarray(CARD), kind)
    )  # the content decides, not the name
    photo = load_photo(tmp_path / "photo")
    assert photo.shape == CARD.shape
    assert np.abs(photo.astype(int) - CARD).mean() < 12  # GIF has 256 colours


@settings(max_examples=20, deadline=None)
@given(orientation=st.integers(1, 8), height=st.integers(40, 90), width=st.integers(40, 90))
def test_an_exif_orientation_is_undone(orientation: int, height: int, width: int) -> None:
    upright = card(height, width)
    sideways = {  # how the camera held the sensor: EXIF 2.32, tag 0x0112
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.open(
        io.BytesIO(encoded(Image.fromarray(np.ascontiguousarray(sideways)), "PNG", exif=exif))
    )
    np.testing.assert_array_equal(load_photo(picture), upright)


def test_grey_becomes_three_equal_channels() -> None:
    photo = load_photo(Image.fromarray(GREY))
    np.testing.assert_array_equal(photo, np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "int32"])
def test_16_bit_grey_keeps_its_contrast(dtype: str) -> None:
    photo = load_photo(Image.fromarray((GREY.astype(np.uint16) * 257).astype(dtype)))
    np.testing.assert_array_equal(photo, np.repeat(GREY[..., None], 3, axis=2))


def test_a_16_bit_png_and_tiff_read_back_as_their_8_bit_twin(tmp_path: Path) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    for name in ("deep.png", "deep.tiff"):
        deep.save(tmp_path / name)
        np.testing.assert_array_equal(load_photo(tmp_path / name)[..., 1], GREY)


def test_a_palette_is_looked_up() -> None:
    palette = Image.fromarray(CARD).quantize(64)
    np.testing.assert_array_equal(load_photo(palette), np.asarray(palette.convert("RGB")))


def test_what_is_transparent_becomes_black() -> None:
    alpha = np.zeros(GREY.shape, np.uint8)
    alpha[:, 40:] = 255
    photo = load_photo(Image.fromarray(np.dstack([CARD, alpha])))
    assert not photo[:, :40].any()
    np.testing.assert_array_equal(photo[:, 40:], CARD[:, 40:])


def test_half_transparent_is_half_as_bright() -> None:
    photo = load_photo(Image.fromarray(np.dstack([CARD, np.full_like(GREY, 128)])))
    np.testing.assert_allclose(photo, CARD * (128 / 255), atol=1)


@pytest.mark.parametrize("mode", ["LA", "PA", "P"])
def test_transparency_is_understood_in_every_mode_that_has_it(mode: str) -> None:
    picture = Image.new(mode, (40, 40), 0 if mode == "P" else (200, 0))
    if mode != "LA":
        picture.putpalette([200, 100, 50] * 256)
    if mode == "P":
        picture.info["transparency"] = 0
    assert not load_photo(picture).any()


def test_cmyk_is_converted() -> None:
    cyan = Image.new("CMYK", (40, 40), (255, 0, 0, 0))
    for picture in (cyan, Image.open(io.BytesIO(encoded(cyan, "JPEG", quality=95)))):
        red, green, blue = load_photo(picture)[20, 20].astype(int)
        assert red < 60
        assert min(green, blue) > 150


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    picture = Image.open(io.BytesIO(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])))
    assert load_photo(picture)[0, 0].tolist() == [255, 0, 0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no photo at .*nobody\.jpg"):
        load_photo(tmp_path / "nobody.jpg")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xe0 not really a JPEG", b"GIF89a"])
def test_a_file_that_is_no_image_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"photo\.jpg"):
        load_photo(tmp_path / "photo.jpg")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not an image"):
        load_photo(tmp_path)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        load_photo(name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_photo_cut_in_half_is_refused(kind: str, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(CARD), kind)
    (tmp_path / "photo").write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidRequest):
        load_photo(tmp_path / "photo")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(FORMATS), end=st.floats(0, 1), at=st.floats(0, 1), byte=st.integers(0, 255))
def test_damage_anywhere_gives_a_photo_or_a_refusal(
    kind: str, end: float, at: float, byte: int, tmp_path: Path
) -> None:
    content = bytearray(encoded(Image.fromarray(CARD), kind))
    content[int(at * (len(content) - 1))] = byte
    (tmp_path / "photo").write_bytes(content[: round(end * len(content))])
    with suppress(InvalidRequest):
        photo = load_photo(tmp_path / "photo")
        assert photo.dtype == np.uint8
        assert photo.shape[2] == 3


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds nothing."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (31, 31), (20000, 20), (20, 20000), (10000, 300)])
def test_a_size_that_holds_no_face_is_refused_by_name(width: int, height: int, tmp_path: Path) -> None:
    Image.new("RGB", (width, height)).save(tmp_path / "photo.png")
    with pytest.raises(InvalidRequest, match=rf"{width} x {height} pixels.*at least 32"):
        load_photo(tmp_path / "photo.png")


@pytest.mark.parametrize(("width", "height"), [(32, 32), (3200, 100), (100, 3200)])
def test_the_smallest_sizes_that_are_allowed_work(width: int, height: int) -> None:
    assert load_photo(Image.new("RGB", (width, height))).shape == (height, width, 3)


@pytest.mark.parametrize(
    "limit", [Image.MAX_IMAGE_PIXELS, None]
)  # None: a host has lifted Pillow's own limit
def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    (tmp_path / "bomb.png").write_bytes(png_header(50000, 50000))
    with pytest.raises(InvalidRequest, match=f"at most {MAX_PIXELS:,}"):
        load_photo(tmp_path / "bomb.png")
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    "array", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((64, 64, 4), np.uint8)]
)
def test_an_array_that_is_no_photo_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidRequest, match="uint8"):
        load_photo(array)


def test_floating_point_pixels_are_refused_rather_than_guessed() -> None:
    with pytest.raises(InvalidRequest, match="8 or 16 bits"):
        load_photo(Image.new("F", (64, 64), 0.5))


def test_the_recorded_limit_of_the_long_edge_is_reproduced() -> None:
    limited = limit_long_edge(card(900, 1600), 1024)
    assert off_by_at_most_one(limited, golden("preprocess")[0]["long_edge_1024"]) >= 0.999


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 400), width=st.integers(1, 400), longest=st.integers(16, 300))
def test_the_long_edge_is_only_ever_shortened(height: int, width: int, longest: int) -> None:
    photo = np.full((height, width, 3), 77, np.uint8)
    limited = limit_long_edge(photo, longest)
    if max(height, width) <= longest:
        assert limited is photo
        return
    assert max(limited.shape[:2]) in (longest - 1, longest)  # rounded down, as the reference does
    assert abs(limited.shape[0] * width - limited.shape[1] * height) <= 2 * max(height, width)
    assert (limited == 77).all()
