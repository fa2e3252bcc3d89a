"""Contact sheets and plots: everything asked for is on them, nothing lies outside, and nothing is stretched."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageFont

from echovideo_model import chart, picture
from echovideo_model.chart import plot_scores
from echovideo_model.errors import InvalidRequest
from echovideo_model.metrics.identity import Scores
from echovideo_model.picture import check_picture_path, draw_contact_sheet, save_picture

RED, GREEN = (220, 20, 20), (20, 200, 20)


def plain(colour: tuple[int, int, int], height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def blues(count: int, height: int, width: int) -> np.ndarray:
    """Frames uint8 [F, H, W, 3], each of a blue of its own: what is seen tells which frame it is."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 2] = 255
    frames[..., 0] = (4 * np.arange(count) % 256)[:, None, None]
    return frames


def box_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of all pixels within 2 levels of a colour."""
    near = (np.abs(np.asarray(sheet, np.int16) - np.array(colour, np.int16)) <= 2).all(-1)
    return Image.fromarray(near).getbbox()


@pytest.mark.parametrize(
    ("count", "numbers"), [(49, (0, 7, 14, 21, 27, 34, 41, 48)), (9, (0, 1, 2, 3, 5, 6, 7, 8))]
)
def test_eight_evenly_spaced_frames_first_and_last_among_them(count: int, numbers: tuple[int, ...]) -> None:
    sheet = draw_contact_sheet(None, None, blues(count, 48, 64))
    shown = tuple(n for n in range(count) if box_of(sheet, (4 * n, 0, 255)))
    assert shown == pytest.approx(numbers, abs=1)
    assert len(shown) == 8
    assert (shown[0], shown[-1]) == (0, count - 1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8])
def test_a_short_run_shows_every_frame_once(count: int) -> None:
    sheet = draw_contact_sheet(plain(RED, 60, 40), plain(GREEN, 64, 64), blues(count, 48, 64))
    boxes = [box_of(sheet, (4 * n, 0, 255)) for n in range(count)]
    assert all(boxes)
    assert len(set(boxes)) == count


@settings(max_examples=12, deadline=None)
@given(
    count=st.integers(1, 12),
    height=st.sampled_from([16, 480, 848]),
    width=st.sampled_from([16, 480, 848]),
    photo=st.tuples(st.integers(32, 1500), st.integers(32, 1500)),
)
def test_pictures_keep_their_shape_share_edges_and_stay_inside_the_margins(
    count: int, height: int, width: int, photo: tuple[int, int]
) -> None:
    sheet = draw_contact_sheet(
        plain(RED, *photo), plain(GREEN, 512, 512), blues(count, height, width), "title"
    )
    shapes = {RED: photo[1] / photo[0], GREEN: 1.0, (0, 0, 255): width / height}
    boxes = {colour: box_of(sheet, colour) for colour in shapes}
    for colour, shape in shapes.items():
        left, top, right, bottom = boxes[colour]
        slack = 2 / min(right - left, bottom - top)
        assert (right - left) / (bottom - top) == pytest.approx(shape, rel=slack + 0.01)
        assert left >= 48
        assert top >= 48
        assert right <= sheet.width - 48
        assert bottom <= sheet.height - 48
    if shapes[RED] >= 0.6:
        assert boxes[GREEN][2] - boxes[GREEN][0] == pytest.approx(boxes[RED][2] - boxes[RED][0], abs=1)
    assert boxes[RED][0] == 48
    assert boxes[RED][1] == boxes[(0, 0, 255)][1]  # the photo and the first frame: one upper edge
    if count > 3:
        assert boxes[GREEN][0] == boxes[RED][0]
    else:
        assert boxes[GREEN][1] == boxes[RED][1]


def test_floats_and_bytes_make_the_same_sheet() -> None:
    frames = blues(9, 48, 64)
    one = draw_contact_sheet(None, None, frames)
    other = draw_contact_sheet(None, None, torch.from_numpy(frames) / 255)
    assert np.array_equal(np.asarray(one), np.asarray(other))


def test_title_and_caption_are_written_and_a_long_prompt_is_cut() -> None:
    bare = draw_contact_sheet(None, None, blues(9, 48, 64))
    titled = draw_contact_sheet(None, None, blues(9, 48, 64), "A person smiles", "seed 3")
    endless = draw_contact_sheet(
        None, None, blues(9, 48, 64), "a sentence that does not end " * 1000, "x" * 90_000
    )
    assert bare.width == titled.width == endless.width
    assert bare.height < titled.height < endless.height < titled.height + 250


def test_a_frame_with_nan_is_named_and_there_is_no_black_tile() -> None:
    frames = torch.zeros(5, 16, 16, 3)
    frames[2, 3, 3, 0] = float("nan")
    with pytest.raises(InvalidRequest, match="frame 2 holds NaN"):
        draw_contact_sheet(None, None, frames)


@pytest.mark.parametrize(
    "text", ["Eine Frau lächelt", "一个女人微笑着", "🙂 " * 40, "a\0b\x07", "\udc80 lone"]
)
def test_a_prompt_in_any_script_is_drawn_by_any_pillow(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_contact_sheet(None, None, blues(1, 16, 16), text, text)
    bitmap = ImageFont.load_default_imagefont() if hasattr(ImageFont, "load_default_imagefont") else None
    if bitmap is None:
        pytest.skip("this Pillow has no other font to fall back to")
    monkeypatch.setattr(ImageFont, "load_default", lambda: bitmap)  # as in Pillow 10.0, which takes no size
    monkeypatch.setattr(picture, "_SYSTEM_FONTS", ())
    draw_contact_sheet(None, None, blues(1, 16, 16), text, text)
    plot_scores(Scores((0.5, None, 0.25)), text)


def plotted(values: tuple[float | None, ...]) -> np.ndarray:
    return np.asarray(plot_scores(Scores(values), "title")).astype(int)


def columns_of(plot: np.ndarray, colour: str) -> np.ndarray:
    """Columns, in order, in which a colour is seen."""
    return np.unique(np.nonzero((np.abs(plot - ImageColor.getrgb(colour)) <= 8).all(-1))[1])


def test_the_curve_has_gaps_where_no_face_is_and_these_are_grey() -> None:
    values = (0.5,) * 8 + (None,) * 5 + (0.5,) * 8
    whole, broken = plotted((0.5,) * 21), plotted(values)
    assert np.diff(columns_of(whole, chart._CURVE)).max() < 30  # the mark of the worst frame
    assert np.diff(columns_of(broken, chart._CURVE)).max() > 200
    place = chart._Plot(Scores(values))
    x, y = round(place.x(10)), round(place.y(0.9))
    assert tuple(broken[y, x]) == ImageColor.getrgb(chart._BAND)
    assert tuple(whole[y, x]) == ImageColor.getrgb(picture.PAPER)


@pytest.mark.parametrize("values", [(None, 0.5, None), (None,), (None,) * 3, (None, *(0.5,) * 40, None)])
def test_the_grey_of_the_first_and_the_last_frame_ends_where_the_axes_do(
    values: tuple[float | None, ...],
) -> None:
    place = chart._Plot(Scores(values))
    row = plotted(values)[round(place.y(0.9))]  # between the numbers of the axis
    grey = np.nonzero((row == ImageColor.getrgb(chart._BAND)).all(-1))[0]
    assert place.LEFT <= grey.min() <= place.x(0) <= place.x(len(values) - 1) <= grey.max() <= place.RIGHT


def test_a_single_frame_between_gaps_is_seen() -> None:
    alone = columns_of(plotted((0.2, None, 0.8, None, 0.8, 0.8)), chart._CURVE)
    middle = chart._Plot(Scores((0.5,) * 6)).x(2)
    assert np.abs(alone - middle).min() < 3


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=100, unique=True), st.data())
@settings(max_examples=15, deadline=None)
def test_the_worst_frame_is_marked_at_its_place(values: list[float], data: st.DataObject) -> None:
    worst = data.draw(st.integers(0, len(values) - 1))
    values[worst] = -1.0
    scores = Scores(tuple(values))
    plot = np.asarray(plot_scores(scores)).astype(int)
    marks = (np.abs(plot - ImageColor.getrgb(chart._WORST)) <= 8).all(-1)
    place = chart._Plot(scores)
    x, y = round(place.x(scores.worst_frame or 0)), round(place.y(-1.0))
    assert marks[y - 3 : y + 4, x - 3 : x + 4].all()


@pytest.mark.parametrize("values", [(), (None,), (None,) * 49, (0.5,), (-1.0,), (1.0,) * 3, (0.0,) * 5000])
def test_every_result_can_be_drawn(values: tuple[float | None, ...]) -> None:
    assert plot_scores(Scores(values), "a title that goes on " * 50).size == (1200, 600)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".jpeg", ".webp"])
def test_the_suffix_says_the_format(tmp_path: Path, suffix: str) -> None:
    drawn = plot_scores(Scores((0.5,)))
    save_picture(drawn, tmp_path / f"plot{suffix}")
    with Image.open(tmp_path / f"plot{suffix}") as saved:
        assert saved.format == {".png": "PNG", ".webp": "WEBP"}.get(suffix.lower(), "JPEG")
        assert saved.size == drawn.size
    assert os.listdir(tmp_path) == [f"plot{suffix}"]


@pytest.mark.parametrize("name", ["plot.txt", "plot", "plot.mp4", "."])
def test_a_name_that_is_no_picture_s_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    for refuse in (check_picture_path, lambda path: save_picture(plot_scores(Scores((0.5,))), path)):
        with pytest.raises(InvalidRequest, match=r"end its name with \.png"):
            refuse(tmp_path / name)
    assert os.listdir(tmp_path) == []
