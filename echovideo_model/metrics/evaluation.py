"""Measures many videos one after another: recalls earlier results, and records why one failed in its row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..errors import EchoVideoError, InvalidRequest
from ..face.photo import load_photo
from ..files import hash_file
from ..progress import OnProgress, ignore_progress
from ..video import iter_frames
from .definitions import VERSION, Metric
from .frames import spread
from .measure import Clip, Judges, Measured
from .memory import Memory, make_key
from .realism import frechet_distance
from .report import Row
from .samples import Sample, read_frames

MIN_FID_FRAMES = 2048  # with fewer pictures than features, FID is biased
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")


class Person(NamedTuple):
    """The person a video should show: a photo (uint8 RGB [H, W, 3]), or antelopev2's embedding [512] and the name
    of the face encoders that made it, or nobody."""

    photo: np.ndarray | None = None
    embedding: np.ndarray | None = None
    encoders: str = ""


LoadPerson = Callable[[Path], Person]


def measure(
    sample: Sample,
    metrics: Sequence[Metric],
    judges: Judges,
    memory: Memory,
    load_person: LoadPerson,
    on_progress: OnProgress = ignore_progress,
) -> Row:
    """The row of a video. Problems with the video or a judge are not raised: they become a reason in the row."""
    row = Row(sample, fault=sample.fault)
    if row.fault:
        return row
    try:
        video, person = hash_file(sample.video), hash_file(sample.photo) if sample.photo else ""
    except OSError as error:
        row.fault = f"{error.filename} cannot be read: {error.strerror}"
        return row
    keys = {metric: make_key(metric, video, person, sample.prompt, judges) for metric in metrics}
    found = {metric: known for metric, key in keys.items() if (known := memory.recall(key)) is not None}
    for metric in metrics:
        if metric not in found and (reason := judges.lacking(metric.judges)):
            found[metric] = Measured(None, reason)  # not kept: the cause may be fixed
    about = memory.recall(f"about {video}")
    if about is None or len(found) < len(metrics):
        try:
            clip = _clip(sample, judges, load_person, on_progress)
        except EchoVideoError as error:
            row.fault = str(error)
            return row
        about = Measured(clip.fps, frames=(len(clip.frames), *clip.frames[0].shape[:2]))
        memory.keep(f"about {video}", about)
        for metric in metrics:
            if metric not in found:
                found[metric] = measure_one(metric, clip)
                memory.keep(keys[metric], found[metric])
    row.fps, (row.frames, row.height, row.width) = about.value or 0.0, about.frames
    row.measured = {metric.name: found[metric] for metric in metrics}
    return row


def _clip(sample: Sample, judges: Judges, load_person: LoadPerson, on_progress: OnProgress) -> Clip:
    """Raises InvalidRequest for a video that cannot be read; an unreadable photo becomes the clip's `no_person`."""
    frames, fps = read_frames(sample.video)
    clip = Clip(frames, fps, judges, sample.prompt, on_progress=on_progress)
    if sample.photo is not None:
        try:
            clip.photo, clip.embedding, clip.encoders = load_person(sample.photo)
        except EchoVideoError as error:
            clip.no_person = str(error)
    return clip


def measure_one(metric: Metric, clip: Clip) -> Measured:
    """The number or, if there is none, the reason in the video."""
    try:
        return metric.measure(clip)
    except EchoVideoError as error:
        return Measured(None, str(error))


def measure_fid(
    rows: Sequence[Row],
    against: Path,
    judges: Judges,
    memory: Memory,
    on_progress: OnProgress = ignore_progress,
) -> Measured:
    """FID between the videos and what is in a folder: 16 frames of each video, and every picture.

    Raises InvalidRequest for a folder without either.
    """
    others = sorted(path for path in against.rglob("*") if path.suffix.lower() in (*_PICTURES, *_VIDEOS))
    if not others:
        raise InvalidRequest(f"no videos or pictures in {against} to measure FID against")
    ours = [row.sample.video for row in rows if not row.fault]
    judged = [(path.name, path.stat().st_size) for path in judges.files("fid_inception")]
    told = json.dumps(
        [VERSION, "fid", [hash_file(path) for path in ours], [hash_file(path) for path in others], judged]
    )
    key = hashlib.sha256(told.encode()).hexdigest()[:32]
    if (known := memory.recall(key)) is not None:
        return known
    try:
        inception = judges.get("fid_inception")
        total = len(ours) + len(others)
        features = [
            torch.stack([inception(frame) for frame in _list_pictures(paths, start, total, on_progress)])
            for paths, start in ((ours, 0), (others, len(ours)))
        ]
        value = frechet_distance(*features)
    except EchoVideoError as error:
        return Measured(None, str(error))
    counts = [len(one) for one in features]
    bias = (
        f"; with fewer than {MIN_FID_FRAMES} of each it is biased upwards"
        if min(counts) < MIN_FID_FRAMES
        else ""
    )
    measured = Measured(value, f"{counts[0]} of our frames against {counts[1]} from {against}{bias}")
    memory.keep(key, measured)
    return measured


def _list_pictures(
    paths: Sequence[Path], start: int, total: int, on_progress: OnProgress
) -> Iterator[np.ndarray]:
    """16 frames of each video, and each picture."""
    for number, path in enumerate(paths, start=start + 1):
        if path.suffix.lower() in _PICTURES:
            yield load_photo(path)
        else:
            count = sum(1 for _ in iter_frames(path))
            wanted = set(spread(count))
            yield from (frame for index, frame in enumerate(iter_frames(path)) if index in wanted)
        on_progress("FID", number, total, "files")
