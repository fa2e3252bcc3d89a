"""What is written is decoded by plain PyAV here: size, rate, colours, flags and metadata come back."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echovideo_model.errors import Cancelled, InvalidRequest
from echovideo_model.video import describe, iter_frames, read_mp4, to_uint8, write_mp4

KR, KG, KB = 0.2126, 0.7152, 0.0722  # BT.709 luma


def waves(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth moving colours, float32 [F, H, W, 3] in 0..1: chroma at half the size loses nothing of them."""
    t, y, x = torch.meshgrid(
        torch.arange(count) / 9, torch.arange(height) / 97, torch.arange(width) / 97, indexing="ij"
    )
    return torch.stack([(x + t).sin(), (2 * y - t).cos(), (x + y + 1).sin()], dim=-1) / 2 + 0.5


def decoded_yuv(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y [F, H, W], Cb and Cr [F, H/2, W/2] as they stand in the file."""
    with av.open(str(path)) as container:
        planes = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
        height, width = container.streams.video[0].height, container.streams.video[0].width
    stacked = np.stack(planes).astype(np.float32)
    chroma = stacked[:, height:].reshape(len(planes), 2, height // 2, width // 2)
    return stacked[:, :height], chroma[:, 0], chroma[:, 1]


def test_the_file_holds_bt709_pixels_by_the_standard_s_formula(tmp_path: Path) -> None:
    frames = waves(5, 96, 128)
    write_mp4(tmp_path / "v.mp4", frames)
    y, cb, cr = decoded_yuv(tmp_path / "v.mp4")
    r, g, b = frames.numpy().transpose(3, 0, 1, 2)
    luma = KR * r + KG * g + KB * b
    for written, formula in (
        (y, 16 + 219 * luma),
        (cb, (128 + 112 * (b - luma) / (1 - KB))[:, ::2, ::2]),
        (cr, (128 + 112 * (r - luma) / (1 - KR))[:, ::2, ::2]),
    ):
        assert np.abs(written - formula).mean() < 1.5
        assert abs((written - formula).mean()) < 0.6


def test_players_are_told_bt709_in_the_stream_and_in_the_container(tmp_path: Path) -> None:
    write_mp4(tmp_path / "v.mp4", waves(2, 32, 32))
    with av.open(str(tmp_path / "v.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)
        assert context.color_range == 1
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    nclx = b"colrnclx" + bytes([0, 1, 0, 1, 0, 1, 0])  # ISO/IEC 14496-12: primaries, transfer, matrix, range
    assert nclx in (tmp_path / "v.mp4").read_bytes()


def test_colours_come_back_within_a_level_and_without_a_drift(tmp_path: Path) -> None:
    frames = waves(9, 96, 128)
    write_mp4(tmp_path / "v.mp4", frames)
    back, _, _ = read_mp4(tmp_path / "v.mp4")
    difference = back.astype(np.float32) - 255 * frames.numpy()
    assert np.abs(difference).mean() < 1.5
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 1
    assert np.abs(difference).max() < 20


def test_grey_stays_grey_and_black_and_white_stay_the_ends(tmp_path: Path) -> None:
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    write_mp4(tmp_path / "v.mp4", levels.view(5, 1, 1, 1).expand(5, 64, 64, 3))
    back, _, _ = read_mp4(tmp_path / "v.mp4")
    for picture, level in zip(back, levels.tolist(), strict=True):
        assert np.abs(picture.astype(int) - round(255 * level)).max() <= 2


def test_the_index_is_at_the_front_so_that_browsers_play_at_once(tmp_path: Path) -> None:
    write_mp4(tmp_path / "v.mp4", waves(3, 32, 32))
    data = (tmp_path / "v.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 12),
    height=st.integers(1, 40).map(lambda n: 2 * n),
    width=st.integers(1, 40).map(lambda n: 2 * n),
    fps=st.one_of(st.integers(1, 240), st.sampled_from([12.5, 23.976, 24000 / 1001, 30000 / 1001])),
)
def test_every_even_size_count_and_rate_comes_back(
    tmp_path: Path, count: int, height: int, width: int, fps: float
) -> None:
    path = tmp_path / "v.mp4"
    write_mp4(path, waves(count, height, width), fps)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (width, height, count)
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-6)
        assert float(stream.duration * stream.time_base) == pytest.approx(count / fps, abs=1.5e-3)  # mp4's ms
        times = [frame.time for frame in container.decode(stream)]
    assert times == pytest.approx([index / fps for index in range(count)], abs=1e-3)
    frames, rate, _ = read_mp4(path)
    assert frames.shape == (count, height, width, 3)
    assert frames.dtype == np.uint8
    assert rate == pytest.approx(fps, rel=1e-6)


def test_sixteen_frames_per_second_is_the_default_and_exact(tmp_path: Path) -> None:
    write_mp4(tmp_path / "v.mp4", waves(2, 16, 16))
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.streams.video[0].average_rate == Fraction(16)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metadata=st.dictionaries(st.text(max_size=20), st.text(st.characters(codec="utf-8"), max_size=200)))
def test_metadata_of_any_keys_and_texts_comes_back(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "v.mp4"
    write_mp4(path, torch.zeros(1, 16, 16, 3), metadata=metadata)
    back = read_mp4(path)[2]
    if metadata:
        assert back == metadata
        assert describe(path).metadata == metadata
    else:
        assert "title" not in back
        assert "comment" not in back


def test_a_prompt_of_five_thousand_words_comes_back_whole(tmp_path: Path) -> None:
    metadata = {"prompt": "a sentence, 你好, wörd\n" * 5000, "seed": "3"}
    write_mp4(tmp_path / "v.mp4", torch.zeros(1, 16, 16, 3), metadata=metadata)
    assert read_mp4(tmp_path / "v.mp4")[2] == metadata


def test_players_show_the_prompt_as_the_title_and_the_settings_as_the_comment(tmp_path: Path) -> None:
    write_mp4(
        tmp_path / "v.mp4", torch.zeros(1, 16, 16, 3), metadata={"prompt": "A person\n smiles", "seed": "3"}
    )
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.metadata["title"] == "A person smiles"
        assert container.metadata["comment"] == '{"prompt": "A person\\n smiles", "seed": "3"}'


def test_a_title_is_one_line_that_a_player_can_show(tmp_path: Path) -> None:
    write_mp4(tmp_path / "v.mp4", torch.zeros(1, 16, 16, 3), metadata={"prompt": "word\n" * 5000})
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.metadata["title"].startswith("word word")
        assert len(container.metadata["title"]) <= 250


def test_metadata_of_somebody_else_s_video_is_given_as_it_is(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        container.metadata.update(title="Holiday", comment="at the sea")
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    metadata = read_mp4(tmp_path / "v.mp4")[2]
    assert (metadata["title"], metadata["comment"]) == ("Holiday", "at the sea")


def test_floats_bytes_arrays_and_tensors_make_the_same_video(tmp_path: Path) -> None:
    floats = (waves(3, 32, 48) * 255).round() / 255
    videos = []
    for number, frames in enumerate(
        (floats, floats.numpy(), floats.double(), (floats * 255).round().byte(), to_uint8(floats))
    ):
        write_mp4(tmp_path / f"{number}.mp4", frames)
        videos.append(decoded_yuv(tmp_path / f"{number}.mp4")[0])
    assert all(np.array_equal(video, videos[0]) for video in videos[1:])


def test_values_outside_zero_to_one_are_clamped() -> None:
    picture = torch.tensor([-1.0, -0.001, 0.0, 0.5, 1.0, 1.001, 7.0]).view(1, 7, 1)
    assert to_uint8(picture).ravel().tolist() == [0, 0, 0, 128, 255, 255, 255]
    assert to_uint8(picture.bfloat16()).ravel().tolist() == [0, 0, 0, 128, 255, 255, 255]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_frame_with_nan_is_named_and_no_black_file_is_written(tmp_path: Path, bad: float) -> None:
    frames = waves(5, 32, 32)
    frames[3, 10, 10, 1] = bad
    with pytest.raises(InvalidRequest, match=r"frame 3 holds NaN .* bfloat16 or float32"):
        write_mp4(tmp_path / "v.mp4", frames)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 31, 32, 3), "even width and height, not 32 x 31"),
        ((2, 32, 481, 3), "not 481 x 32"),
        ((2, 0, 32, 3), "not 32 x 0"),
        ((0, 32, 32, 3), "at least one"),
        ((32, 32, 3), r"frames must have shape \[frames, height, width, 3\]"),
        ((2, 32, 32, 4), r"\[2, 32, 32, 4\]"),
    ],
)
def test_frames_that_are_no_video_are_refused(tmp_path: Path, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        write_mp4(tmp_path / "v.mp4", torch.zeros(shape))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fps", [0, -16, 0.5, 241, float("nan"), float("inf")])
def test_a_rate_that_no_player_shows_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(InvalidRequest, match="frames per second must be from 1 to 240"):
        write_mp4(tmp_path / "v.mp4", torch.zeros(1, 16, 16, 3), fps)
    assert os.listdir(tmp_path) == []


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_mp4(tmp_path / "v.mp4", waves(4, 16, 16), on_frame=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("last", [1, 10, 30])
@pytest.mark.parametrize("interruption", [Cancelled, KeyboardInterrupt])
def test_cancelled_half_way_leaves_nothing_and_keeps_the_older_file(
    tmp_path: Path, last: int, interruption: type[BaseException]
) -> None:
    def cancel(done: int, total: int) -> None:
        if done == last:
            raise interruption

    (tmp_path / "older.mp4").write_bytes(b"older")
    for name in ("new.mp4", "older.mp4"):
        with pytest.raises(interruption):
            write_mp4(tmp_path / name, waves(30, 64, 64), on_frame=cancel)
    assert os.listdir(tmp_path) == ["older.mp4"]
    assert (tmp_path / "older.mp4").read_bytes() == b"older"


DISK_FULL = """
import resource, sys
import torch
from echovideo_model.errors import InvalidRequest
from echovideo_model.video import write_mp4

frames = torch.rand(8, 64, 64, 3, generator=torch.Generator().manual_seed(0))
write_mp4("whole.mp4", frames)
size = __import__("os").path.getsize("whole.mp4")
for limit in (0, 1, 2_000, size // 2, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_mp4("cut.mp4", frames)
    except InvalidRequest as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX limits")
def test_running_out_of_space_at_any_byte_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", DISK_FULL], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr
    assert (
        run.stdout.splitlines()
        == ['cannot write "cut.mp4": the file exceeds the size limit; choose a folder on another disk'] * 5
    )
    assert os.listdir(tmp_path) == ["whole.mp4"]


def test_frames_are_read_one_by_one(tmp_path: Path) -> None:
    write_mp4(tmp_path / "v.mp4", waves(20, 32, 32))
    frames = iter_frames(tmp_path / "v.mp4")
    first = next(frames)
    assert first.shape == (32, 32, 3)
    assert np.array_equal(first, read_mp4(tmp_path / "v.mp4")[0][0])
    frames.close()  # leaving early is fine
    assert describe(tmp_path / "v.mp4")[:2] == (20, 16.0)


def test_a_file_that_is_not_a_video_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "text.txt").write_text("hello\n" * 100, encoding="utf-8")
    (tmp_path / "text.mp4").write_text("hello\n" * 100, encoding="utf-8")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "random.mp4").write_bytes(np.random.default_rng(0).bytes(10_000))
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    for name in ("text.txt", "text.mp4", "empty.mp4", "random.mp4", "photo.png", "missing.mp4", "."):
        for read in (read_mp4, describe, lambda path: next(iter_frames(path))):
            with pytest.raises(
                InvalidRequest, match=r"cannot read .* as a video: .*; give a complete video file"
            ):
                read(tmp_path / name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8))
