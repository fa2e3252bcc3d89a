"""Videos in and out: H.264 in mp4 with the right colours, and with what made the video in its metadata.

mp4 keeps only the tags that it knows. So `title`, which players show, holds the prompt, and `comment` holds everything
as one JSON object, which may have any keys.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import DependencyMissing, InvalidRequest
from .files import write_atomically
from .limits import FPS, MAX_FPS, MIN_FPS
from .provenance import TRAINED, describe_origin, tag_mp4

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

_LONGEST_TITLE = 250  # characters; the whole prompt is in the comment
MAX_PIXEL_ASPECT = 8  # of width to height; anything more is taken for damage
_BT709 = 1  # ISO/IEC 23091-2: primaries, transfer and matrix share the number
_LIMITED_RANGE = 1  # FFmpeg's AVCOL_RANGE_MPEG: luma 16..235


class VideoInfo(NamedTuple):
    """What a video file says about itself; `frames` is 0 where it does not say."""

    frames: int
    fps: float
    metadata: dict[str, str]


def write_mp4(
    path: str | os.PathLike[str],
    frames: Tensor | np.ndarray,
    fps: float = FPS,
    metadata: Mapping[str, str] | None = None,
    on_frame: Callable[[int, int], None] | None = None,
    ai_tag: bool = True,
) -> None:
    """Writes frames [F, H, W, 3], float in 0..1 (clamped) or uint8, as H.264 yuv420p (BT.709, crf 18) in mp4.

    H and W are even; fps is 1..240. `metadata` comes back from `read_mp4` as it is; its "prompt" becomes the
    title. `on_frame(done, total)` is called after each frame; what it raises cancels and leaves no file. `ai_tag`: the
    file says that AI made it (provenance.py), in its description and as XMP.
    Raises InvalidRequest for another shape, an odd size, NaN (the frame is named) and a path that cannot be
    written; DependencyMissing without PyAV or its H.264 encoder.
    """
    av = _import_av()
    total, height, width = _size(frames)
    rate = parse_frame_rate(fps)
    with write_atomically(path) as temporary:
        # faststart moves the index to the front, so that browsers play before the whole file is there
        options = {"movflags": "faststart"}
        with av.open(
            str(temporary), "w", format="mp4", options=options, **_metadata_options(av)
        ) as container:
            container.metadata.update(_tags(metadata or {}))
            if ai_tag:
                container.metadata["description"] = describe_origin(TRAINED)
            stream = _h264_stream(av, container, rate, height, width)
            for index in range(total):
                container.mux(stream.encode(_to_yuv(av, frames[index], index, rate)))
                if on_frame is not None:
                    on_frame(index + 1, total)
            container.mux(stream.encode(None))
        if ai_tag:
            tag_mp4(temporary)


def iter_frames(path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
    """The frames of a video one by one as players show them, uint8 RGB [H, W, 3]; only one is held at a time.

    They are turned and mirrored as the file says (phones film on their side), and pixels that are not square are made
    so: the picture is stretched, never shrunk.

    Raises InvalidRequest, at the first frame, for a file that is not a video, and later where it is damaged.
    A file that ends early without an error is logged as a warning.
    """
    with _open(path) as (container, stream):
        to_rgb, count = _rgb_converter(stream), 0
        for frame in container.decode(stream):
            count += 1
            yield _turn(to_rgb(frame), frame)
        if count == 0:
            raise _refuse(path, "no frame can be decoded")
        if count < stream.frames:
            logger.warning(
                "%s: only %d of %d frames could be read; the file may be truncated",
                path,
                count,
                stream.frames,
            )


def describe(path: str | os.PathLike[str] | BinaryIO) -> VideoInfo:
    """Frame count, frame rate and metadata of a path or an open file, without decoding.

    Raises InvalidRequest if it is not a video."""
    with _open(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        return VideoInfo(stream.frames, float(rate), _metadata(container.metadata))


def is_whole(file: BinaryIO, size: int) -> bool:
    """Whether the boxes of an mp4 (ISO/IEC 14496-12, 4.2) end where the file of `size` bytes does: a file that was cut
    short, whose beginning still tells all that `describe` reads, has lost the end of one."""
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(16)
        length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if length < 8:
            return False
        start += length
    return start == size > 0


def read_mp4(path: str | os.PathLike[str]) -> tuple[np.ndarray, float, dict[str, str]]:
    """All frames uint8 RGB [F, H, W, 3], frames per second and metadata. Raises InvalidRequest as iter_frames."""
    info = describe(path)
    return np.stack(list(iter_frames(path))), info.fps, info.metadata


def to_uint8(frame: Tensor | np.ndarray, name: str = "the picture") -> np.ndarray:
    """A picture [H, W, 3], float in 0..1 (clamped) or uint8, as a contiguous uint8 array of the same shape.

    Raises InvalidRequest, with `name`, if a value is NaN or infinite, instead of writing a black picture.
    """
    pixels = torch.as_tensor(frame).detach().cpu()
    if pixels.dtype != torch.uint8:
        pixels = pixels.float()
        if not torch.isfinite(pixels).all():
            raise InvalidRequest(
                f"{name} holds NaN or infinite values; use bfloat16 or float32 instead of float16, "
                "and check the model files"
            )
        pixels = pixels.clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.numpy())


def _import_av() -> ModuleType:
    try:
        import av
        import av.error
        import av.filter
    except ImportError as error:
        raise DependencyMissing('videos need PyAV: pip install "av>=12.3"') from error
    return av


def _size(frames: Tensor | np.ndarray) -> tuple[int, int, int]:
    shape = tuple(frames.shape)
    if len(shape) != 4 or shape[3] != 3 or shape[0] == 0:
        raise InvalidRequest(
            f"frames must have shape [frames, height, width, 3], with at least one frame, not {list(shape)}"
        )
    total, height, width, _ = shape
    if height % 2 or width % 2 or not height or not width:
        raise InvalidRequest(f"frames must have an even width and height, not {width} x {height}")
    return total, height, width


def parse_frame_rate(fps: float) -> Fraction:
    """`fps` as a video file keeps it. Raises InvalidRequest outside 1..240."""
    if not (math.isfinite(fps) and MIN_FPS <= fps <= MAX_FPS):
        raise InvalidRequest(f"frames per second must be from {MIN_FPS} to {MAX_FPS}, not {fps}")
    return Fraction(fps).limit_denominator(1001)  # 30000/1001 and the like stay exact


def _h264_stream(av: ModuleType, container: Any, rate: Fraction, height: int, width: int) -> VideoStream:
    # By default x264's output depends on the CPU; cpu-independent gives the same file everywhere.
    options = {"crf": "18", "preset": "medium", "x264-params": "cpu-independent=1"}
    try:
        stream = container.add_stream("libx264", rate=rate, options=options)
    except ValueError as error:
        raise DependencyMissing(
            'this PyAV has no H.264 encoder: pip install --force-reinstall --only-binary av "av>=12.3"'
        ) from error
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED_RANGE
    return stream


def _to_yuv(av: ModuleType, frame: Tensor | np.ndarray, index: int, rate: Fraction) -> Any:
    # Every colour argument is given: the defaults differ between versions, and none of them is BT.709.
    picture = av.VideoFrame.from_ndarray(to_uint8(frame, f"frame {index}"), format="rgb24").reformat(
        format="yuv420p",
        src_colorspace="ITU709",
        dst_colorspace="ITU709",
        src_color_range="JPEG",
        dst_color_range="MPEG",
    )
    picture.pts, picture.time_base = index, 1 / rate
    return picture


def _tags(metadata: Mapping[str, str]) -> dict[str, str]:
    if not metadata:
        return {}
    comment = {"comment": json.dumps(dict(metadata), ensure_ascii=False)}
    title = " ".join(metadata.get("prompt", "").split())[:_LONGEST_TITLE]
    return {"title": title, **comment} if title else comment


def _metadata(tags: Mapping[str, str]) -> dict[str, str]:
    """The metadata that `_tags` wrote; the plain tags of a video that another program wrote."""
    try:
        ours = json.loads(tags.get("comment", ""))
    except ValueError:
        ours = None
    return {key: str(value) for key, value in ours.items()} if isinstance(ours, dict) else dict(tags)


def _metadata_options(av: Any) -> dict[str, str]:
    """Keeps PyAV from failing on metadata that is not UTF-8. From release 19 on it does not fail, and the option is
    gone."""
    return {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


@contextmanager
def _open(path: str | os.PathLike[str] | BinaryIO) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open container and its first video stream; what cannot be opened or decoded is InvalidRequest."""
    av = _import_av()
    try:
        source = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        with av.open(source, **_metadata_options(av)) as container:
            kind = (
                container.format.name
            )  # FFmpeg takes a text file for a terminal's picture, and a photo for a video
            if not container.streams.video or kind in ("tty", "image2") or kind.endswith("_pipe"):
                raise _refuse(path, f"its format is {kind}")
            stream = container.streams.video[0]
            if stream.codec_context is None or stream.codec_context.format is None:
                raise _refuse(path, "its frames are damaged or in an unknown format")
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.FFmpegError as error:
        raise _refuse(path, error.strerror.lower()) from error


