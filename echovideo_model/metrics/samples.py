"""Which videos to measure, and what each should show: from the videos' metadata or from a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InvalidRequest
from ..files import expand_user, hash_file
from ..video import describe, iter_frames

MAX_VIDEO_BYTES = 2**32  # of decoded frames: 10,000 of 480 x 304, 3,500 of 480 x 848
_COLUMNS = ("video", "photo", "prompt")
_OF_SETTINGS = (
    "seed",
    "steps",
    "sampler",
    "guidance",
    "guidance_scale",
    "strength",
    "face_latent",
    "software",
)


@dataclass(frozen=True)
class Sample:
    """A video and what it should show; `fault` says why it cannot be measured at all."""

    video: Path
    photo: Path | None = None  # of the person, or an identity (.safetensors)
    prompt: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    fault: str = ""


def describe_photo(photo: Path, video: Path) -> dict[str, str]:
    """The photo in a video's metadata: its path from the video's folder, and its sha256."""
    try:
        way = os.path.relpath(photo, video.parent)
    except ValueError:  # on another disk of Windows
        way = photo.name
    return {"photo": Path(way).as_posix(), "photo_sha256": hash_file(photo)}


def read_samples(results: Sequence[Path], photo: Path | None = None) -> list[Sample]:
    """The samples of videos and of tables (.jsonl), in order; `photo` is that of every video that names none.

    Nothing that is wrong with one of them is lost: it is the sample's `fault`. Raises InvalidRequest for a table that
    cannot be read, and for no samples.
    """
    samples = [
        sample
        for path in results
        for sample in (_rows(path, photo) if path.suffix.lower() == ".jsonl" else [_describe(path, photo)])
    ]
    if not samples:
        raise InvalidRequest("nothing to measure: give videos, or a table (.jsonl) with rows")
    return samples


def _describe(video: Path, photo: Path | None) -> Sample:
    """What one of our videos says about itself; other videos only have their pictures."""
    try:
        metadata = describe(video).metadata
    except InvalidRequest as error:
        return Sample(video, photo, fault=str(error))
    settings = {name: metadata[name] for name in _OF_SETTINGS if name in metadata}
    own = metadata.get("photo")
    if photo is None and own:
        photo = video.parent / own
        if not photo.is_file():
            settings["note"] = f"its photo was not found at {photo}"
            photo = None
        elif metadata.get("photo_sha256") not in (None, hash_file(photo)):
            settings["note"] = f"{photo} has changed since the video was made"
            photo = None
    return Sample(video, photo, metadata.get("prompt", ""), settings)


def _rows(table: Path, photo: Path | None) -> Iterator[Sample]:
    try:
        lines = table.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"the table {table} cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _row(table, number, line, photo)


def _row(table: Path, number: int, line: str, photo: Path | None) -> Sample:
    where = f"line {number} of {table.name}"
    try:
        row = json.loads(line)
    except ValueError as error:
        return Sample(table, fault=f"{where} is not JSON ({error})")
    if not isinstance(row, dict) or not isinstance(row.get("video"), str):
        return Sample(table, fault=f'{where} is not an object with a "video"')
    video = table.parent / expand_user(row["video"])
    if strange := [name for name in row if name not in _COLUMNS]:
        return Sample(video, fault=f'{where} has "{strange[0]}": the columns are {", ".join(_COLUMNS)}')
    if wrong := [name for name in _COLUMNS if not isinstance(row.get(name) or "", str)]:
        return Sample(video, fault=f'{where}: "{wrong[0]}" must be text')
    own = table.parent / expand_user(row["photo"]) if row.get("photo") else photo
    return Sample(video, own, row.get("prompt") or "")


def read_frames(video: Path) -> tuple[list[np.ndarray], float]:
    """All frames, each uint8 RGB [H, W, 3], and frames per second. Raises InvalidRequest, also for a video that is
    larger than MAX_VIDEO_BYTES."""
    frames: list[np.ndarray] = []
    size = 0
    for frame in iter_frames(video):
        size += frame.nbytes
        if size > MAX_VIDEO_BYTES:
            raise InvalidRequest(
                f"{video} needs more than {MAX_VIDEO_BYTES >> 30} GiB of memory: split it into shorter videos"
            )
        frames.append(frame)
    return frames, describe(video).fps