def test_a_damaged_video_is_refused_or_read_never_a_crash(
    tmp_path: Path, cut: float, flips: list[tuple[float, int]]
) -> None:
    whole, damaged = tmp_path / "whole.mp4", tmp_path / "damaged.mp4"
    if not whole.exists():
        write_mp4(whole, waves(4, 32, 32), metadata={"prompt": "a person"})
    data = bytearray(whole.read_bytes())
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    damaged.write_bytes(data[: int(cut * len(data))])
    try:
        frames, _, _ = read_mp4(damaged)
    except InvalidRequest:
        return
    assert frames.ndim == 4
    assert frames.dtype == np.uint8


def test_a_video_that_ends_early_is_said_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = torch.rand(12, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    write_mp4(tmp_path / "v.mp4", frames)
    data = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "v.mp4").write_bytes(data[: len(data) // 2])
    try:
        list(iter_frames(tmp_path / "v.mp4"))
    except InvalidRequest:
        refused = True  # FFmpeg 6 says so; FFmpeg 8 just ends
    else:
        refused = False
    assert refused or "of 12 frames could be read" in caplog.text


CORNERS = np.zeros((48, 64, 3), np.uint8)  # no two corners alike
CORNERS[:24, :32], CORNERS[:24, 32:], CORNERS[24:, :32] = (220, 40, 40), (40, 220, 40), (40, 40, 220)
# What players show of a picture by the matrix of its track: ISO/IEC 14496-12, 8.3.2; a, b, c, d
SHOWN = {
    (1, 0, 0, 1): lambda picture: picture,
    (0, 1, -1, 0): lambda picture: np.rot90(picture, -1),  # a quarter clockwise, as phones film upright
    (-1, 0, 0, -1): lambda picture: np.rot90(picture, 2),
    (0, -1, 1, 0): lambda picture: np.rot90(picture, 1),
    (-1, 0, 0, 1): lambda picture: picture[:, ::-1],
    (1, 0, 0, -1): lambda picture: picture[::-1],
    (0, 1, 1, 0): lambda picture: picture.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda picture: np.rot90(picture, 2).transpose(1, 0, 2),
}


def film(path: Path, matrix: tuple[int, ...] = (1, 0, 0, 1), pixel_aspect: Fraction = Fraction(1)) -> None:
    """Two frames of CORNERS, with a display matrix in the track's header and a pixel aspect in the stream."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(CORNERS, format="rgb24")))
        container.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    at = (
        content.index(b"tkhd") + 4 + 4 + 20 + 16
    )  # version 0: 20 bytes of times and numbers, 16 of layer and volume
    assert content[at : at + 36] == struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    a, b, c, d = (65536 * value for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize("matrix", SHOWN)
def test_a_video_is_read_turned_and_mirrored_as_players_show_it(
    matrix: tuple[int, ...], tmp_path: Path
) -> None:
    film(tmp_path / "phone.mp4", matrix)
    for frame in (next(iter_frames(tmp_path / "phone.mp4")), read_mp4(tmp_path / "phone.mp4")[0][1]):
        expected = SHOWN[matrix](CORNERS)
        assert frame.shape == expected.shape
        assert frame.flags.c_contiguous
        assert np.median(np.abs(frame.astype(int) - expected)) <= 4


@pytest.mark.parametrize(
    ("aspect", "size"),
    [((2, 1), (128, 48)), ((16, 15), (68, 48)), ((1, 2), (64, 96)), ((1000, 1), (64, 48))],
)
def test_pixels_that_are_not_square_are_made_so(
    aspect: tuple[int, int], size: tuple[int, int], tmp_path: Path
) -> None:
    film(tmp_path / "wide.mp4", pixel_aspect=Fraction(*aspect))
    frame = next(iter_frames(tmp_path / "wide.mp4"))
    assert frame.shape == (size[1], size[0], 3)
    assert np.abs(frame[size[1] // 4, size[0] // 4].astype(int) - CORNERS[0, 0]).max() <= 8


def test_pixels_are_made_square_before_the_picture_is_turned(tmp_path: Path) -> None:
    film(tmp_path / "both.mp4", (0, 1, -1, 0), Fraction(2))
    assert next(iter_frames(tmp_path / "both.mp4")).shape == (128, 48, 3)