def _refuse(path: str | os.PathLike[str] | BinaryIO, reason: str) -> InvalidRequest:
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else getattr(path, "name", "the file")
    return InvalidRequest(f'cannot read "{name}" as a video: {reason}; give a complete video file')


def _rgb_converter(stream: VideoStream) -> Callable[[Any], np.ndarray]:
    """Decoded frame -> uint8 RGB [H, W, 3], by the colour flags that the frame carries.

    swscale's shortest way from YUV to RGB truncates and loses a level on average: these flags round.
    """
    av = _import_av()
    graph = av.filter.Graph()
    width, height = _square_pixels(stream)
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add("scale", f"{width}:{height}:flags=accurate_rnd+full_chroma_int+bilinear"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    ).configure()

    def convert(frame: Any) -> np.ndarray:
        graph.push(frame)
        return graph.pull().to_ndarray()

    return convert


def _square_pixels(stream: VideoStream) -> tuple[int, int]:
    """Width and height of the stream's pictures once their pixels are square."""
    aspect = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
    if not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
        return stream.width, stream.height
    return round(stream.width * max(aspect, 1.0)), round(stream.height / min(aspect, 1.0))


def _turn(picture: np.ndarray, frame: Any) -> np.ndarray:
    """`picture` [H, W, 3] as the frame's display matrix says (ISO/IEC 14496-12, 8.3.2), to the nearest quarter turn.

    The matrix leads x, y to a x + c y, b x + d y; its numbers are (a, b, u), (c, d, v), (x, y, w).
    """
    matrices = [side for side in frame.side_data if side.type.name == "DISPLAYMATRIX"]
    if not matrices:
        return picture
    (a, b), (c, d) = np.frombuffer(bytes(matrices[0]), np.int32).reshape(3, 3)[:2, :2].tolist()
    if abs(b) > abs(a):
        picture, a, d = picture.transpose(1, 0, 2), c, b  # [W, H, 3]
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
